"""A run of one of Tunix's trainers: between its steps stand the clock, the log and the checkpoints."""

import logging
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
from flax import nnx
from tqdm import tqdm
from tunix.sft.peft_trainer import PeftTrainer

from latent_gemma.engines.tunix.carried import Carried
from latent_gemma.engines.tunix.guarded_steps import GuardedState
from latent_gemma.engines.tunix.mesh import laid_over
from latent_gemma.engines.tunix.orbax_folders import read_checkpoint, save_checkpoint
from latent_gemma.errors import RunError
from latent_gemma.model.prompt import Mode
from latent_gemma.training.clean_stop import Stop
from latent_gemma.training.learning_rate import learning_rates
from latent_gemma.training.out_of_memory import out_of_memory
from latent_gemma.training.run import FULL, FitResult, Run, trainer_arguments
from latent_gemma.training.run_log import RunLog, read_metrics

#: Rows of a run have one length, a multiple of this: every other length would be compiled anew.
LENGTH_STEP = 32
#: The run ends when so many steps in a row had a gradient that is not finite.
MAX_SKIPPED = 5


class Session:
    """What happens between steps; stands where Tunix has its checkpoint manager, which it asks after every batch.

    Args:
        run: the run.
        trainer: Tunix's, with `guarded_adamw`.
        adapted: an adapter trains.
        planned: steps of the whole run.
        a_pass: steps of one pass over the data.
        log: what tells of the run.
    """

    #: Most tokens of a completion, where one is written.
    max_new_tokens: int | None = None

    def __init__(self, run: Run, trainer: PeftTrainer, adapted: bool, planned: int, a_pass: int, log: RunLog) -> None:
        self.run, self.trainer, self.adapted = run, trainer, adapted
        self.planned, self.a_pass, self.log = planned, a_pass, log
        self.stop = Stop(run.started_s, run.settings.max_hours, run.settings.save_every is None)
        self.rates = learning_rates(run.settings, planned)
        self.done, self.losses = 0, list[Any]()
        #: losses since the last entry, their sum over the run, tokens seen
        self.progress: dict[str, Any] = {"losses": [], "total_loss": 0.0, "tokens": 0}
        trainer.is_managed_externally = True  # which step is the next, and when to save, is ours to say
        trainer.checkpoint_manager = self
        logging.getLogger("absl").setLevel(logging.ERROR)

    def restore(self) -> None:
        """Go on from the checkpoint of the run, if it has one."""
        if self.run.checkpoint is not None:
            self.done, self.progress = read_checkpoint(self.run.checkpoint, self.trainer, self.adapted)

    def left(self) -> Iterator[int]:
        """Numbers, from 0, of the steps that are left, until the end or until the run is told to stop."""
        while self.done < self.planned and not self.stop.asked:
            self.stop.step_began()
            yield self.done

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A batch is computed; Tunix's own arguments count batches of this session."""
        batch = self.trainer._prev_buffered_train_metrics
        assert batch is not None
        self.losses += batch.losses
        self.note_batch({name: values[-1] for name, (values, _) in batch.additional_metrics.items()})
        if len(self.losses) == self.run.settings.accumulate:
            self._step_ended()

    def note_batch(self, metrics: dict[str, Any]) -> None:
        """What Tunix measured of the batch just computed."""

    def _step_ended(self) -> None:
        # waits for the devices: what the clock and a checkpoint see is a step that is done
        loss = sum(float(loss) for loss in self.losses)
        self.losses = []
        self.done += 1
        self.progress["losses"].append(loss)
        self.progress["total_loss"] += loss
        self.stop.step_ended()
        settings, state = self.run.settings, self._guarded()
        self._refuse_endless(int(state.skipped_in_row))
        if self.done % settings.log_every == 0:
            self.write(self._head(state) | self.entry(loss) | {"skipped": int(state.skipped)})
        self.step_ended()
        self.log.step_ended(self.done)
        due = settings.save_every and (self.done % settings.save_every == 0 or self.done == self.planned)
        if due or self.stop.save_is_due(self.done, self.planned) or self.stop.asked:
            save_checkpoint(self.run.folder, self.done, self.trainer, self.adapted, self.progress)
            self.stop.saved()

    def _guarded(self) -> GuardedState:
        return nnx.as_pure(self.trainer.optimizer.opt_state)

    def _refuse_endless(self, in_row: int) -> None:
        if in_row:
            tqdm.write(f"step {self.done} is skipped: its gradient is not finite")
        if in_row >= MAX_SKIPPED:
            raise RunError(
                f"{in_row} steps in a row, up to step {self.done}, had a loss or gradient that is not finite",
                f"begin again in another --out with a lower --lr, {self.run.settings.lr / 3:.1g} for a start",
            )

    def _head(self, state: GuardedState) -> dict[str, Any]:
        losses, self.progress["losses"] = self.progress["losses"], []
        return {
            "loss": sum(losses) / len(losses),
            "grad_norm": float(state.norm),
            "learning_rate": self.rates[self.done - 1],
            "epoch": self.done / self.a_pass,
        }

    def entry(self, loss: float) -> dict[str, Any]:
        """What a log entry says beside the loss; that of the step just done is `loss`."""
        raise NotImplementedError

    def write(self, logs: dict[str, Any]) -> None:
        """Add a log entry."""
        self.log.write(self.done, logs)

    def step_ended(self) -> None:
        """A step is done."""

    def train(self, mesh: jax.sharding.Mesh, work: Callable[[], None]) -> float:
        """Train to the end, or to where the run is told to stop.

        Args:
            mesh: the devices.
            work: has Tunix do the steps that are `left`.

        Returns:
            Seconds it took, those of the sessions before counted.

        Raises:
            RunError: if memory or disk run out, or step after step is not finite.
        """
        began_s = time.monotonic()
        trained = nnx.state(self.trainer.model, nnx.LoRAParam if self.adapted else nnx.Param)
        self.stop.begin(sum(leaf.nbytes for leaf in jax.tree.leaves(trained)))
        settings, folder = self.run.settings, self.run.folder
        try:
            self.log.begin(self.done, self.planned)
            with laid_over(mesh), self.precise():
                work()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise RunError(f"{folder} cannot be written: {error.strerror or error}", "make room there") from error
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            known = trainer_arguments(settings, folder) | {"max_completion_length": self.max_new_tokens}
            raise out_of_memory(SimpleNamespace(**known), self.done + 1, error) from error
        finally:
            self.stop.end()
            self.log.end()
        seconds = time.monotonic() - began_s
        mean = self.progress["total_loss"] / max(1, self.done)
        self.log.write(self.done, {"train_runtime": seconds, "train_loss": mean})
        return self.log.earlier_s + seconds

    def result(self, carried: Carried, seconds: float, trained_for: Mode, **latent: Any) -> FitResult:
        """What the run ended with.

        Args:
            carried: the model; what was trained comes back to it if this was the last step.
            seconds: see `train`.
            trained_for: what the trained model is to do before it answers.
            latent: further settings of the trained model's latent part.

        Returns:
            The model and what was logged.
        """
        finished, folder = self.done >= self.planned, self.run.folder
        if finished:
            carried.bring_back(self.trainer.model, folder / "adapter")
        carried.model.requires_grad_(True)
        if finished:
            carried.model.set_latent(trained_for=trained_for, **latent)
        metrics = read_metrics(self.log.path)
        return FitResult(carried.model, metrics, seconds, finished, self.done, asked=self.stop.asked,
                         time_is_up=self.stop.time_is_up)  # fmt: skip

    def precise(self) -> Any:
        """Within it this thread computes as precisely as the settings say."""
        # On a TPU a product of float32 matrices is rounded to bfloat16 unless it is asked for in full.
        return jax.default_matmul_precision("float32" if self.run.settings.precision == "float32" else "default")
