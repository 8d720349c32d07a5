"""The text stage in Tunix: the rows, loss, steps and run folder of `training.fit`, computed by JAX."""

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tunix.sft import utils
from tunix.sft.metrics_logger import MetricsLogger
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig

from latent_gemma.data.example import Example
from latent_gemma.engines.tunix.carried import Carried
from latent_gemma.engines.tunix.guarded_steps import guarded_adamw
from latent_gemma.engines.tunix.session import LENGTH_STEP, Session
from latent_gemma.errors import ConfigError
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, OnBad, Row, build_row, check_rows, encode_examples
from latent_gemma.training.curriculum import Curriculum, WrittenCurriculum
from latent_gemma.training.data_order import epoch_order, planned_steps, steps_a_pass
from latent_gemma.training.run import FitResult, Run
from latent_gemma.training.run_log import describe_curriculum
from latent_gemma.training.settings import LoraSettings, TrainSettings
from latent_gemma.training.step_batches import grouped_by_length

Batch = dict[str, np.ndarray]


def sft_loss(model: Any, ids: Any, labels: Any, real: Any, count: Any) -> Any:
    """Share of a batch in the loss of its step, as `training.losses.latent_loss` has it without anchors.

    Args:
        model: in Tunix.
        ids: [B, T].
        labels: [B, T], IGNORE where no loss is.
        real: [B, T], 0 for padding.
        count: labels in all batches of the step, 0-d.

    Returns:
        Cross-entropy, nats, summed over the batch and divided by `count`.
    """
    mask = real.astype(bool)
    positions = utils.build_positions_from_mask(mask)
    logits, _ = model(ids, positions, None, utils.make_causal_attn_mask(mask))
    logits, targets = logits[:, :-1].astype(jnp.float32), labels[:, 1:]
    named = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - named
    return jnp.where(targets == IGNORE, 0.0, losses).sum() / count


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


class _SftSession(Session):
    """See `Session`.

    Args:
        batches: of the run.
        logged: what every log entry of this stage says of it.
    """

    def __init__(self, run: Run, trainer: PeftTrainer, adapted: bool, batches: StepBatches, logged: dict[str, Any]):
        planned = planned_steps(len(batches.rows), run.settings)
        log = run.log(describe_curriculum, "tokens")
        super().__init__(run, trainer, adapted, planned, batches.a_pass, log)
        self.batches, self.logged = batches, logged

    def work(self) -> None:
        """Have Tunix take the steps that are left."""
        self.trainer.train(batch for step in self.left() for batch in self._batches_of(step))

    def _batches_of(self, step: int) -> list[Batch]:
        batches = self.batches.of(step)
        self.progress["tokens"] += int(sum(batch["real"].sum() for batch in batches))
        return batches

    def entry(self, loss: float) -> dict[str, Any]:
        no_thoughts = {"answer_loss": loss, "anchor_loss": 0.0, "halt_loss": 0.0}
        return no_thoughts | self.logged | {"tokens": self.progress["tokens"]}


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
    of the torch engine; all rows are padded on the right to the longest.

    Raises:
        ConfigError: also for what this engine does not train; see `docs/tpu.md`.
        ModelError: for a model that Tunix does not compute as transformers does.
    """
    if not isinstance(curriculum, WrittenCurriculum):
        raise ConfigError("--engine tunix trains text stages alone", "train latent stages with --engine torch")
    carried = Carried(model, settings, lora)
    this = Run.begin(model, run, settings, title, resume, started_s)
    frame, stage = Frame(tokenizer, model.config.latent), curriculum.stage_at()
    encoded = encode_examples(frame, examples, model.config.max_position_embeddings, on_bad)
    check_rows(encoded, frame, curriculum)
    batches = StepBatches([build_row(item, stage, frame, random.Random(0)) for item in encoded], settings, frame.pad_id)
    module = carried.trained(carried.base())
    # without options its logger listens to nothing: JAX's listeners are global
    trainer = PeftTrainer(
        module, guarded_adamw(settings, planned_steps(len(encoded), settings)),
        TrainingConfig(eval_every_n_steps=1, max_inflight_computations=1), MetricsLogger(),
    ).with_loss_fn(sft_loss)  # fmt: skip
    logged = {"p": stage.p, "K": 0, "stage": stage.number, "anchor_weight": stage.anchor_weight}
    session = _SftSession(this, trainer, carried.lora is not None, batches, logged)
    session.restore()
    seconds = session.train(carried.mesh, session.work)
    longest = max(len(item.steps) for item in encoded)
    trained_for = "words" if frame.latent.words_format == "tags" else stage.mode(longest)
    return session.result(carried, seconds, trained_for, num_thoughts=0, p=stage.p)
