"""Which engine trains: torch (Trainer and TRL, on the `training` floor) or Tunix (JAX), siblings with one signature."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from latent_gemma.errors import ConfigError
from latent_gemma.training.fit import fit as fit_with_torch
from latent_gemma.training.run import FitResult
from latent_gemma.training.settings import LoraSettings, TrainSettings


@dataclass(frozen=True)
class Engine:
    """What trains.

    Args:
        fit: as `training.fit.fit`: a torch model that holds the weights, tokenizer, examples, curriculum, settings, run
            folder, title, adapter, whether to resume, the session's start, and what is told of bad rows.
        grpo: the module whose `fit_grpo` improves a model by rewards.
        versions: of what it runs with beside what every installation has.
        machine: what it runs on, in a few words; empty where torch says it.
    """

    fit: Callable[..., FitResult]
    grpo: str
    versions: dict[str, str]
    machine: str

    def fit_grpo(self, *args: Any, **kwargs: Any) -> FitResult:
        """As `engines.trl.fit_grpo.fit_grpo`; what it needs takes seconds to import."""
        return import_module(self.grpo).fit_grpo(*args, **kwargs)


def engine_of(settings: TrainSettings, lora: LoraSettings | None = None) -> Engine:
    """The engine that settings name.

    Args:
        settings: the optimisation.
        lora: the adapter that is to be trained.

    Returns:
        The engine, ready to train.

    Raises:
        ConfigError: if it is not installed as it was run, or mesh or adapter belong to another one.
    """
    if settings.engine == "torch":
        if settings.mesh is not None:
            raise ConfigError(f"--mesh {settings.mesh} with --engine torch", "it is for --engine tunix")
        return Engine(fit_with_torch, "latent_gemma.engines.trl.fit_grpo", {}, "")
    if lora is not None and lora.quantize != "none":
        raise ConfigError(f"--quantize {lora.quantize} with --engine tunix", "leave it out, or take --engine torch")
    from latent_gemma.engines.tunix.requirements import check_installed

    found = check_installed()
    # tens of seconds, and only with the extra
    import jax

    from latent_gemma.engines.tunix import sft

    grpo = "latent_gemma.engines.tunix.grpo"
    return Engine(sft.fit, grpo, found, f"{jax.device_count()} x {jax.devices()[0].device_kind} (JAX)")


def refuse_tunix(settings: TrainSettings, what: str) -> None:
    """Refuse what the torch engine alone trains.

    Args:
        settings: the optimisation.
        what: is to be trained, such as "latent stages".

    Raises:
        ConfigError: if the settings name another engine.
    """
    if settings.engine != "torch":
        raise ConfigError(f"--engine {settings.engine} does not train {what}", "take --engine torch")


def engine_record(config: Any) -> tuple[dict[str, str], str]:
    """Versions and machine that a run's record says beside torch's: those of the engine that it names, if any."""
    settings = getattr(config, "train", config)
    if getattr(settings, "engine", "torch") == "torch":
        return {}, ""
    engine = engine_of(settings)
    return engine.versions, engine.machine
