"""Checkpoints of Tunix's trainer: Orbax's folders within one of ours, which appears whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

from orbax.checkpoint import CheckpointManagerOptions
from tunix.sft.checkpoint_manager import CheckpointManager

from latent_gemma.files import PARTIAL, publish_folder
from latent_gemma.training.checkpoints import PREFIX, rotate, write_manifest
from latent_gemma.training.states import read_state, write_state

#: So many are kept, as of Trainer's.
KEPT = 2


def _manager(folder: Path) -> CheckpointManager:
    """Tunix's manager of one folder; Orbax takes absolute paths alone."""
    return CheckpointManager(str(folder.resolve()), CheckpointManagerOptions(enable_async_checkpointing=False))


def save_checkpoint(run: Path, step: int, trainer: Any, adapted: bool, progress: dict[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        run: the run folder.
        step: optimiser steps done.
        trainer: Tunix's trainer, whose weights and optimiser are kept.
        adapted: keep the weights of the adapter alone.
        progress: what a run has to know beside them, as `write_state` takes it.
    """
    home = run / "checkpoints"
    partial = home / f".{PREFIX}{step}{PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        manager = _manager(partial / "orbax")
        manager.save(step, trainer.model, trainer.optimizer, save_only_lora_params=adapted, force=True)
        manager.close()
        write_state(partial / "progress", progress)
        write_manifest(partial)
        publish_folder(partial, home / f"{PREFIX}{step}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    rotate(home, KEPT)


def read_checkpoint(checkpoint: Path, trainer: Any, adapted: bool) -> tuple[int, dict[str, Any]]:
    """Set a trainer to what `save_checkpoint` kept.

    Args:
        checkpoint: its folder.
        trainer: see there.
        adapted: see there.

    Returns:
        Optimiser steps done, and the progress.
    """
    manager = _manager(checkpoint / "orbax")
    step, _ = manager.maybe_restore(trainer.model, trainer.optimizer, restore_only_lora_params=adapted)
    manager.close()
    return step, read_state(checkpoint / "progress")
