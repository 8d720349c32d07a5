"""Steps that are not finite, spikes, and steps that do not fit into memory."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.engines.trl.fit_grpo import fit_grpo
from latent_gemma.engines.trl.rollouts import FramedGrpoTrainer
from latent_gemma.errors import RunError
from latent_gemma.training import trainer as trainer_module
from latent_gemma.training.checkpoints import last_checkpoint
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.curriculum import AnnealCurriculum
from latent_gemma.training.finite_steps import FiniteSteps
from latent_gemma.training.losses import Losses
from latent_gemma.training.out_of_memory import is_out_of_memory, out_of_memory
from latent_gemma.training.settings import GrpoSettings, LoraSettings, TrainSettings
from latent_gemma.training.trainer import CurriculumTrainer


def spoil(monkeypatch, how):
    """Change the losses of the steps, counted from 1: how(step, total) is the new total."""
    loss, steps = trainer_module.latent_loss, itertools.count(1)

    def spoiled(*args):
        losses = loss(*args)
        total = how(next(steps), losses.total)
        return Losses(total, total.detach(), losses.anchor)

    monkeypatch.setattr(trainer_module, "latent_loss", spoiled)


def followed(monkeypatch):
    """The weights and the optimiser's first moments after each step."""
    seen = []
    end = CleanStop.on_step_end

    def follow(self, args, state, control, model=None, optimizer=None, **kwargs):
        moments = [s["exp_avg"].clone() for s in optimizer.state.values() if "exp_avg" in s]
        seen.append(([p.detach().clone() for p in model.parameters()], moments))
        return end(self, args, state, control, **kwargs)

    monkeypatch.setattr(CleanStop, "on_step_end", follow)
    return seen


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left[0] + left[1], right[0] + right[1], strict=True))


@pytest.mark.parametrize(
    "how",
    [
        lambda step, total: total * float("nan") if step == 4 else total,
        lambda step, total: total + float("inf") if step == 4 else total,
        # a finite loss whose gradient is not: the derivative of a root at zero
        lambda step, total: total + (total - total).sqrt() if step == 4 else total,
    ],
    ids=["nan loss", "inf loss", "gradient"],
)
def test_a_step_that_is_not_finite_moves_nothing_and_is_kept(train, tmp_path, monkeypatch, how, logged):
    seen = followed(monkeypatch)
    spoil(monkeypatch, how)
    result = train(tmp_path)
    assert result.finished
    assert same(seen[2], seen[3]), "neither weights nor moments"
    assert not same(seen[3], seen[4])
    assert all(torch.isfinite(p).all() for p in result.model.parameters())
    assert [entry["skipped"] for entry in logged(tmp_path)] == [0, 0, 0, 1, 1, 1]
    assert [path.name for path in (tmp_path / "skipped").iterdir()] == ["step-4"]
    batch = load_file(tmp_path / "skipped" / "step-4" / "0.safetensors")
    assert batch["input_ids"].shape == batch["labels"].shape
    assert json.loads((tmp_path / "skipped" / "step-4" / "step.json").read_text())["step"] == 4


def test_the_first_step_may_be_skipped(train, tmp_path, monkeypatch):
    spoil(monkeypatch, lambda step, total: total * float("nan") if step == 1 else total)
    assert train(tmp_path).finished


def test_too_many_in_a_row_end_the_run_with_advice(train, tmp_path, monkeypatch):
    monkeypatch.setattr(FiniteSteps, "max_skipped", 2)
    spoil(monkeypatch, lambda step, total: total * float("nan") if step in (2, 4, 5) else total)
    with pytest.raises(RunError, match=r"2 steps in a row, up to step 5, .* lower --lr.*more slowly.*skipped"):
        train(tmp_path, AnnealCurriculum(), lr=3e-3)
    checkpoint, refused = last_checkpoint(tmp_path)
    assert (checkpoint.name, refused) == ("checkpoint-4", [])


def test_grpo_skips_too(make_model, tokenizer, tmp_path, monkeypatch):
    loss, steps = FramedGrpoTrainer.compute_loss, itertools.count(1)

    def spoiled(*args, **kwargs):
        return loss(*args, **kwargs) * (float("nan") if next(steps) == 2 else 1.0)

    monkeypatch.setattr(FramedGrpoTrainer, "compute_loss", spoiled)
    examples = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 8))
    settings = TrainSettings(steps=3, batch_size=4, lr=1e-2, warmup=0.0, log_every=1)
    result = fit_grpo(
        make_model(num_thoughts=0, words_format="tags"), tokenizer, examples, [lambda q, c, a: float(len(c))], "words",
        settings, GrpoSettings(num_generations=4, max_new_tokens=4), tmp_path, LoraSettings(),
    )  # fmt: skip
    assert result.metrics[-2]["skipped"] == 1
    assert "completion_ids" in load_file(tmp_path / "skipped" / "step-2" / "0.safetensors")


def test_a_spike_holds_p_at_once_and_says_so(train, tmp_path, monkeypatch, capsys):
    # ordinary losses lie near 5.5, under the gate; the spike of step 4 moves the smoothed loss to 8 only
    spoil(monkeypatch, lambda step, total: total * 10 if step == 4 else total)
    result = train(tmp_path, AnnealCurriculum(p_shape="gated", gate_loss=20.0, anchor_weight=0.0))
    p = [entry["p"] for entry in result.metrics if "p" in entry]
    falls = [before - after for before, after in itertools.pairwise(p)]
    assert [fall > 0 for fall in falls] == [True, True, True, False, True]
    said = capsys.readouterr()
    assert "step 4: p stays at" in said.out + said.err
    assert "step 5: p falls" in said.out + said.err


def test_out_of_memory_says_what_to_lower(train, undisturbed, tmp_path, monkeypatch, logged):
    step = CurriculumTrainer.training_step

    def exhausted(self, *args):
        if self.state.global_step == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 4.00 GiB")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(CurriculumTrainer, "training_step", exhausted)
        with pytest.raises(RunError, match=r"out of memory in step 4 .*--batch-size 2 --accumulate 2.*--checkpointing"):
            train(tmp_path)
    train(tmp_path, resume=True)
    assert logged(tmp_path) == undisturbed


def test_memory_may_run_out_anywhere():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 bytes.")
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of range"))


def test_the_remedy_keeps_the_step_as_it_is(tmp_path):
    class Arguments:
        per_device_train_batch_size, gradient_accumulation_steps, activation_checkpointing = 9, 2, True
        max_completion_length = 64

    said = str(out_of_memory(Arguments, 1, MemoryError()))
    assert "--batch-size 3 --accumulate 6" in said
    assert "--max-new-tokens 32" in said
    assert "--checkpointing" not in said
