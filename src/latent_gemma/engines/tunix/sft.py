"""The text stage in Tunix: the rows, loss, steps and run folder of `training.fit`, computed by JAX."""

import logging
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from tqdm import tqdm
from transformers import TrainingArguments
from tunix.sft import utils
from tunix.sft.metrics_logger import MetricsLogger
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig

from latent_gemma.data.example import Example
from latent_gemma.engines.tunix.adapter import adapted_arrays, add_adapter, give_back
from latent_gemma.engines.tunix.guarded_steps import GuardedState, guarded_adamw
from latent_gemma.engines.tunix.mesh import device_mesh, laid_over
from latent_gemma.engines.tunix.orbax_folders import read_checkpoint, save_checkpoint
from latent_gemma.engines.tunix.weights import build_model, from_tunix, read_weights, torch_weights, tunix_config
from latent_gemma.errors import ConfigError, RunError
from latent_gemma.launch import process_count
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, OnBad, Row, build_row, check_rows, encode_examples
from latent_gemma.training.callbacks import append_lines, describe_curriculum, keep_lines, read_metrics
from latent_gemma.training.clean_stop import Stop
from latent_gemma.training.curriculum import Curriculum, WrittenCurriculum
from latent_gemma.training.data_order import epoch_order, planned_steps, steps_a_pass
from latent_gemma.training.learning_rate import learning_rates
from latent_gemma.training.lora import merge, with_lora
from latent_gemma.training.out_of_memory import out_of_memory
from latent_gemma.training.run import FULL, METRICS, FitResult, Run, trainer_arguments
from latent_gemma.training.settings import LoraSettings, TrainSettings
from latent_gemma.training.step_batches import grouped_by_length

#: Rows are padded to a multiple of this, all of a run to the same: every other length would be compiled anew.
LENGTH_STEP = 32
#: The run ends when so many steps in a row had a gradient that is not finite.
MAX_SKIPPED = 5

Batch = dict[str, np.ndarray]


def sft_loss(model: Any, ids: Any, labels: Any, real: Any, count: Any) -> tuple[Any, Any]:
    """Share of a batch in the loss of its step, as `training.losses.latent_loss` has it without anchors.

    Args:
        model: in Tunix.
        ids: [B, T].
        labels: [B, T], IGNORE where no loss is.
        real: [B, T], 0 for padding.
        count: labels in all batches of the step, 0-d.

    Returns:
        Cross-entropy, nats, summed over the batch and divided by `count`; twice, for Tunix hands the second one on.
    """
    mask = real.astype(bool)
    positions = utils.build_positions_from_mask(mask)
    logits, _ = model(ids, positions, None, utils.make_causal_attn_mask(mask))
    logits, targets = logits[:, :-1].astype(jnp.float32), labels[:, 1:]
    named = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - named
    loss = jnp.where(targets == IGNORE, 0.0, losses).sum() / count
    return loss, loss


class StepBatches:
    """The batches of every step, all of one shape.

    Args:
        rows: the laid out examples.
        settings: the optimisation.
        pad_id: id of the padding.
    """

    def __init__(self, rows: Sequence[Row], settings: TrainSettings, pad_id: int) -> None:
        self.rows, self.settings, self.pad_id = rows, settings, pad_id
        self.length = math.ceil(max(len(row.ids) for row in rows) / LENGTH_STEP) * LENGTH_STEP
        self.a_pass, self.step_size = steps_a_pass(len(rows), settings), settings.batch_size * settings.accumulate
        self._order = lru_cache(maxsize=1)(self._draw)

    def _draw(self, epoch: int) -> list[int]:
        if not self.settings.group_by_length:
            return epoch_order(len(self.rows), self.settings.seed, epoch)
        return grouped_by_length([len(row.ids) for row in self.rows], self.step_size, self.settings.seed + epoch)

    def of(self, step: int) -> list[Batch]:
        """The batches of a step, from 0; what is missing is filled with rows that no loss reads."""
        epoch, place = divmod(step, self.a_pass)
        order = self._order(epoch)[place * self.step_size : (place + 1) * self.step_size]
        chosen = [self.rows[index] for index in order]
        # a label in the first column names nothing that is predicted
        count = sum(label != IGNORE for row in chosen for label in row.labels[1:])
        size = self.settings.batch_size
        return [self._padded(chosen[start : start + size], max(1, count)) for start in range(0, self.step_size, size)]

    def _padded(self, rows: Sequence[Row], count: int) -> Batch:
        shape = (self.settings.batch_size, self.length)
        ids, labels = np.full(shape, self.pad_id, np.int32), np.full(shape, IGNORE, np.int32)
        real = np.zeros(shape, np.int32)
        for place, row in enumerate(rows):
            width = len(row.ids)
            ids[place, :width], labels[place, :width], real[place, :width] = row.ids, row.labels, 1
        return {"ids": ids, "labels": labels, "real": real, "count": np.array(count, np.float32)}


class _Trainer(PeftTrainer):
    """Tunix's trainer, which hands on the loss of every batch as soon as it is computed."""

    losses: list[Any]

    def _post_process_train_step(self, aux: Any) -> None:
        self.losses.append(aux)


class _Session:
    """What happens between steps: the clock, the log, checkpoints; stands where Tunix has its checkpoint manager, which
    it asks after every batch.

    Args:
        run: the run.
        trainer: Tunix's.
        batches: of the run.
        adapted: an adapter trains.
        logged: what every log entry of this stage says of it.
    """

    def __init__(self, run: Run, trainer: _Trainer, batches: StepBatches, adapted: bool, logged: dict[str, Any]):
        self.run, self.trainer, self.batches, self.adapted, self.logged = run, trainer, batches, adapted, logged
        self.stop = Stop(run.started_s, run.settings.max_hours, run.settings.save_every is None)
        self.planned = planned_steps(len(batches.rows), run.settings)
        self.rates = learning_rates(run.settings, self.planned)
        self.done, self.micro, self.began_s = 0, 0, time.monotonic()
        #: losses since the last entry, their sum over the run, tokens seen
        self.progress: dict[str, Any] = {"losses": [], "total_loss": 0.0, "tokens": 0}
        self.bar: Any = None

    def restore(self) -> None:
        """Go on from the checkpoint of the run, if it has one."""
        if self.run.checkpoint is not None:
            self.done, self.progress = read_checkpoint(self.run.checkpoint, self.trainer, self.adapted)
        keep_lines(self.run.folder / METRICS, self.done)

    def steps(self) -> Iterator[Batch]:
        """The batches that are left, until the end or until the run is told to stop."""
        while self.done < self.planned and not self.stop.asked:
            self.stop.step_began()
            batches = self.batches.of(self.done)
            self.progress["tokens"] += int(sum(batch["real"].sum() for batch in batches))
            yield from batches

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A batch is computed; Tunix's own arguments count batches of this session."""
        self.micro += 1
        if self.micro % self.run.settings.accumulate == 0:
            self._step_ended()

    def _step_ended(self) -> None:
        # waits for the devices: what the clock and a checkpoint see is a step that is done
        loss = sum(float(loss) for loss in self.trainer.losses)
        self.trainer.losses = []
        self.done += 1
        self.progress["losses"].append(loss)
        self.progress["total_loss"] += loss
        self.stop.step_ended()
        settings, state = self.run.settings, self._guarded()
        self._refuse_endless(int(state.skipped_in_row))
        if self.done % settings.log_every == 0:
            self._log(loss, state)
        self.bar.update(self.done - self.bar.n)
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

    def _log(self, loss: float, state: GuardedState) -> None:
        losses, self.progress["losses"] = self.progress["losses"], []
        entry = {
            "loss": sum(losses) / len(losses),
            "grad_norm": float(state.norm),
            "learning_rate": self.rates[self.done - 1],
            "epoch": self.done / self.batches.a_pass,
            "answer_loss": loss,
            "anchor_loss": 0.0,
            "halt_loss": 0.0,
            **self.logged,
            "tokens": self.progress["tokens"],
            "skipped": int(state.skipped),
        }
        self._write(entry)
        self.bar.set_postfix(describe_curriculum(entry), refresh=False)

    def _write(self, entry: dict[str, Any]) -> None:
        # JSON has no word for what is not finite
        finite = {name: value for name, value in entry.items() if math.isfinite(value)}
        head = {"step": self.done, "seconds": round(time.monotonic() - self.began_s, 3)}
        append_lines(self.run.folder / METRICS, [head | finite])

    def train(self, mesh: jax.sharding.Mesh) -> float:
        """Train to the end, or to where the run is told to stop.

        Args:
            mesh: the devices.

        Returns:
            Seconds it took.
        """
        self.began_s = time.monotonic()
        trained = nnx.state(self.trainer.model, nnx.LoRAParam if self.adapted else nnx.Param)
        self.stop.begin(sum(leaf.nbytes for leaf in jax.tree.leaves(trained)))
        often_s = 0.2 if sys.stderr.isatty() else 30.0
        # On a TPU a product of float32 matrices is rounded to bfloat16 unless it is asked for in full.
        precision = "float32" if self.run.settings.precision == "float32" else "default"
        try:
            with (
                tqdm(total=self.planned, initial=self.done, desc=self.run.title, dynamic_ncols=True,
                     mininterval=often_s) as self.bar,
                laid_over(mesh),
                jax.default_matmul_precision(precision),
            ):  # fmt: skip
                self.trainer.train(self.steps())
        finally:
            self.stop.end()
        seconds = time.monotonic() - self.began_s
        self._write({"train_runtime": seconds, "train_loss": self.progress["total_loss"] / max(1, self.done)})
        return seconds


def fit(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    examples: Sequence[Example],
    curriculum: Curriculum,
    settings: TrainSettings,
    run: Path,
    title: str,
    lora: LoraSettings | None = None,
    resume: bool = False,
    started_s: float | None = None,
    on_bad: OnBad | None = None,
) -> FitResult:
    """Train a text stage; arguments, result and errors as of `latent_gemma.training.fit.fit`.

    The torch model holds the weights before and after. Rows, their order, loss, learning rate and optimiser are those
    of the torch engine; all rows are padded on the right to the longest. With an adapter and in bfloat16 the frozen
    weights are bfloat16 and the adapter is float32.

    Raises:
        ConfigError: also for what this engine does not train; see `docs/tpu.md`.
        ModelError: for a model that Tunix does not compute as transformers does.
    """
    if not isinstance(curriculum, WrittenCurriculum):
        raise ConfigError("--engine tunix trains text stages alone", "train latent stages with --engine torch")
    if process_count() > 1:
        raise ConfigError("--engine tunix in several processes", "start one, which uses all devices of its machine")
    lora = lora if lora is not None and lora.rank else None
    if settings.precision == "bfloat16" and lora is None:
        raise ConfigError(
            "--precision bfloat16 with --engine tunix and --rank 0 would round every update",
            "train an adapter (--rank 16), or take --precision float32",
        )
    config = tunix_config(model.config, settings.checkpointing)
    if lora is not None:
        adapted_arrays(lora, config)
    mesh = device_mesh(settings.mesh, settings.batch_size)
    this = Run.begin(model, run, settings, title, resume, started_s)
    frame, stage = Frame(tokenizer, model.config.latent), curriculum.stage_at()
    encoded = encode_examples(frame, examples, model.config.max_position_embeddings, on_bad)
    check_rows(encoded, frame, curriculum)
    batches = StepBatches([build_row(item, stage, frame, random.Random(0)) for item in encoded], settings, frame.pad_id)
    state = torch_weights(model)
    module = build_model(state, config, mesh, jnp.bfloat16 if settings.precision == "bfloat16" else jnp.float32)
    wrapper = None if lora is None else with_lora(model, lora)
    if lora is not None:
        module = add_adapter(module, wrapper, lora, mesh)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # without options its logger listens to nothing: JAX's listeners are global
    trainer = _Trainer(
        module, guarded_adamw(settings, planned_steps(len(encoded), settings)),
        TrainingConfig(eval_every_n_steps=1, max_inflight_computations=1), MetricsLogger(),
    )  # fmt: skip
    trainer.losses = []
    trainer = trainer.with_loss_fn(sft_loss, has_aux=True)
    trainer.is_managed_externally = True  # which step is the next, and when to save, is ours to say
    logged = {"p": stage.p, "K": 0, "stage": stage.number, "anchor_weight": stage.anchor_weight}
    session = _Session(this, trainer, batches, lora is not None, logged)
    session.restore()
    trainer.checkpoint_manager = session
    try:
        seconds = session.train(mesh)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise RunError(f"{run} cannot be written: {error.strerror or error}", "make room there") from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        arguments = TrainingArguments(**trainer_arguments(settings, run))
        raise out_of_memory(arguments, session.done + 1, error) from error
    finished = session.done >= session.planned
    if finished and lora is not None:
        give_back(module, wrapper, lora)
        model = merge(wrapper, run / "adapter")
    elif finished:
        weights = {name: torch.tensor(value) for name, value in from_tunix(read_weights(module), config).items()}
        model.load_state_dict(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]})
    model.requires_grad_(True)
    if finished:
        longest = max(len(item.steps) for item in encoded)
        trained_for = "words" if frame.latent.words_format == "tags" else stage.mode(longest)
        model.set_latent(trained_for=trained_for, num_thoughts=0, p=stage.p)
    return FitResult(model, read_metrics(run / METRICS), seconds, finished, session.done, asked=session.stop.asked)
