"""Tunix, where it is installed, with one cache of what has been compiled."""

import importlib.util
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
