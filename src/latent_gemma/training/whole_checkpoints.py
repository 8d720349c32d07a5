"""Checkpoints that appear whole or not at all, and from which a run goes on as if it had never stopped."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME

from latent_gemma.errors import RunError
from latent_gemma.files import PARTIAL, publish_folder
from latent_gemma.model.gemma import is_latent_parameter
from latent_gemma.text.columns import spoken_bytes
from latent_gemma.training.checkpoints import PREFIX, SCORE, last_checkpoint, list_checkpoints, rotate, write_manifest
from latent_gemma.training.states import random_state, read_state, set_random_state, write_state


def bytes_of(weight: Tensor) -> int:
    """Memory of a tensor."""
    return weight.numel() * weight.element_size()


def _free_bytes(folder: Path) -> int:
    absolute = folder.absolute()
    return shutil.disk_usage(next(path for path in (absolute, *absolute.parents) if path.exists())).free


def cannot_save(what: str, folder: Path, need: int, error: Exception, after: str) -> RunError:
    """The error of a save that failed, mostly for want of room.

    Args:
        what: what was being saved.
        folder: where.
        need: bytes it takes.
        error: what was raised.
        after: what can be done once there is room.

    Returns:
        An error that says how much is needed and how much is free.
    """
    free = _free_bytes(folder)
    return RunError(
        f"{what} cannot be saved in {folder} ({getattr(error, 'strerror', None) or error}): it needs "
        f"{need / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB are free",
        f"make room; {after}",
    )


class WholeCheckpoints(Trainer):
    """A trainer that saves all of its state, whole or not at all; stands before TRL's trainers among the base classes.

    A checkpoint is written in a folder beside its place; then come sync, manifest and the new name. The main process
    writes, and every process its own random state and progress.
    """

    _partial: str | None = None
    _resumed: dict[str, Any] | None = None

    def progress(self) -> dict[str, Any]:
        """What a run has to know to go on, beyond weights, optimiser, scheduler and random states."""
        return {
            "loss": self._tr_loss.item(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Go on from what `progress` returned."""
        self._tr_loss.fill_(progress["loss"])
        self._total_loss_scalar = progress["total_loss"]
        self._globalstep_last_logged = progress["last_logged"]

    def score(self) -> dict[str, Any]:
        """How good the model is as it is now, of what kind "kind" is; the less "value", the better."""
        logged = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        behind = max(1, self.state.global_step - self._globalstep_last_logged)
        return {"kind": "training loss", "value": logged[-1] if logged else self._tr_loss.item() / behind}

    def begin(self) -> None:
        """Restore the progress of the checkpoint that training goes on from; called when training begins."""
        if self._resumed is not None:
            self.restore(self._resumed)
            self._resumed = None

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Trainer's log entry, its mean loss over the whole run and not over the last session."""
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(1, self.state.global_step)
        super().log(logs, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # A run that was killed behind its last step has nothing left to train; Trainer would take another step.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        return self._partial or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        writes, name = self.args.should_save, f"{PREFIX}{self.state.global_step}"
        home = Path(super()._get_output_dir(trial))
        partial = home / f".{name}{PARTIAL}"
        if writes:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._partial = str(partial)
        try:
            super()._save_checkpoint(model, trial)
            write_state(partial / name / f"progress-{self.args.process_index}", self.progress())
            self.accelerator.wait_for_everyone()
            score = json.dumps(self.score())
            if writes:
                (partial / name / SCORE).write_text(score + "\n", encoding="utf-8")
                write_manifest(partial / name)
                publish_folder(partial / name, home / name)
        except (OSError, SafetensorError, RuntimeError) as error:
            # the last is what torch's writer raises, and many other things do
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise
            raise self._unsaved(home, error) from error
        finally:
            self._partial = None
            if writes:
                shutil.rmtree(partial, ignore_errors=True)
        if writes:
            rotate(home, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()

    @property
    def checkpoint_bytes(self) -> int:
        """What a checkpoint takes: the weights that are saved, and two moments of those that train."""
        assert self.model is not None
        trained = sum(bytes_of(weight) for weight in self.model.parameters() if weight.requires_grad)
        adapts = hasattr(self.model, "peft_config")
        return 2 * trained + (trained if adapts else sum(map(bytes_of, self.model.parameters())))

    def check_room(self, run: Path) -> None:
        """Look for room on the disk before a run begins that will save.

        Args:
            run: the run folder.

        Raises:
            RunError: if the last two checkpoints, the best and one that is being written do not fit.
        """
        missing = max(0, 4 - len(list_checkpoints(run))) * self.checkpoint_bytes
        free = _free_bytes(run)
        if missing > free:
            with contextlib.suppress(OSError):  # which an empty folder would keep from being begun again
                (run / "checkpoints").rmdir()
            raise RunError(
                f"checkpoints of {spoken_bytes(self.checkpoint_bytes)} each, four at a time, do not fit into {run}: "
                f"{spoken_bytes(free)} are free",
                "make room, or take --save-every 0, which saves when the run is stopped and at no other time",
            )

    def _unsaved(self, home: Path, error: Exception) -> RunError:
        good, _ = last_checkpoint(home.parent)
        after = f"--resume auto goes on from {good.name}" if good else "there is no earlier checkpoint"
        return cannot_save(f"step {self.state.global_step}", home, self.checkpoint_bytes, error, after)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(str(output_dir or self.args.output_dir))
        # a pickle that nothing here reads
        (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        if beside := self._beside_adapter():
            write_state(folder / "latent", {name: weight.detach() for name, weight in beside.items()})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        beside = self._beside_adapter()
        for name, weight in read_state(Path(resume_from_checkpoint) / "latent").items() if beside else ():
            beside[name].data.copy_(weight)

    def _beside_adapter(self) -> dict[str, Tensor]:
        """What trains beside a PEFT adapter, which is all that PEFT saves: the weights that only thoughts see."""
        assert self.model is not None
        if self.is_sharded or not hasattr(self.model, "peft_config"):
            return {}
        weights = self.model.named_parameters()
        return {name: weight for name, weight in weights if weight.requires_grad and is_latent_parameter(name)}

    @property
    def is_sharded(self) -> bool:
        """Whether a library cuts weights and optimiser in pieces; it then writes and reads them, too."""
        return self.is_deepspeed_enabled or self.is_fsdp_enabled

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_sharded:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            assert self.optimizer is not None
            assert self.lr_scheduler is not None
            write_state(Path(output_dir) / "optimizer", self.optimizer.state_dict())
            write_state(Path(output_dir) / "scheduler", self.lr_scheduler.state_dict())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if self.is_sharded:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            assert self.optimizer is not None
            assert self.lr_scheduler is not None
            self.optimizer.load_state_dict(read_state(Path(checkpoint) / "optimizer"))
            self.lr_scheduler.load_state_dict(read_state(Path(checkpoint) / "scheduler"))
        self._resumed = read_state(Path(checkpoint) / f"progress-{self._index_in(checkpoint)}")

    def _save_rng_state(self, output_dir: str) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        write_state(Path(output_dir) / f"random-{self.args.process_index}", random_state())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            set_random_state(read_state(Path(checkpoint) / f"random-{self._index_in(checkpoint)}"))

    def _index_in(self, checkpoint: str) -> int:
        """Whose states this process goes on with: its own, or the first's where there were fewer processes."""
        index = self.args.process_index
        return index if (Path(checkpoint) / f"random-{index}.json").exists() else 0


class RestoreProgress(TrainerCallback):
    """Restores a trainer's progress when its training begins."""

    def __init__(self, trainer: WholeCheckpoints) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.trainer.begin()
