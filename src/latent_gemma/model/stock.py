"""What the installed transformers calls the cache: `cache` from 5.24 on, `past_key_values` before.

The only place that knows. Our own functions say `cache`; a stock forward is called, and its output read, by what stands
here, and our forwards take either name, as users of either version write it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from transformers import Gemma2Model
from transformers.cache_utils import Cache

from latent_gemma.errors import ConfigError

_NAMES = ("cache", "past_key_values")
#: The installed transformers' name, of the argument and of the output's field.
CACHE = next(name for name in _NAMES if name in inspect.signature(Gemma2Model.forward).parameters)


def cache_of(output: Any) -> Cache | None:
    """The cache of a stock output."""
    cache: Cache | None = getattr(output, CACHE)
    return cache


def cache_field(cache: Any) -> dict[str, Any]:
    """A cache as an argument of a stock forward or a field of a stock output."""
    return {CACHE: cache}


def takes_either_name(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method that takes `cache` be called with `past_key_values` too.

    Args:
        forward: the method.

    Returns:
        The method; its signature, which Trainer, `generate` and PEFT read, has the name of the installed transformers.

    Raises:
        ConfigError: from the method, if it is given two caches.
    """

    @functools.wraps(forward)
    def either(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "past_key_values" in kwargs:
            older = kwargs.pop("past_key_values")
            if kwargs.get("cache") is not None and older is not None:
                raise ConfigError("both cache and past_key_values are given", "give one of them")
            if kwargs.get("cache") is None:
                kwargs["cache"] = older
        return forward(self, *args, **kwargs)

    signature = inspect.signature(forward)
    parameters = [part.replace(name=CACHE) if part.name == "cache" else part for part in signature.parameters.values()]
    either.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return either
