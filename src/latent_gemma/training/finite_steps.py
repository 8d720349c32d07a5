"""Steps whose loss or gradient is not finite: skipped, counted, kept for a look, and too many in a row end the run."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from latent_gemma.errors import RunError
from latent_gemma.training.whole_checkpoints import WholeCheckpoints


class FiniteSteps(WholeCheckpoints):
    """A trainer that takes no step along a loss or gradient that is not finite.

    Such a step counts for the schedule and moves nothing: not the weights, not the optimiser's moments. Its batches
    are written to `skipped/step-N` in the run folder.
    """

    #: The run ends when so many steps in a row were skipped.
    max_skipped = 5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.skipped, self.skipped_in_row = 0, 0
        self._batches: list[dict[str, Tensor]] = []
        self._losses: list[Tensor] = []
        super().__init__(*args, **kwargs)

    @property
    def skips(self) -> bool:
        """Whether the step in progress, or the one just done, is skipped."""
        return self.skipped_in_row > 0

    def progress(self) -> dict[str, Any]:
        return super().progress() | {"skipped": self.skipped, "skipped_in_row": self.skipped_in_row}

    def restore(self, progress: dict[str, Any]) -> None:
        super().restore(progress)
        self.skipped, self.skipped_in_row = progress["skipped"], progress["skipped_in_row"]

    def note_batch(self, batch: dict[str, Any]) -> None:
        """Remember what a loss is about to be computed from."""
        self._batches.append({name: value for name, value in batch.items() if isinstance(value, Tensor)})

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self._losses.append(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        bad = torch.tensor(0.0, device=self.args.device)
        if norm is None or not math.isfinite(float(norm)) or not all(bool(x.isfinite().all()) for x in self._losses):
            bad.fill_(1.0)
        # One process that skips alone would part from the others.
        bad = self.accelerator.reduce(bad, reduction="sum")
        if bad > 0:
            self._skip(model, norm)
        else:
            self.skipped_in_row = 0
        self._batches, self._losses = [], []
        return norm

    def _skip(self, model: Any, norm: Any) -> None:
        # Without gradients the optimiser's step leaves weights and moments as they are.
        for parameter in model.parameters():
            parameter.grad = None
        self.skipped, self.skipped_in_row = self.skipped + 1, self.skipped_in_row + 1
        step, losses = self.state.global_step + 1, [float(loss.mean()) for loss in self._losses]
        if self.is_world_process_zero():
            self._keep(step, losses, norm)
            tqdm.write(f"step {step} is skipped: loss {losses}, gradient norm {float(norm):g}")
        if self.skipped_in_row >= self.max_skipped:
            raise RunError(
                f"{self.skipped_in_row} steps in a row, up to step {step}, had a loss or gradient that is not finite",
                f"{self.remedy()}; their batches are in {self._folder()}",
            )

    def remedy(self) -> str:
        """What to do about losses that are not finite."""
        return f"begin again in another --out with a lower --lr, {self.args.learning_rate / 3:.1g} for a start"

    def _folder(self) -> Path:
        return Path(str(self.args.output_dir)).parent / "skipped"

    def _keep(self, step: int, losses: list[float], norm: Any) -> None:
        folder = self._folder() / f"step-{step}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, batch in enumerate(self._batches):
            # clones: slices of one batch share their storage, which safetensors refuses
            save_file({k: v.detach().clone().contiguous() for k, v in batch.items()}, folder / f"{number}.safetensors")
        said = {"step": step, "losses": list(map(str, losses)), "grad_norm": str(float(norm))}
        (folder / "step.json").write_text(json.dumps(said) + "\n", encoding="utf-8")

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs["skipped"] = self.skipped
        super().log(logs, *args, **kwargs)
