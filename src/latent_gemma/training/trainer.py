"""`transformers.Trainer` with a curriculum: the batch is laid out when its step begins, for the stage of that step."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from tqdm import tqdm

from latent_gemma.fast.last_layer import last_layer_from
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model.attention import TAKES_MASKS
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.model.thinking import ThoughtRecord
from latent_gemma.training.batches import Encoded, Row, build_row, encode_examples
from latent_gemma.training.codi import WRITTEN, codi_loss, counted, deviations, paired_rows, teacher_moments
from latent_gemma.training.curriculum import AnnealCurriculum, CodiCurriculum, Curriculum, Stage, StagedCurriculum
from latent_gemma.training.finite_steps import FiniteSteps
from latent_gemma.training.losses import latent_loss, targets_of
from latent_gemma.training.step_batches import (
    GroupedOrder,
    Rows,
    collate_rows,
    grouped_by_length,
    lay_out,
    with_passes,
    with_places,
)

#: A loss this many times the smoothed one is a spike.
SPIKE = 2.0


class CurriculumTrainer(FiniteSteps):
    """Trains a latent Gemma along a curriculum.

    Args:
        model: the model, or a PEFT wrapper of it.
        encoded: the training examples.
        frame: the model's frame.
        curriculum: what is latent, and when.
        groups: whether the examples of a step are of like length.
        **kwargs: as `FiniteSteps`.
    """

    def __init__(
        self, model: Any, encoded: Sequence[Encoded], frame: Frame, curriculum: Curriculum, groups: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(model=model, train_dataset=Rows(len(encoded)), data_collator=collate_rows, **kwargs)
        # The loss is divided by the tokens of the whole step: Trainer must not divide it by the accumulation steps.
        self.loss_is_scaled_for_ga = True
        self.encoded, self.frame, self.curriculum = encoded, frame, curriculum
        self.steps = FastSteps(self.latent_model, packed=False)
        self.longest = max(len(item.steps) for item in encoded)
        self.smoothed_loss: float | None = None
        self.gate_position = self.gate_entered = 0.0
        self.stage = self.stage_now()
        self.record: ThoughtRecord | None = None
        self.last_losses: dict[str, Tensor] = {}
        self.tokens_seen = 0
        self.thoughts = 0
        self.holds_p = False
        self.groups = groups
        self.data_seconds = 0.0
        self.to_measure: list[dict[str, Any]] = []
        self.deviations: Tensor | None = None

    @property
    def latent_model(self) -> LatentReasoningGemmaForCausalLM:
        """The latent model itself, without the wrappers around it."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def stage_before(self) -> Stage:
        """The stage of the step done last: a run that resumes where a stage begins must see it begin."""
        return self._stage_at(max(0, self.state.global_step - 1), self.gate_entered)

    def stage_now(self) -> Stage:
        """The stage of the step that comes next."""
        return self._stage_at(self.state.global_step, self.gate_position)

    @property
    def steps_a_pass(self) -> int:
        """Optimiser steps of one pass over the data, the last of which need not be full."""
        step_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return -(-len(self.encoded) // step_size)

    def _stage_at(self, step: int, gate_position: float) -> Stage:
        progress = step / max(1, self.state.max_steps)
        if isinstance(self.curriculum, AnnealCurriculum):
            position = gate_position if self.curriculum.p_shape == "gated" else None
            return self.curriculum.stage_at(progress, position, self.longest)
        if isinstance(self.curriculum, StagedCurriculum):
            return self.curriculum.stage_at(progress, step / self.steps_a_pass)
        return self.curriculum.stage_at()

    def enter_stage(self) -> None:
        """Set the model up for the next step; called once per optimiser step."""
        previous, self.stage = self.stage, self.stage_now()
        self.gate_entered = self.gate_position
        self.latent_model.set_latent(p=self.stage.p)
        if (
            isinstance(self.curriculum, StagedCurriculum)
            and self.curriculum.reset_optimizer
            and self.stage.number != previous.number
            and self.optimizer is not None
        ):
            getattr(self.optimizer, "optimizer", self.optimizer).state.clear()

    def progress(self) -> dict[str, Any]:
        return super().progress() | {
            "gate_position": self.gate_position,
            "gate_entered": self.gate_entered,
            "smoothed_loss": self.smoothed_loss,
            "tokens": self.tokens_seen,
            "thoughts": self.thoughts,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        super().restore(progress)
        self.gate_position, self.smoothed_loss = progress["gate_position"], progress["smoothed_loss"]
        self.gate_entered = progress["gate_entered"]
        self.tokens_seen, self.thoughts = progress["tokens"], progress["thoughts"]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        return GroupedOrder(self._grouped_order, len(self.encoded)) if self.groups else super()._get_train_sampler()

    def _grouped_order(self) -> list[int]:
        """The order of the epoch of the coming step: the same when a run resumes within it, and on any process."""
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        epoch = self.state.global_step // self.steps_a_pass
        stage = self._stage_at(epoch * self.steps_a_pass, self.gate_position)
        stage = replace(stage, mix_prob=0.0, draws_up_to=None)
        if isinstance(self.curriculum, CodiCurriculum):
            stage = WRITTEN  # the longer row of each pair
        lengths = [len(build_row(item, stage, self.frame, random.Random()).ids) for item in self.encoded]
        return grouped_by_length(lengths, size, self.args.seed + epoch)

    def _items(self, indices: list[int]) -> list[Encoded]:
        """Some of the examples, as the pass of the coming step tells them."""
        items = [self.encoded[row] for row in indices]
        # Drawn from the pass and the row, not from a running generator: the same after a resume, and on any process.
        seed = f"{self.args.seed}-{self.state.global_step // self.steps_a_pass}"
        told = [
            item.retold.told_anew(random.Random(f"{seed}-{row}"))
            for row, item in zip(indices, items, strict=True)
            if item.retold is not None
        ]
        anew = iter(encode_examples(self.frame, told))
        return [item if item.retold is None else next(anew) for item in items]

    def _rows(self, indices: list[int]) -> list[Row]:
        items, stage = self._items(indices), self.stage_now()
        # From the step and the row, likewise.
        seed = f"{self.args.seed}-{self.state.global_step}"
        rows = [
            build_row(item, stage, self.frame, random.Random(f"{seed}-{row}"))
            for row, item in zip(indices, items, strict=True)
        ]
        return paired_rows(items, rows, self.frame) if isinstance(self.curriculum, CodiCurriculum) else rows

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Lay out the batches of one optimiser step, and count what all processes together will take a mean over."""
        started = time.perf_counter()
        indices, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        stage, distils = self.stage_now(), isinstance(self.curriculum, CodiCurriculum)
        packs = not stage.thinks and self.latent_model.config._attn_implementation in TAKES_MASKS
        laid = [lay_out(self._rows(item["row"]), self.frame.pad_id, packs) for item in indices]
        weights = stage.anchor_weight, stage.halt_weight
        batches = [with_places(batch, self.frame.latent.thought_id, *weights) for batch in laid]
        parts = [counted(batch) if distils else targets_of(batch, *weights).counts() for batch in laid]
        read = [sum(kind) for kind in zip(*parts, strict=True)]
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        thoughts = [int((batch["input_ids"] == self.frame.latent.thought_id).sum(-1).max()) for batch in batches]
        # the last step of an epoch may have fewer batches on one process than on another
        thoughts += [0] * (num_batches - len(batches))
        counts = torch.tensor([[*(read or (0, 0, 0)), tokens, *thoughts]])
        # Up to here all was done by the CPU; what the device still has to do does not count.
        self.data_seconds += time.perf_counter() - started
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts.to(device)).cpu()
        totals = counts[:, :4].sum(0)
        most = counts[:, 4:].amax(0).tolist()
        self.tokens_seen += int(totals[3])
        self.thoughts = max(most, default=0)
        if self.args.world_size > 1:
            batches = [
                with_passes(batch, count, self.frame.pad_id) for batch, count in zip(batches, most, strict=False)
            ]
        self.last_losses, self.deviations = {}, None
        self.to_measure = batches if distils and (len(batches) > 1 or self.args.world_size > 1) else []
        return batches, totals[:3].to(device, non_blocking=True)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Share of a batch in the loss of its step; see `latent_loss`, and `codi_loss`."""
        batch = dict(inputs)
        self.note_batch(batch)
        self.record = ThoughtRecord()
        places = {name: batch.pop(name) for name in ("passes", "columns") if name in batch}
        first = batch.pop("first")
        if isinstance(self.curriculum, CodiCurriculum):
            first = 0  # its distance reads the states of all layers, in two forwards
        with (
            self.latent_model.thinking(record=self.record, steps=self.steps, **places),
            last_layer_from(self.latent_model.model, first),
        ):
            total, named = self._score(model, batch, num_items_in_batch)
        for name, loss in named.items():
            self.last_losses[name] = self.last_losses.get(name, 0.0) + loss
        # gradients are averaged over processes, and this is a share of a sum over them
        return total * self.args.world_size

    def _score(self, model: Any, batch: dict[str, Any], counts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts by the names of the log."""
        if isinstance(self.curriculum, CodiCurriculum):
            eot_id, weight = self.frame.latent.eot_id, self.curriculum.distill_weight
            codi = codi_loss(model, batch, eot_id, weight, tuple(counts), self._teacher_deviations(model))
            return codi.total, {"answer_loss": codi.student, "teacher_loss": codi.teacher, "distill_loss": codi.distill}
        losses = latent_loss(
            model, batch, self.stage.anchor_weight, tuple(counts), self.stage.halt_weight, self.frame.latent.eot_id
        )
        return losses.total, {f"{name}_loss": getattr(losses, name) for name in ("answer", "anchor", "halt")}

    def _teacher_deviations(self, model: Any) -> Tensor | None:
        """Of all batches of the step and all processes, so that they train what one batch would; None where one is."""
        if self.to_measure:
            batches = [self._prepare_inputs(batch) for batch in self.to_measure]
            with self.latent_model.thinking(columns=()):
                found = teacher_moments(model, batches, self.frame.latent.eot_id)
            self.to_measure, self.deviations = [], deviations(self.accelerator.reduce(found, "sum"))
        return self.deviations

    def gather_losses(self) -> None:
        """Add up the losses of all processes; called once per optimiser step."""
        self.last_losses = {name: self.accelerator.reduce(loss, "sum") for name, loss in self.last_losses.items()}

    def note_loss(self) -> None:
        """Follow the smoothed answer loss and move the gate; called once per optimiser step.

        A loss of more than `SPIKE` times the smoothed one stands for itself: p is held at once.
        """
        if not isinstance(self.curriculum, AnnealCurriculum) or self.curriculum.p_shape != "gated" or self.skips:
            return
        loss = float(self.last_losses["answer_loss"])
        smoothed = loss if self.smoothed_loss is None else 0.95 * self.smoothed_loss + 0.05 * loss
        spike = self.smoothed_loss is not None and loss > SPIKE * self.smoothed_loss
        before, self.smoothed_loss = self.gate_position, smoothed
        self.gate_position = self.curriculum.advance(
            before, loss if spike else smoothed, 1.0 / max(1, self.state.max_steps)
        )
        self._say_held(self.gate_position == before < 1.0, loss if spike else smoothed)

    def _say_held(self, held: bool, loss: float) -> None:
        if held != self.holds_p and self.is_world_process_zero():
            gate = self.curriculum.gate_loss  # type: ignore[union-attr]
            said = f"stays at {self.stage.p:.3f}: the loss, {loss:.3g}, is over" if held else "falls: the loss is under"
            tqdm.write(f"step {self.state.global_step}: p {said} the gate of {gate:g}")
        self.holds_p = held

    def remedy(self) -> str:
        slower = isinstance(self.curriculum, AnnealCurriculum) and self.curriculum.p_until > 0.0
        return super().remedy() + (", or let p fall more slowly with a higher --p-until" if slower else "")

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add what the curriculum did to Trainer's log entry."""
        if "loss" in logs:
            logs.update({name: round(float(value), 6) for name, value in self.last_losses.items()})
            logs.update(p=round(self.stage.p, 6), K=self.thoughts, stage=self.stage.number, tokens=self.tokens_seen)
            logs["anchor_weight"] = round(self.stage.anchor_weight, 6)
            norms = self.record.grad_norms if self.record is not None else {}
            for step in sorted(norms):
                logs[f"latent_grad_norm_{step + 1}"] = round(float(norms[step]), 6)
        if "train_runtime" in logs:
            logs["train_data_share"] = round(self.data_seconds / logs["train_runtime"], 6)
            if self.is_world_process_zero():
                tqdm.write(f"waited {logs['train_data_share']:.1%} of the time for data")
        super().log(logs, *args, **kwargs)
