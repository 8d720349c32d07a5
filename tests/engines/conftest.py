"""Tunix, where it is installed, with one cache of what has been compiled."""

import importlib.util
import os
import signal
import warnings

import pytest

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
