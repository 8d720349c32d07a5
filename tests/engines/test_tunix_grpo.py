"""GRPO in Tunix computes what TRL computes from the same completions, and goes on where it was stopped."""

import itertools
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_gemma.cli import main
from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.engines.trl.fit_grpo import fit_grpo as fit_with_trl
from latent_gemma.engines.trl.fit_grpo import grpo_arguments
from latent_gemma.engines.trl.rollouts import FramedGrpoTrainer
from latent_gemma.errors import ConfigError
from latent_gemma.model.prompt import Frame
from latent_gemma.training.checkpoints import last_checkpoint
from latent_gemma.training.rewarding import RewardBook
from latent_gemma.training.run_log import read_metrics
from latent_gemma.training.settings import GrpoSettings, LoraSettings, TrainSettings

from .conftest import needs_tunix, stops_in_time_and_goes_on

pytestmark = needs_tunix
CHAINS = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 10))
#: Two questions a step, in two batches; rollouts serve for two steps, and a pass has ten.
SETTINGS = TrainSettings(steps=5, batch_size=4, accumulate=2, lr=5e-3, warmup=0.0, log_every=1)
GRPO = GrpoSettings(num_generations=4, max_new_tokens=6, temperature=0.7, iterations=2, sample_every=2)
LORA = LoraSettings(rank=4, alpha=8)


def even(question, completion, accepted):
    return float(sum(map(ord, completion)) % 2)


def longer(question, completion, accepted):
    return float("nan") if "a" in completion else float(len(completion))


@pytest.fixture
def start(make_model, tokenizer):
    """What every fit begins with."""

    def begin(**latent):
        model = make_model(num_thoughts=0, words_format="tags", **latent)
        return model, tokenizer, CHAINS, [even, longer], "words"

    return begin


def entries(result):
    return [entry for entry in result.metrics if "loss" in entry]


def trl_trainer(model, tokenizer, folder, grpo=GRPO, beta=0.0):
    from datasets import Dataset

    return FramedGrpoTrainer(
        book=RewardBook([even, longer], Frame(tokenizer, model.config.latent), "words"), num_thoughts=0, model=model,
        args=grpo_arguments(SETTINGS, grpo, beta, folder), processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": ["1"], "accepted": [["1"]]}),
    )  # fmt: skip


@pytest.mark.parametrize("spread", [3.0, 1e-4])
def test_advantages_are_those_of_trl(tunix_grpo, make_model, tokenizer, tmp_path, monkeypatch, spread):
    from tunix.rl.algo_core import compute_advantages

    trainer = trl_trainer(make_model(num_thoughts=0, words_format="tags"), tokenizer, tmp_path)
    scores = spread * torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    scores[2, 0] = scores[3] = scores[8:12] = torch.nan
    scores[12:] = 2.0
    monkeypatch.setattr(trainer, "_calculate_rewards", lambda *args: scores)
    expected = trainer._generate_and_score_completions([{"prompt": "1", "accepted": ["1"]}] * 16)["advantages"]
    rewards = scores.nansum(dim=1)
    rewards[scores.isnan().all(dim=1)] = torch.nan
    ours = tunix_grpo.trl_advantages(rewards.numpy(), 4)
    np.testing.assert_array_equal(ours, expected.numpy())
    assert expected[3] == 0.0
    assert expected[:3].abs().min() > 0.0
    # what has no score counts as 0 in Tunix, and it adds less to the deviation
    theirs = compute_advantages(np.nan_to_num(rewards.numpy()), 4)
    assert np.abs(theirs - ours)[4:8].max() > 1e-5
    assert theirs[3] != 0.0


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_loss_and_gradient_are_those_of_trl(tunix_grpo, make_model, tokenizer, tmp_path, temperature):
    import jax.numpy as jnp
    from flax import nnx
    from tunix.rl import algo_core, common
    from tunix.rl.grpo.grpo_learner import GRPOConfig, TrainExample

    from latent_gemma.engines.tunix.carried import Carried
    from latent_gemma.engines.tunix.framed_rollout import PAD_ID
    from latent_gemma.engines.tunix.weights import from_tunix

    rows, width, most = 8, 12, 10
    grpo, rng = replace(GRPO, temperature=temperature), np.random.default_rng(1)
    model = make_model(num_thoughts=0, words_format="tags")
    carried = Carried(model, replace(SETTINGS, batch_size=rows), None)
    module = carried.base()
    prompts, completions = np.full((rows, width), PAD_ID), np.full((rows, most), PAD_ID)
    for row in range(rows):
        before, behind = rng.integers(4, width + 1), rng.integers(1, most + 1)
        prompts[row, width - before :] = rng.integers(0, 268, before)
        completions[row, :behind] = rng.integers(0, 268, behind)  # the id of padding among them
    prompts, completions = prompts.astype(np.int32), completions.astype(np.int32)
    probabilities = common.compute_per_token_logps(
        *nnx.split(module), prompt_tokens=prompts, completion_tokens=completions, pad_id=PAD_ID, eos_id=1,
        temperature=temperature,
    )  # fmt: skip
    noise = rng.normal(size=(2, rows, most)).astype(np.float32)
    arrays = {
        "prompt_ids": prompts, "prompt_mask": prompts != PAD_ID, "completion_ids": completions,
        "completion_mask": completions != PAD_ID, "advantages": rng.normal(size=rows).astype(np.float32),
        "old_per_token_logps": np.asarray(probabilities) + 0.3 * noise[0],
        "ref_per_token_logps": np.asarray(probabilities) + 0.3 * noise[1],
    }  # fmt: skip
    config = tunix_grpo.published(grpo, 0.04)
    config.temperature = temperature  # as Tunix' learner does
    example = TrainExample(**{name: jnp.asarray(value) for name, value in arrays.items()})

    @nnx.jit
    def gradient(module, example):
        grad = nnx.value_and_grad(lambda m: algo_core.grpo_loss_fn(m, example, config, PAD_ID, 1), has_aux=True)
        return grad(module)

    (loss, aux), gradients = gradient(module, example)
    assert 0.1 < float(aux["pg_clipfrac"]) < 0.9
    trainer = trl_trainer(model, tokenizer, tmp_path, grpo)
    trainer.beta, trainer.current_gradient_accumulation_steps = 0.04, 1
    inputs = {name: torch.tensor(value) for name, value in arrays.items()}
    for name in ("prompt", "completion"):
        inputs[f"{name}_mask"] = inputs[f"{name}_mask"].long()
        inputs[f"{name}_ids"] = inputs[f"{name}_ids"].clamp(min=0).long()
    expected = trainer._compute_loss(trainer.model.train(), inputs)
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), abs=1e-6)
    assert float(aux["kl"]) == pytest.approx(trainer._metrics["train"]["kl"][0], abs=1e-6)
    clipped = trainer._metrics["train"]["clip_ratio/region_mean"][0]
    assert float(aux["pg_clipfrac"]) == pytest.approx(clipped, abs=1e-6)
    ours = from_tunix({path: np.asarray(value[...]) for path, value in nnx.to_flat_state(gradients)}, carried.config)
    theirs = {name: weight.grad.numpy() for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    assert ours.keys() == theirs.keys() - {"lm_head.weight"}
    for name, value in ours.items():
        assert np.abs(value - theirs[name]).max() < 1e-5 * np.abs(theirs[name]).max(), name
    # what Tunix computes unless it is told otherwise
    other = GRPOConfig(num_generations=4, beta=0.04)
    assert (other.kl_loss_mode, config.kl_loss_mode) == ("kl", "low_var_kl")


def test_the_same_completions_teach_the_same(tunix_grpo, start, tmp_path, monkeypatch):
    drawn, generate = [], tunix_grpo.FramedRollout.generate

    def keep(self, prompts, *args, **kwargs):
        output = generate(self, prompts, *args, **kwargs)
        drawn.append(([self._sampler.tokenizer.encode(prompt) for prompt in prompts], output.tokens))
        return output

    monkeypatch.setattr(tunix_grpo.FramedRollout, "generate", keep)
    for name in ("torch", "tunix"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    ours = tunix_grpo.fit_grpo(*start(), SETTINGS, GRPO, Path("tunix"), LoraSettings(), beta=0.04)
    assert (len(drawn), ours.finished, ours.steps) == (6, True, 5)

    def given(self, prompt_ids, *args, **kwargs):
        (first, tokens), (second, more) = drawn.pop(0), drawn.pop(0)
        assert prompt_ids == first + second
        return [ids.tolist() for ids in [*tokens, *more]], None

    monkeypatch.setattr(FramedGrpoTrainer, "_generate_single_turn", given)
    theirs = fit_with_trl(*start(), SETTINGS, GRPO, tmp_path / "torch", LoraSettings(), beta=0.04)
    assert drawn == []
    assert len(entries(ours)) == 5
    assert max(entry["clip_ratio/region_mean"] for entry in entries(ours)) > 0.0
    for entry, expected in zip(entries(ours), entries(theirs), strict=True):
        absent = {"step_time", *(name for name in expected if name.startswith("clip_ratio/"))}
        assert expected.keys() - absent <= entry.keys() <= expected.keys()
        assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-5, abs=1e-6)
        # means over the tokens of batches, and TRL shuffles completions between the batches of a step
        loose = {"kl", "entropy", "clip_ratio/region_mean"}
        for name in entry.keys() - {"seconds", "loss"}:
            rel = 0.3 if name in loose else 1e-4
            assert entry[name] == pytest.approx(expected[name], rel=rel, abs=1e-6), name
    expected = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=0, msg=name)
    assert ours.model.config.latent == theirs.model.config.latent
    samples = [(tmp_path / name / "samples.jsonl").read_text() for name in ("torch", "tunix")]
    assert samples[0] == samples[1] != ""


def test_it_resumes_bit_for_bit_and_merges_what_it_trained(tunix_grpo, start, stop_after, tmp_path, monkeypatch):
    import jax.numpy as jnp
    from flax import nnx
    from tunix.sft import utils

    from latent_gemma.engines.tunix.session import Session

    modules, result = [], Session.result

    def keep(self, *args, **kwargs):
        modules.append(self.trainer.model)
        return result(self, *args, **kwargs)

    monkeypatch.setattr(Session, "result", keep)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = tunix_grpo.fit_grpo(*start(), SETTINGS, GRPO, tmp_path / "whole", LORA)
    step = int(np.random.default_rng().integers(1, 5))
    stop_after(step)
    before = signal.getsignal(signal.SIGTERM)
    part = tunix_grpo.fit_grpo(*start(), SETTINGS, GRPO, tmp_path / "cut", LORA)
    assert (part.finished, part.asked, part.steps) == (False, True, step)
    assert signal.getsignal(signal.SIGTERM) is before
    checkpoint, refused = last_checkpoint(tmp_path / "cut")
    assert (checkpoint.name, refused) == (f"checkpoint-{step}", [])
    rest = tunix_grpo.fit_grpo(*start(), SETTINGS, GRPO, tmp_path / "cut", LORA, resume=True)
    told = [[{k: v for k, v in entry.items() if k != "seconds"} for entry in entries(run)] for run in (whole, rest)]
    assert told[0] == told[1], f"stopped at {step}"
    state = rest.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, state[name]), f"{name}, stopped at {step}"
    samples = [(tmp_path / name / "samples.jsonl").read_text() for name in ("whole", "cut")]
    assert samples[0] == samples[1] != ""
    kl = [entry["kl"] for entry in entries(whole)]
    assert kl[0] < 1e-6 < max(kl)

    ids = np.random.default_rng(0).integers(12, 268, (2, 24))
    mask = jnp.ones(ids.shape, bool)
    positions, seen = utils.build_positions_from_mask(mask), utils.make_causal_attn_mask(mask)
    logits = nnx.jit(lambda module, ids: module(ids, positions, None, seen)[0])(modules[0], jnp.array(ids))
    with torch.no_grad():
        merged = whole.model(torch.tensor(ids)).logits.numpy()
        untrained = start()[0](torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(merged, np.asarray(logits), atol=1e-5)
    assert np.abs(merged - untrained).max() > 1e-3


def test_the_command_stops_in_time_goes_on_and_ends_in_a_model(tunix_grpo, start, tmp_path, capsys, monkeypatch):
    model, tokenizer, *_ = start()
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    options = "--data chains:length=2 --limit 10 --steps 5 --batch-size 4 --accumulate 2 --lr 5e-3 --log-every 1"
    # as above, so that nothing is compiled again
    options += " --warmup 0 --format tags --num-generations 4 --max-new-tokens 6 --temperature 0.7 --iterations 2"
    options += " --rank 4 --alpha 8 --engine tunix --mesh 1,1"
    command = ["train", "grpo", "--model", str(tmp_path / "base"), *options.split(), "--out", str(tmp_path / "run")]
    stops_in_time_and_goes_on(command, tmp_path / "run", capsys, monkeypatch)
    found = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [entry["step"] for entry in found if "loss" in entry] == [*range(1, 6)]
    assert {"reward", "kl", "completions/mean_length", "frac_reward_zero_std"} <= found[0].keys()
    assert main(["ask", str(tmp_path / "run"), "1+1=", "--max-new-tokens", "4"]) == 0


def test_it_runs_in_bfloat16_and_with_checkpointing(tunix_grpo, start, tmp_path):
    # one batch of rollouts that serves twice: what the second step learns needs no draw that rounding may turn
    settings, found = replace(SETTINGS, steps=2, batch_size=8, accumulate=1), {}
    for name, changes in {"plain": {}, "both": {"precision": "bfloat16", "checkpointing": True}}.items():
        (tmp_path / name).mkdir()
        result = tunix_grpo.fit_grpo(*start(), replace(settings, **changes), GRPO, tmp_path / name, LORA)
        assert all(value.dtype == torch.float32 for value in result.model.state_dict().values())
        found[name] = [entry["entropy"] for entry in entries(result)]
    assert found["both"] == pytest.approx(found["plain"], rel=0.05)
    assert found["both"] != found["plain"]


@pytest.mark.parametrize(
    ("changes", "grpo", "lora", "said"),
    [
        ({}, {"vllm": "colocate"}, {}, "--vllm colocate.*--vllm off"),
        ({"batch_size": 3}, {}, {}, "no whole number of groups"),
        ({"group_by_length": True}, {}, {}, "--group-by-length"),
        ({}, {}, {"rank": 4, "dropout": 0.1}, "--dropout"),
        ({"precision": "bfloat16"}, {}, {}, "--rank 16"),
        ({"mesh": "2,4"}, {}, {}, "needs more devices"),
        ({}, {"max_new_tokens": 4090}, {}, "window of 4096"),
    ],
)
def test_settings_it_cannot_use_are_refused(tunix_grpo, start, tmp_path, changes, grpo, lora, said):
    model, *rest = start()
    model.config.max_position_embeddings = 10_000
    with pytest.raises(ConfigError, match=said):
        tunix_grpo.fit_grpo(
            model, *rest, replace(SETTINGS, **changes), replace(GRPO, **grpo), tmp_path, LoraSettings(**lora)
        )
    assert list(tmp_path.iterdir()) == []


def test_thoughts_are_refused(tunix_grpo, start, tmp_path):
    *rest, _ = start()
    with pytest.raises(ConfigError, match="--engine torch"):
        tunix_grpo.fit_grpo(*rest, "latent", SETTINGS, GRPO, tmp_path, LORA)
