"""Training runs on a model small enough to train in seconds."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.data.symbolic import SymbolicConfig, symbolic_examples
from latent_gemma.errors import ConfigError, RunError
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM, is_latent_parameter
from latent_gemma.training.checkpoints import last_checkpoint
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.curriculum import (
    AnnealCurriculum,
    CoconutCurriculum,
    CodiCurriculum,
    InternalizeCurriculum,
    WrittenCurriculum,
)
from latent_gemma.training.fit import fit
from latent_gemma.training.run_log import read_metrics
from latent_gemma.training.settings import LoraSettings, TrainSettings
from latent_gemma.training.trainer import CurriculumTrainer

CHAINS = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 64))
GRAPHS = list(itertools.islice(symbolic_examples(SymbolicConfig(6, 6, 1, 2), "train", 0), 16))
FAST = TrainSettings(steps=6, batch_size=8, lr=1e-3, log_every=1)
LATENT = {"step_separator": "", "num_thoughts": 2}


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize(
    "curriculum",
    [WrittenCurriculum("words"), WrittenCurriculum("none"), CoconutCurriculum(max_latent_stage=2, uniform_prob=0.5),
     InternalizeCurriculum(max_latent_stage=2), AnnealCurriculum(grow_until=0.5), CodiCurriculum(2)],
    ids=["words", "none", "coconut", "internalize", "anneal", "codi"],
)  # fmt: skip
def test_every_curriculum_trains_and_logs(curriculum, make_model, tokenizer, tmp_path):
    model = make_model(bridge="linear", **LATENT)
    before = weights(model)
    result = fit(model, tokenizer, CHAINS, curriculum, FAST, tmp_path, "test")
    assert result.finished
    assert result.steps == 6
    assert any(not torch.equal(before[name], value) for name, value in result.model.named_parameters())
    entries = read_metrics(tmp_path / "metrics.jsonl")
    steps = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert all(
        {"p", "K", "stage", "tokens", "answer_loss", "grad_norm", "learning_rate"} <= entry.keys() for entry in steps
    )
    if isinstance(curriculum, AnnealCurriculum):
        assert steps[0]["p"] == 0.9
        assert steps[-1]["p"] == 0.0
        assert steps[0]["K"] == 1
        assert steps[-1]["K"] == 2
        assert {"latent_grad_norm_1", "latent_grad_norm_2"} <= steps[-1].keys()
        assert all(entry["halt_loss"] > 0.0 for entry in steps)
    if isinstance(curriculum, CoconutCurriculum):
        assert [entry["stage"] for entry in steps] == [1, 1, 2, 2, 2, 2]
        assert all(entry["p"] == 0.0 for entry in steps)


def test_loss_falls(make_model, tokenizer, tmp_path):
    settings = TrainSettings(steps=40, batch_size=16, lr=3e-3, log_every=5)
    result = fit(make_model(**LATENT), tokenizer, CHAINS, WrittenCurriculum(), settings, tmp_path, "test")
    losses = [entry["loss"] for entry in result.metrics if "loss" in entry]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("recurrence", ["append", "sequence", "parallel"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_phases_stay_bit_for_bit(recurrence, checkpointing, precision, make_model, tokenizer, tmp_path):
    model = make_model(trains="thoughts", adapter="lora", bridge="mlp", recurrence=recurrence, **LATENT)
    before = weights(model)
    settings = TrainSettings(steps=3, batch_size=4, lr=1e-2, precision=precision, checkpointing=checkpointing)
    curriculum = AnnealCurriculum(learn_k=recurrence != "sequence")
    fit(model, tokenizer, CHAINS, curriculum, settings, tmp_path, "test")
    for name, value in model.named_parameters():
        assert value.dtype == torch.float32
        moved = not torch.equal(before[name], value)
        assert moved == is_latent_parameter(name), name


def test_lora_is_merged_into_plain_weights(make_model, tokenizer, tmp_path):
    model = make_model(**LATENT)
    names, before = set(model.state_dict()), weights(model)
    result = fit(model, tokenizer, CHAINS, WrittenCurriculum(), FAST, tmp_path, "test", lora=LoraSettings(rank=2))
    assert set(result.model.state_dict()) == names
    after = weights(result.model)
    assert not torch.equal(
        after["model.layers.0.self_attn.q_proj.weight"], before["model.layers.0.self_attn.q_proj.weight"]
    )
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])


def test_an_adapter_trained_in_bfloat16_is_merged_in_float32(make_model, tokenizer, tmp_path, monkeypatch):
    model, seen = make_model(**LATENT), []
    before, enter = weights(model), CurriculumTrainer.enter_stage
    matrix = model.model.layers[0].mlp.up_proj.weight
    monkeypatch.setattr(CurriculumTrainer, "enter_stage", lambda self: seen.append(matrix.dtype) or enter(self))
    lora = LoraSettings(rank=2, alpha=8)
    settings = replace(FAST, precision="bfloat16")
    result = fit(model, tokenizer, CHAINS, AnnealCurriculum(), settings, tmp_path, "test", lora=lora)
    assert seen == [torch.bfloat16] * 6  # while it trained
    adapter, merged = load_file(tmp_path / "adapter" / "adapter_model.safetensors"), 0
    for name, value in result.model.named_parameters():
        expected, place = before[name], f"base_model.model.{name.removesuffix('.weight')}"
        if f"{place}.lora_A.weight" in adapter:
            merged += 1
            expected = expected + adapter[f"{place}.lora_B.weight"] @ adapter[f"{place}.lora_A.weight"] * 4
        assert value.dtype == torch.float32
        assert torch.equal(value, expected), name
    assert merged == 14


#: Everything trains, or something beside frozen weights that are held in bfloat16.
RESUMED = {
    "all": ("float32", None, {"bridge": "linear"}, CHAINS),
    "lora": ("bfloat16", LoraSettings(rank=2, dropout=0.1), {"bridge": "linear"}, CHAINS),
    "pause": ("float32", LoraSettings(rank=2, dropout=0.1), {"fed": "pause"}, CHAINS),
    "thoughts": ("bfloat16", None, {"trains": "thoughts", "adapter": "lora", "bridge": "linear"}, CHAINS),
    "told anew": ("float32", None, {}, GRAPHS),
}


@pytest.mark.parametrize(("precision", "lora", "latent", "rows"), RESUMED.values(), ids=RESUMED)
def test_a_stopped_run_resumes_as_if_never_stopped(
    precision, lora, latent, rows, make_model, tokenizer, tmp_path, monkeypatch
):
    curriculum = AnnealCurriculum(grow_until=0.5, p_shape="gated", gate_loss=100.0)

    def run(folder, model, resume=False):
        settings = replace(FAST, precision=precision)
        return fit(model, tokenizer, rows, curriculum, settings, tmp_path / folder, "test", lora, resume)

    whole = run("whole", make_model(**latent, **LATENT))

    with monkeypatch.context() as patch:
        patch.setattr(
            CleanStop, "on_step_begin",
            lambda self, args, state, control, **kw: setattr(self, "asked", state.global_step >= 2), raising=False,
        )  # fmt: skip
        stopped = run("cut", make_model(**latent, **LATENT))
    assert not stopped.finished
    assert stopped.steps == 3
    checkpoint, _ = last_checkpoint(tmp_path / "cut")
    assert checkpoint.name == "checkpoint-3"

    again = make_model(**latent, **LATENT)
    if lora is None:
        kept = LatentReasoningGemmaForCausalLM.from_pretrained(checkpoint)
        assert {value.dtype for value in kept.parameters()} == {torch.float32}
        with torch.no_grad():
            again.model.embed_tokens.weight.zero_()  # what it goes on from must be the checkpoint
    resumed = run("cut", again, resume=True)
    assert resumed.finished
    if "fed" in latent:
        assert not torch.equal(whole.model.model.pause, make_model(**latent, **LATENT).model.pause), "it trains"
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name

    def logged(result):
        kept = ("step", "loss", "p", "K", "grad_norm")
        return [[entry[key] for key in kept] for entry in result.metrics if "loss" in entry]

    assert logged(whole) == logged(resumed)
    told = [entry["seconds"] for entry in resumed.metrics]
    assert told == sorted(told), "time goes on where the session before ended"
    assert resumed.seconds > told[2] >= stopped.metrics[2]["seconds"] > 0.0, "and a run has taken that of all sessions"


@pytest.mark.parametrize("groups", [False, True])
def test_every_pass_tells_a_graph_anew(groups, make_model, tokenizer, tmp_path, monkeypatch):
    told, lay_out = [], CurriculumTrainer._rows

    def noted(self, indices):
        rows = lay_out(self, indices)
        told.extend(
            (self.state.global_step // 2, index, tuple(row.ids)) for index, row in zip(indices, rows, strict=True)
        )
        return rows

    monkeypatch.setattr(CurriculumTrainer, "_rows", noted)
    settings = replace(FAST, group_by_length=groups)
    runs = []
    for run in ("one", "other"):
        fit(make_model(**LATENT), tokenizer, GRAPHS, WrittenCurriculum("none"), settings, tmp_path / run, "test")
        runs.append(told.copy())
        told.clear()
    assert runs[0] == runs[1], "drawn from the seed, the pass and the row"
    texts = {index: [ids for _, row, ids in runs[0] if row == index] for index in range(len(GRAPHS))}
    assert sorted((done, index) for done, index, _ in runs[0]) == [(done, i) for done in range(3) for i in range(16)]
    assert all(len({*passes}) == 3 and len({len(ids) for ids in passes}) == 1 for passes in texts.values())


def mixed_chains(lengths):
    return [next(chain_examples(ChainConfig(length), "train", seed)) for seed, length in enumerate(lengths)]


def test_every_example_has_its_own_k_and_what_is_saved_says_so(make_model, tokenizer, tmp_path):
    data, latent = mixed_chains([1, 3, 2, 1, 3, 2, 1, 1]), {"step_separator": ";", "num_thoughts": 9}
    for name, curriculum, c_thought, k, learned in (
        ("steps", AnnealCurriculum(), 2, 6, True),
        ("tokens", AnnealCurriculum(), "tokens", 6, True),
        ("half", AnnealCurriculum(compress="1,0.5"), "tokens", 3, True),
        ("bounded", AnnealCurriculum(max_latent_steps=2), 1, 2, True),
        ("fixed", AnnealCurriculum(learn_k=False), 1, 3, False),
        ("all", CoconutCurriculum(max_latent_stage=3), 1, 3, True),
        ("rest", CoconutCurriculum(max_latent_stage=2), 1, 2, False),
        ("dropped", CoconutCurriculum(max_latent_stage=2, final_stages=1), 1, 2, True),
        ("none", InternalizeCurriculum(max_latent_stage=3), 1, 0, False),
    ):
        settings = replace(FAST, steps=4)
        result = fit(
            make_model(c_thought=c_thought, **latent), tokenizer, data, curriculum, settings, tmp_path / name, ""
        )
        saved = result.model.config.latent
        assert (saved.num_thoughts, saved.learned_k) == (k, learned), name
        assert saved.own_thoughts == ("auto" if learned else k)
        assert saved.thoughts_per_token == (0.5 if name == "half" else 1.0)
        assert [bool(note) for note in result.notes] == [True] * (name == "rest"), name
    with pytest.raises(ConfigError, match="--no-learn-k with --c-thought tokens"):
        fit(make_model(c_thought="tokens"), tokenizer, data, AnnealCurriculum(learn_k=False), FAST, tmp_path / "x", "")
    with pytest.raises(ConfigError, match="--recurrence sequence cannot learn K"):
        fit(make_model(recurrence="sequence"), tokenizer, data, AnnealCurriculum(), FAST, tmp_path / "x", "")
    with pytest.raises(ConfigError, match="--compress with --c-thought 1"):
        fit(make_model(), tokenizer, data, AnnealCurriculum(compress="0.5"), FAST, tmp_path / "x", "")


def test_coconut_drops_the_optimizer_state_where_a_stage_begins(make_model, tokenizer, tmp_path, monkeypatch):
    sizes = []
    enter = CurriculumTrainer.enter_stage

    def watched(self):
        enter(self)
        sizes.append(len(self.optimizer.state) if self.optimizer is not None else 0)

    monkeypatch.setattr(CurriculumTrainer, "enter_stage", watched)
    fit(make_model(**LATENT), tokenizer, CHAINS, CoconutCurriculum(max_latent_stage=2), FAST, tmp_path / "a", "test")
    assert [size > 0 for size in sizes] == [False, True, False, True, True, True]
    sizes.clear()
    kept = CoconutCurriculum(max_latent_stage=2, reset_optimizer=False)
    fit(make_model(**LATENT), tokenizer, CHAINS, kept, FAST, tmp_path / "b", "test")
    assert [size > 0 for size in sizes] == [False, True, True, True, True, True]


def test_accumulation_equals_one_large_batch(make_model, tokenizer, tmp_path):
    small = TrainSettings(steps=2, batch_size=4, accumulate=2, lr=1e-3, warmup=0.0)
    large = TrainSettings(steps=2, batch_size=8, accumulate=1, lr=1e-3, warmup=0.0)
    same_length = [example for example in CHAINS if len(example.question) == 6][:16]
    models = [
        fit(make_model(**LATENT), tokenizer, same_length, AnnealCurriculum(), settings, tmp_path / str(i), "t").model
        for i, settings in enumerate((small, large))
    ]
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_without_written_steps_every_question_learns_its_answer_behind_the_same_thoughts(
    make_model, tokenizer, tmp_path
):
    plain = [replace(example, steps=()) for example in CHAINS]
    curriculum = AnnealCurriculum(learn_k=False, max_latent_steps=3, grow_until=0.5)
    settings = TrainSettings(steps=4, batch_size=4, lr=1e-3, log_every=1)
    result = fit(make_model(**LATENT), tokenizer, plain, curriculum, settings, tmp_path, "test")
    assert [entry["K"] for entry in result.metrics if "K" in entry] == [1, 2, 3, 3]
    assert not any(entry.get("anchor_loss") for entry in result.metrics)
    latent = result.model.config.latent
    assert (latent.num_thoughts, latent.learned_k, latent.trained_for, latent.p) == (3, False, "latent", 0.0)


def test_what_cannot_train_is_refused(make_model, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="neither a thought adapter nor a bridge"):
        fit(make_model(trains="thoughts", **LATENT), tokenizer, CHAINS, AnnealCurriculum(), FAST, tmp_path, "test")
    stepless = [Example("1", (), "1")]
    for curriculum, remedy in (
        (WrittenCurriculum(), "or --reasoning none"),
        (AnnealCurriculum(), "--no-learn-k --c-thought 1 --max-latent-steps 4"),
        (AnnealCurriculum(learn_k=False), "--max-latent-steps 4"),
        (CoconutCurriculum(), "use data with steps"),
        (CodiCurriculum(2), "use data with steps"),
    ):
        with pytest.raises(ConfigError, match=f"no example has written steps.*{remedy}"):
            fit(make_model(**LATENT), tokenizer, stepless, curriculum, FAST, tmp_path, "test")
    with pytest.raises(RunError, match="holds no checkpoint"):
        fit(make_model(), tokenizer, CHAINS, WrittenCurriculum(), FAST, tmp_path, "test", resume=True)


def test_a_metrics_file_cut_off_in_its_last_line_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n" + '{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
