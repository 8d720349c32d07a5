"""Tunix, where it is installed, with one cache of what has been compiled."""

import importlib.util
import json
import os
import signal
import warnings

import pytest

from latent_gemma.cli import main

needs_tunix = pytest.mark.skipif(importlib.util.find_spec("tunix") is None, reason="Tunix is not installed")


@pytest.fixture(scope="session")
def tunix_sft(tmp_path_factory):
    """The module that trains; what one test has compiled the others read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a dozen libraries, as they are imported
        import jax

        from latent_gemma.engines.tunix import sft
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return sft


@pytest.fixture(scope="session")
def tunix_grpo(tunix_sft):
    """The module that improves by rewards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from latent_gemma.engines.tunix import grpo
    return grpo


@pytest.fixture
def stop_after(tunix_sft, monkeypatch):
    """Have the next run struck by SIGTERM in its step of this number."""
    from latent_gemma.engines.tunix import session

    began, number = session.Stop.step_began, []

    def strike(self):
        began(self)
        number[:] = [left - 1 for left in number]
        if number == [0]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(session.Stop, "step_began", strike)
    return lambda step: number.__setitem__(slice(None), [step])


def stops_in_time_and_goes_on(command, run, capsys, monkeypatch):
    """Carry a command out in two sessions; its record then says what it trained with, and on what."""
    monkeypatch.setattr("latent_gemma.training.clean_stop.LEAST_SAVE_S", 0.0)
    assert main([*command, "--max-hours", "1e-9"]) == 0
    assert "stopped at step 1; the same command with --resume auto goes on" in capsys.readouterr().out
    assert main([*command, "--resume", "auto"]) == 0
    record = json.loads((run / "run.json").read_text())
    assert (record["config"]["train"]["engine"], record["config"]["train"]["mesh"]) == ("tunix", "1,1")
    assert {"jax", "flax", "google-tunix", "torch"} <= record["versions"].keys()
    assert "JAX" in record["machine"]
