"""`transformers.Trainer` with a curriculum: the batch is laid out when its step begins, for the stage of that step."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.model.thinking import ThoughtRecord
from latent_gemma.training.batches import IGNORE, Encoded, build_row, pad_rows
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum, Curriculum, Stage
from latent_gemma.training.guarding import FiniteSteps
from latent_gemma.training.losses import latent_loss, targets_of

#: A loss this many times the smoothed one is a spike.
SPIKE = 2.0


class Rows(Dataset):
    """Indices of the encoded examples; the trainer lays them out itself, when it knows the stage."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"row": index}


def collate_rows(items: Sequence[dict[str, int]]) -> dict[str, Tensor]:
    """Indices of a batch, [B]."""
    return {"row": torch.tensor([item["row"] for item in items])}


def _with_passes(batch: dict[str, Any], passes: int, pad_id: int) -> dict[str, Any]:
    """A batch that makes as many passes as any process's batch of this step, with columns enough for them."""
    missing = max(0, passes + 1 - batch["input_ids"].shape[1])
    fills = {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORE, "anchors": IGNORE}
    padded = {name: torch.nn.functional.pad(batch[name], (0, missing), value=fill) for name, fill in fills.items()}
    return {**padded, "passes": passes}


class CurriculumTrainer(FiniteSteps):
    """Trains a latent Gemma along a curriculum.

    Args:
        model: the model, or a PEFT wrapper of it.
        encoded: the training examples.
        frame: the model's frame.
        curriculum: what is latent, and when.
        **kwargs: as `FiniteSteps`.
    """

    def __init__(self, model: Any, encoded: Sequence[Encoded], frame: Frame, curriculum: Curriculum, **kwargs: Any):
        super().__init__(model=model, train_dataset=Rows(len(encoded)), data_collator=collate_rows, **kwargs)
        # The loss is divided by the tokens of the whole step: Trainer must not divide it by the accumulation steps.
        self.loss_is_scaled_for_ga = True
        self.encoded, self.frame, self.curriculum = encoded, frame, curriculum
        self.longest = max(len(item.steps) for item in encoded)
        self.smoothed_loss: float | None = None
        self.gate_position = 0.0
        self.stage = self.stage_now()
        self.record: ThoughtRecord | None = None
        self.last_losses: dict[str, Tensor] = {}
        self.tokens_seen = 0
        self.thoughts = 0
        self.holds_p = False

    @property
    def latent_model(self) -> LatentReasoningGemmaForCausalLM:
        """The latent model itself, without the wrappers around it."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def stage_before(self) -> Stage:
        """The stage of the step done last: a run that resumes where a stage begins must see it begin."""
        return self._stage_at(max(0, self.state.global_step - 1))

    def stage_now(self) -> Stage:
        """The stage of the step that comes next."""
        return self._stage_at(self.state.global_step)

    def _stage_at(self, step: int) -> Stage:
        progress = step / max(1, self.state.max_steps)
        if isinstance(self.curriculum, AnnealCurriculum):
            position = self.gate_position if self.curriculum.p_shape == "gated" else None
            return self.curriculum.stage_at(progress, position, self.longest)
        if isinstance(self.curriculum, CoconutCurriculum):
            seen = self.state.max_steps * self.args.train_batch_size * self.args.gradient_accumulation_steps
            epochs = seen * self.args.world_size / len(self.encoded)
            return self.curriculum.stage_at(progress, max(epochs, 1e-9))
        return self.curriculum.stage_at()

    def enter_stage(self) -> None:
        """Set the model up for the next step; called once per optimiser step."""
        previous, self.stage = self.stage, self.stage_now()
        self.latent_model.set_latent(p=self.stage.p, question_visibility=self.stage.question_visibility)
        if (
            isinstance(self.curriculum, CoconutCurriculum)
            and self.curriculum.reset_optimizer
            and self.stage.number != previous.number
            and self.optimizer is not None
        ):
            getattr(self.optimizer, "optimizer", self.optimizer).state.clear()

    def progress(self) -> dict[str, Any]:
        return super().progress() | {
            "gate_position": self.gate_position,
            "smoothed_loss": self.smoothed_loss,
            "tokens": self.tokens_seen,
            "thoughts": self.thoughts,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        super().restore(progress)
        self.gate_position, self.smoothed_loss = progress["gate_position"], progress["smoothed_loss"]
        self.tokens_seen, self.thoughts = progress["tokens"], progress["thoughts"]

    def lay_out(self, rows: Sequence[int]) -> dict[str, Any]:
        """The tensors of a batch of examples under the stage of the coming step."""
        stage, step = self.stage_now(), self.state.global_step
        # Drawn from the step and the row, not from a running generator: the same after a resume, and on any process.
        laid = [
            build_row(self.encoded[row], stage, self.frame, random.Random(f"{self.args.seed}-{step}-{row}"))
            for row in rows
        ]
        return pad_rows(laid, self.frame.pad_id)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Lay out the batches of one optimiser step, and count what all processes together will take a mean over."""
        indices, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = [self.lay_out(item["row"].tolist()) for item in indices]
        weight = self.stage_now().anchor_weight
        parts = [targets_of(batch, weight) for batch in batches]
        answers = sum(int(is_answer.sum()) for _, is_answer in parts)
        read = sum(int((wanted != IGNORE).sum()) for wanted, _ in parts)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        thoughts = [int((batch["input_ids"] == self.frame.latent.thought_id).sum(-1).max()) for batch in batches]
        # the last step of an epoch may have fewer batches on one process than on another
        thoughts += [0] * (num_batches - len(batches))
        mine = torch.tensor([[answers, read - answers, tokens, *thoughts]], device=device)
        all_processes = self.accelerator.gather(mine)
        totals = all_processes[:, :3].sum(0)
        most = all_processes[:, 3:].amax(0).tolist()
        self.tokens_seen += int(totals[2])
        self.thoughts = max(most, default=0)
        if self.args.world_size > 1:
            batches = [
                _with_passes(batch, count, self.frame.pad_id) for batch, count in zip(batches, most, strict=False)
            ]
        self.last_losses = {}
        return batches, totals[:2]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Share of a batch in the loss of its step; see `latent_loss`."""
        batch = dict(inputs)
        self.note_batch(batch)
        self.record = ThoughtRecord()
        with self.latent_model.thinking(record=self.record, passes=batch.pop("passes", 0)):
            losses = latent_loss(model, batch, self.stage.anchor_weight, tuple(num_items_in_batch))
        for name, loss in (("answer_loss", losses.answer), ("anchor_loss", losses.anchor)):
            self.last_losses[name] = self.last_losses.get(name, 0.0) + loss
        # gradients are averaged over processes, and this is a share of a sum over them
        return losses.total * self.args.world_size

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
        super().log(logs, *args, **kwargs)
