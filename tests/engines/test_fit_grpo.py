"""GRPO through TRL: the published settings, our prompts, our log-probabilities, thoughts included."""

import json
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from trl.trainer import base_trainer

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.engines.trl.fit_grpo import fit_grpo, grpo_arguments
from latent_gemma.engines.trl.rollouts import FramedGrpoTrainer
from latent_gemma.errors import ConfigError, DataError, RunError
from latent_gemma.generation.answers import choose_thoughts
from latent_gemma.model.prompt import Frame
from latent_gemma.training.checkpoints import last_checkpoint
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.rewarding import RewardBook
from latent_gemma.training.settings import GrpoSettings, LoraSettings, RewardSettings, TrainSettings
from tests.conftest import hesitant

chains = chain_examples(ChainConfig(2), "train", 0)
CHAINS = [next(chains) for _ in range(24)]
FAST = TrainSettings(steps=4, batch_size=8, lr=1e-2, warmup=0.0, log_every=1)
GROUPS = GrpoSettings(num_generations=4, max_new_tokens=6, sample_every=2)
NO_LORA = LoraSettings()


def even(question, completion, accepted):
    """A reward that even a random model gets now and then."""
    return float(sum(map(ord, completion)) % 2)


def longer(question, completion, accepted):
    return float(len(completion))


def test_the_settings_are_the_published_algorithm(tmp_path):
    arguments = grpo_arguments(FAST, GROUPS, 0.04, tmp_path)
    assert arguments.beta == 0.04
    assert arguments.loss_type == "grpo"
    assert arguments.scale_rewards == "group"
    assert arguments.importance_sampling_level == "token"
    assert not arguments.use_bias_correction_kl
    assert arguments.epsilon == 0.2
    assert arguments.epsilon_high is None
    assert arguments.delta is None
    assert (arguments.temperature, arguments.top_p, arguments.top_k, arguments.min_p) == (1.0, 1.0, 0, None)
    assert arguments.top_entropy_quantile == 1.0
    assert arguments.entropy_coef == 0.0
    assert not arguments.mask_truncated_completions
    assert not arguments.activation_checkpointing


def test_nothing_is_told_to_the_hub_unless_the_user_allows_it(make_model, tokenizer, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda **message: told.append(message["library_name"]))
    monkeypatch.delenv("CI", raising=False)  # where TRL is silent
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    model = make_model()

    def make():
        FramedGrpoTrainer(
            book=RewardBook([even], Frame(tokenizer, model.config.latent), "words"), num_thoughts=0, model=model,
            args=grpo_arguments(FAST, GROUPS, 0.0, tmp_path), processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"prompt": ["1"], "accepted": [["1"]]}),
        )  # fmt: skip

    make()
    assert told == []
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    make()
    assert told == ["trl"]


@pytest.mark.parametrize(
    ("mode", "latent"),
    [
        ("words", {"words_format": "tags", "num_thoughts": 0}),
        ("words", {"num_thoughts": 0}),
        ("latent", {"num_thoughts": 3}),
        ("latent", {"num_thoughts": 2, "p": 0.5, "bridge": "linear", "adapter": "lora", "trains": "thoughts"}),
    ],
)
def test_log_probabilities_of_trl_are_ours(make_model, tokenizer, tmp_path, mode, latent):
    model = make_model(**latent)
    frame = Frame(tokenizer, model.config.latent)
    thoughts = latent["num_thoughts"]
    trainer = FramedGrpoTrainer(
        book=RewardBook([even], frame, mode), num_thoughts=thoughts, model=model,
        args=grpo_arguments(FAST, GROUPS, 0.0, tmp_path), processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": ["1"], "accepted": [["1"]]}),
    )  # fmt: skip
    questions = ["1+2=", "what is 3+4?"]
    prompts, _, _ = trainer._tokenize_prompts(questions)
    assert prompts == [frame.prompt(question, mode, thoughts) for question in questions]
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("7 is so", "<answer>9</answer>")]
    width, after = max(map(len, prompts)), max(map(len, answers))
    ids, mask = torch.zeros((2, width + after), dtype=torch.long), torch.zeros((2, width + after), dtype=torch.long)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids[i, width - len(prompt) : width + len(answer)] = torch.tensor([*prompt, *answer])
        mask[i, width - len(prompt) : width + len(answer)] = 1
    model.train()
    theirs, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, after)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = torch.tensor([[*prompt, *answer]])
        logits = model(alone, attention_mask=torch.ones_like(alone)).logits[0, len(prompt) - 1 : -1]
        ours = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(theirs[i, : len(answer)], ours, rtol=1e-4, atol=1e-4)
        if mode == "latent":
            (gradient,) = torch.autograd.grad(theirs[i, : len(answer)].sum(), _latent_weight(model), retain_graph=True)
            assert gradient.abs().sum() > 0, "the gradient of an answer reaches the latent steps"


def _latent_weight(model):
    bridge = model.model.bridge
    return model.model.embed_tokens.weight if bridge is None else bridge.out.weight


def test_rewards_move_the_latent_phase_and_nothing_that_is_frozen(make_model, tokenizer, tmp_path):
    latent = {"num_thoughts": 2, "bridge": "linear", "adapter": "lora", "trains": "thoughts"}
    model = make_model(**latent)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = fit_grpo(model, tokenizer, CHAINS, [even], "latent", FAST, GROUPS, tmp_path, NO_LORA)
    after = result.model.state_dict()
    assert not torch.equal(after["model.bridge.out.weight"], before["model.bridge.out.weight"])
    assert any("thought_b" in name and not torch.equal(after[name], before[name]) for name in after)
    frozen = [name for name in after if "bridge" not in name and "thought_" not in name]
    assert all(torch.equal(after[name], before[name]) for name in frozen)


@pytest.mark.parametrize("lora", [NO_LORA, LoraSettings(rank=2)], ids=["all", "lora"])
def test_a_reward_that_can_be_had_goes_up(make_model, tokenizer, tmp_path, lora):
    model = make_model(num_thoughts=0, words_format="tags")
    settings = TrainSettings(steps=30, batch_size=16, lr=1e-2, warmup=0.0, log_every=1)
    groups = GrpoSettings(num_generations=8, max_new_tokens=6, sample_every=0)
    result = fit_grpo(model, tokenizer, CHAINS, [longer], "words", settings, groups, tmp_path, lora, beta=0.01)
    entries = [entry for entry in result.metrics if "reward" in entry]
    assert len(entries) == 30
    rewards = [entry["rewards/longer/mean"] for entry in entries]
    assert sum(rewards[-5:]) > 1.2 * sum(rewards[:5])
    assert entries[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert entries[-1]["kl"] > 1e-3
    watched = {"frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio", "clip_ratio/region_mean"}
    assert watched <= entries[-1].keys()
    assert result.notes == ()
    assert (tmp_path / "adapter" / "adapter_config.json").exists() == bool(lora.rank)
    loss = result.model(torch.tensor([[2, 20, 21]])).logits  # the model is an ordinary one again
    assert loss.shape == (1, 3, 268)


@pytest.mark.parametrize("lora", [NO_LORA, LoraSettings(rank=2)], ids=["all", "lora"])
def test_in_bfloat16_rollouts_and_reference_compute_as_training_does(
    make_model, tokenizer, tmp_path, monkeypatch, lora
):
    model = make_model(num_thoughts=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generate, score = model.generate, FramedGrpoTrainer._get_per_token_logps_and_entropies
    written, scored, dtypes = [], [], []

    def generating(*args, **kwargs):
        found = generate(*args, **kwargs, output_logits=True, return_dict_in_generate=True)
        dtypes.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        written.append((found.sequences, torch.stack(found.logits, 1).log_softmax(-1)))
        return found.sequences

    def scoring(trainer, scorer, ids, mask, after, *args, **kwargs):
        matrices = [x for name, x in scorer.named_parameters() if "up_proj" in name and "lora" not in name]
        dtypes.append(matrices[0].dtype)
        scored.append((ids, mask[:, -after:].bool(), score(trainer, scorer, ids, mask, after, *args, **kwargs)))
        return scored[-1][2]

    monkeypatch.setattr(model, "generate", generating)
    monkeypatch.setattr(FramedGrpoTrainer, "_get_per_token_logps_and_entropies", scoring)
    settings = replace(FAST, precision="bfloat16")
    result = fit_grpo(model, tokenizer, CHAINS, [even], "latent", settings, GROUPS, tmp_path, lora)
    # rollouts, reference, training: only all weights that train are not held in bfloat16, and autocast casts those
    held = torch.bfloat16 if lora.rank else torch.float32
    assert dtypes == [torch.bfloat16, torch.bfloat16, held] * 4
    (ids, sampled), (same, real, (reference, *_)) = written[0], scored[0]
    assert torch.equal(ids[:, -real.shape[1] :][real], same[:, -real.shape[1] :][real])
    chosen = sampled.gather(-1, ids[:, -real.shape[1] :, None])[..., 0]
    torch.testing.assert_close(chosen[real], reference[real], rtol=0.0, atol=0.03)
    assert next(entry["kl"] for entry in result.metrics if "kl" in entry) == pytest.approx(0.0, abs=1e-4)
    after = result.model.state_dict()
    assert {value.dtype for value in after.values()} == {torch.float32}
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert len(moved) == (14 if lora.rank else len(after))


def test_flat_rewards_are_said_to_be_flat(make_model, tokenizer, tmp_path, capsys):
    settings = TrainSettings(steps=6, batch_size=4, lr=1e-3, warmup=0.0, log_every=1)
    model = make_model(num_thoughts=0, words_format="tags")
    rewards = RewardSettings().build("words")
    result = fit_grpo(model, tokenizer, CHAINS, rewards, "words", settings, GROUPS, tmp_path, NO_LORA)
    assert "all completions got the same reward" in result.notes[0]
    assert "The reward stayed flat" in result.notes[1]
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [2] * 4 + [4] * 4 + [6] * 4
    assert samples[0]["scores"].keys() == {"correctness", "format", "broken_tags", "short_reasoning"}
    assert samples[0]["question"] in {example.question for example in CHAINS}
    assert "step 6" in capsys.readouterr().out


# with two updates a batch of rollouts, the third step is in the middle of one, whose samples the fourth shows
@pytest.mark.parametrize(("iterations", "stop"), [(1, 2), (2, 3)])
def test_a_stopped_run_resumes_as_if_never_stopped(make_model, tokenizer, tmp_path, monkeypatch, iterations, stop):
    groups = replace(GROUPS, iterations=iterations)

    def run(folder, resume=False):
        folder.mkdir(exist_ok=True)
        model = make_model(num_thoughts=0, words_format="tags")
        return fit_grpo(model, tokenizer, CHAINS, [even], "words", FAST, groups, folder, NO_LORA, resume=resume)

    whole = run(tmp_path / "whole")

    def ask_in_that_step(self, args, state, control, **kwargs):
        self.asked = state.global_step + 1 >= stop

    with monkeypatch.context() as patch:
        patch.setattr(CleanStop, "on_step_begin", ask_in_that_step)
        stopped = run(tmp_path / "cut")
    assert not stopped.finished
    assert last_checkpoint(tmp_path / "cut")[0].name == f"checkpoint-{stop}"
    resumed = run(tmp_path / "cut", resume=True)
    assert resumed.finished

    def logged(result):
        keys = ("step", "loss", "reward", "kl")
        return [[entry.get(key) for key in keys] for entry in result.metrics if "loss" in entry]

    assert logged(whole) == logged(resumed)
    samples = [(tmp_path / name / "samples.jsonl").read_text() for name in ("whole", "cut")]
    assert samples[0] == samples[1]
    assert samples[0].count("\n") == 16
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_what_cannot_train_is_refused(make_model, tokenizer, tmp_path):
    def run(**changes):
        given = {
            "model": make_model(words_format="tags"), "tokenizer": tokenizer, "examples": CHAINS, "rewards": [even],
            "mode": "words", "settings": FAST, "grpo": GROUPS, "run": tmp_path, "lora": NO_LORA,
        }  # fmt: skip
        return fit_grpo(**(given | changes))

    with pytest.raises(ConfigError, match="neither a thought adapter nor a bridge"):
        run(model=make_model(trains="thoughts"))
    with pytest.raises(ConfigError, match="no whole number of groups"):
        run(settings=TrainSettings(steps=1, batch_size=6))
    with pytest.raises(ConfigError, match="needs vLLM"):
        run(grpo=GrpoSettings(num_generations=4, vllm="colocate"))
    with pytest.raises(ConfigError, match="names no projection"):
        run(lora=LoraSettings(rank=2, targets=("nothing",)))
    with pytest.raises(DataError, match="example 1 has a prompt of"):
        run(examples=[Example("1" * 2100, (), "1")])
    with pytest.raises(RunError, match="holds no checkpoint"):
        run(resume=True)


def test_a_step_that_changes_no_weight_is_an_error(make_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    model = make_model(num_thoughts=0, words_format="tags")
    with pytest.raises(RunError, match="changed no weight"):
        fit_grpo(model, tokenizer, CHAINS, [even], "words", FAST, GROUPS, tmp_path, NO_LORA)


@pytest.mark.parametrize(
    "wrong", [{"num_generations": 1}, {"temperature": 0.0}, {"iterations": 0}, {"max_new_tokens": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        GrpoSettings(**wrong)


def test_where_k_is_learnt_each_prompt_thinks_as_long_as_it_chooses(make_model, tokenizer, tmp_path, monkeypatch):
    model = hesitant(make_model(num_thoughts=2, learned_k=True, max_thoughts=5))
    frame = Frame(tokenizer, model.config.latent)
    seen, original = {}, FramedGrpoTrainer._tokenize_prompts

    def spy(trainer, prompts):
        found = original(trainer, prompts)
        if not seen:  # before the first step
            seen.update(zip(prompts, found[0], strict=True))
            chosen = choose_thoughts(model, [frame.prompt(one, "latent", "auto") for one in seen], 0)
            assert [*seen.values()] == [frame.prompt(one, "latent", k) for one, k in zip(seen, chosen, strict=True)]
        return found

    monkeypatch.setattr(FramedGrpoTrainer, "_tokenize_prompts", spy)
    before = model.model.embed_tokens.weight.detach().clone()
    result = fit_grpo(
        model, tokenizer, CHAINS, [even], "latent", replace(FAST, steps=1, batch_size=32), GROUPS, tmp_path, NO_LORA
    )
    assert len({len(ids) for ids in seen.values()}) > 1
    assert result.finished
    assert not torch.equal(result.model.model.embed_tokens.weight, before)


def test_thoughts_that_do_not_say_when_to_stop_are_refused(make_model, tokenizer, tmp_path):
    model = make_model(num_thoughts=2, learned_k=True, recurrence="sequence")
    with pytest.raises(ConfigError, match='recurrence "sequence"'):
        fit_grpo(model, tokenizer, CHAINS, [even], "latent", FAST, GROUPS, tmp_path, NO_LORA)
