"""Loading, saving and generating as users of transformers expect, and the earlier package's usage as published."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    GemmaForCausalLM,
    LlamaConfig,
    pipeline,
)

from latent_gemma import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.generation import answers
from latent_gemma.model.config import as_latent_config
from latent_gemma.model.gemma import is_latent_parameter
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from tests.conftest import BOT, EOT, RECURRENCES, THOUGHT, every_family
from tests.saving import save_tiny

BASES = {"gemma": GemmaForCausalLM, "gemma2": Gemma2ForCausalLM, "gemma3": Gemma3ForCausalLM}
SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


@pytest.fixture
def plain(tmp_path):
    """A plain Gemma directory, written by the stock class."""

    def write(family="gemma2"):
        latent = build_tiny(family, **SIZES)
        base = BASES[family].config_class(**{**latent.config.to_dict(), "model_type": family})
        del base.latent
        model = BASES[family](base)
        model.load_state_dict(latent.state_dict())
        folder = tmp_path / "plain"
        model.save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
        return folder, model.eval()

    return write


@every_family
def test_a_plain_gemma_becomes_a_latent_one_at_its_identity_start(family, plain):
    folder, base = plain(family)
    latent = LatentConfig(bridge="mlp", adapter="lora", num_thoughts=2)
    model = LatentReasoningGemmaForCausalLM.from_pretrained(folder, latent=latent)
    assert isinstance(model, LatentReasoningGemmaForCausalLM)
    assert isinstance(model, BASES[family])
    assert model.config.latent.embed_rms > 0
    for name, value in base.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not model.model.bridge.out.weight.any()
    assert not model.model.layers[0].mlp.up_proj.thought_b.any()
    assert model.model.layers[0].mlp.up_proj.thought_a.any()
    ids = torch.tensor([[20, 21, 22, 23]])
    assert torch.equal(model.eval()(ids).logits, base(ids).logits)


@every_family
@pytest.mark.parametrize(("bridge", "adapter"), [("identity", "none"), ("linear", "full"), ("mlp", "lora")])
def test_a_latent_checkpoint_round_trips_and_loads_into_the_plain_class(family, bridge, adapter, tmp_path):
    latent = LatentConfig(bridge=bridge, adapter=adapter, p=0.3, num_thoughts=3, step_separator=";")
    model = build_tiny(family, latent, **SIZES).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_latent_parameter(name):
                parameter.normal_()
    model.save_pretrained(tmp_path)
    for load in (LatentReasoningGemmaForCausalLM, AutoModelForCausalLM):
        again = load.from_pretrained(tmp_path)
        assert type(again) is type(model)
        assert again.config.latent == model.config.latent
        assert again.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
    stock = BASES[family].from_pretrained(tmp_path, attn_implementation="eager")
    ids = torch.tensor([[20, 21, 22, 23]])
    assert torch.equal(stock.eval()(ids).logits, model(ids).logits)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert "model.layers.0.self_attn.q_proj.weight" in stored


def test_settings_given_on_loading_replace_the_stored_ones(tmp_path):
    save_tiny(tmp_path, latent=LatentConfig(num_thoughts=3), **SIZES)
    model = LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path, latent={"num_thoughts": 1, "p": 0.5})
    assert (model.config.latent.num_thoughts, model.config.latent.p) == (1, 0.5)
    assert AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("<unused1>") == THOUGHT


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_thoughts": -1}, "num_thoughts is -1"),
        ({"num_thoughts": 1.5}, "num_thoughts is 1.5"),
        ({"p": 1.01}, r"p is 1.01, outside \[0, 1\]"),
        ({"p": True}, "p is True"),
        ({"c_thought": 0}, "c_thought is 0"),
        ({"bridge": "tunnel"}, "bridge is 'tunnel': choose one of identity, linear, mlp"),
        ({"recurence": "append"}, "unknown latent setting 'recurence'"),
        ({"bot_id": 8}, "not three different ids"),
        ({"backprop_steps": 0}, "backprop_steps is 0"),
        ({"question_visibility": 0.5}, "unknown latent setting 'question_visibility'"),
        ({"mix": "variance_preserving"}, "unknown latent setting 'mix'"),
    ],
)
def test_latent_settings_are_read_strictly(settings, message):
    with pytest.raises(ConfigError, match=message):
        LatentConfig.from_value(settings)


def test_configurations_that_cannot_think_are_refused():
    with pytest.raises(ModelError, match="'llama' is not a Gemma text model"):
        as_latent_config(LlamaConfig())
    config = build_tiny(**SIZES).config
    with pytest.raises(ConfigError, match="outside a vocabulary of 268"):
        as_latent_config(config, {"bot_id": 300})
    changed = as_latent_config(config, {"p": 0.5})
    assert (config.latent.p, changed.latent.p) == (0.0, 0.5)
    assert changed._attn_implementation == config._attn_implementation == "eager"
    with pytest.raises(ConfigError, match="needs a configuration"):
        LatentReasoningGemmaForCausalLM()


@every_family
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_beam_search_with_a_cache_equals_beam_search_without(family, recurrence, make_model, prompts):
    model = make_model(family, recurrence=recurrence, p=0.2)
    options = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2, "pad_token_id": 0, "do_sample": False}
    cached = model.generate(prompts(), **options)
    assert torch.equal(cached, model.generate(prompts(), use_cache=False, **options))


def test_sampling_is_reproducible_and_never_draws_a_thought(make_model, prompts):
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight[THOUGHT] *= 50  # tied: the thought id would win nearly always
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(
            model.generate(prompts(), max_new_tokens=8, do_sample=True, num_return_sequences=4, pad_token_id=0)
        )
    assert torch.equal(*drawn)
    assert not (drawn[0][:, prompts().shape[1] :] == THOUGHT).any()


def test_generate_can_append_the_thoughts(make_model, prompts):
    model = make_model()
    bare = prompts()[:, :6]
    framed = prompts(thoughts=2)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(framed, **options)
    assert torch.equal(model.generate(framed, num_thoughts=5, **options), expected), "a framed prompt is left alone"
    expected[:, 6:10] = 0  # padding stands for the thoughts
    assert torch.equal(model.generate(bare, num_thoughts=2, **options), expected)
    assert torch.equal(model.generate(input_ids=bare, num_thoughts=2, **options), expected)


def test_pipeline(tmp_path):
    save_tiny(tmp_path, **SIZES)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    generator = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(tmp_path))
    prompt = "1+2=<unused0><unused1><unused1><unused2>"
    text = generator(prompt, max_new_tokens=3, do_sample=False)[0]["generated_text"]
    assert text.startswith(prompt)


def test_peft_adapts_through_the_thoughts(make_model, prompts):
    model = get_peft_model(make_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    ids = prompts(answer=2)
    labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - 2, ids, -100)
    model(input_ids=ids, labels=labels).loss.backward()
    gradients = [q.grad for name, q in model.named_parameters() if "lora_B" in name]
    assert gradients
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_a_deep_copy_thinks_with_its_own_head(make_model, prompts):
    model = make_model(p=1.0)
    before = model(prompts()).logits
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.lm_head.weight.normal_()
    assert torch.equal(model(prompts()).logits, before)
    assert not torch.allclose(twin(prompts()).logits, before)


@pytest.fixture
def default_config():
    kept = LatentReasoningGemmaForCausalLM.DEFAULT_CONFIG
    yield
    LatentReasoningGemmaForCausalLM.DEFAULT_CONFIG = kept


@pytest.mark.parametrize("kind", ["plain", "latent"])
def test_the_earlier_packages_published_usage(kind, plain, tmp_path, default_config):
    if kind == "plain":
        model_path, _ = plain()
    else:
        model_path = save_tiny(tmp_path / "latent", **SIZES)
    published = {
        "continuous_thoughts": 4, "stages": 4, "training_thoughts_sequence_length": 50, "fuzzy_matcher_threshold": 80,
        "cot_decoding_k": 5, "max_length": 256,
    }  # fmt: skip
    assert published.items() <= LatentReasoningGemmaForCausalLM.DEFAULT_CONFIG.items()
    assert {"bot_id", "eot_id", "answer_id", "debug"} <= LatentReasoningGemmaForCausalLM.DEFAULT_CONFIG.keys()
    text = "1+2="

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model_config = AutoConfig.from_pretrained(model_path)
    config = {"max_length": 256, "continuous_thoughts": 3}
    latent_config = LatentReasoningGemmaForCausalLM.DEFAULT_CONFIG
    LatentReasoningGemmaForCausalLM.DEFAULT_CONFIG = {**latent_config, **config}
    model = LatentReasoningGemmaForCausalLM(config=model_config)
    model = model.from_pretrained(model_path)
    model.tokenizer = tokenizer
    output = model.generate(tokenizer(text, return_tensors="pt").input_ids, max_length=32)
    thoughts = 3 if kind == "plain" else 4
    assert model.config.latent.num_thoughts == thoughts
    asked = tokenizer(text).input_ids
    assert output[0, len(asked) : len(asked) + thoughts + 2].tolist() == [0] * (thoughts + 2), "of the thoughts"
    framed = torch.tensor([[*asked, BOT, *[THOUGHT] * thoughts, EOT]])
    model.tokenizer = None
    assert torch.equal(model.generate(framed, max_length=32)[0, framed.shape[1] :], output[0, framed.shape[1] :])
    output = model.generate_answer(model=model, tokenizer=tokenizer, question=text, k=5, max_length=32)
    assert isinstance(output, str)


def test_a_model_that_has_its_tokenizer_is_asked_as_one_that_is_handed_it(make_model, tokenizer):
    model = make_model(num_thoughts=2, trained_for="latent")
    handed = model.generate_answer(tokenizer=tokenizer, question="1+2=", k=3, max_length=20, return_paths=True)
    model.tokenizer = tokenizer
    assert model.generate_answer(question="1+2=", k=3, max_length=20, return_paths=True) == handed


def test_paths_are_explored_in_one_batch_and_scored_each_for_itself(make_model, tokenizer, monkeypatch):
    model = make_model(num_thoughts=2)
    calls = []
    decode = answers.decode
    monkeypatch.setattr(answers, "decode", lambda m, ids, *rest, **kw: calls.append(ids) or decode(m, ids, *rest, **kw))
    paths = model.generate_answer(tokenizer=tokenizer, question="1+2=", k=4, max_length=20, return_paths=True)
    assert len(calls) == 1
    assert len(calls[0]) == 4
    confidences = [path.confidence for path in paths]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0.0 <= value <= 1.0 for value in confidences)
    assert paths[0].answer == model.generate_answer(tokenizer=tokenizer, question="1+2=", k=4, max_length=20)

    # once more, from plain forwards over each path written out: the first token's probability, then margins
    prompt = calls[0][0]
    first = model(prompt[None]).logits[0, -1].topk(4).indices
    recomputed = []
    for token in first:
        ids = torch.cat([prompt, token[None]])
        while len(ids) < 20 and ids[-1] != tokenizer.eos_token_id:
            logits = model(ids[None]).logits[0, -1].clone()
            logits[THOUGHT] = float("-inf")
            ids = torch.cat([ids, logits.argmax()[None]])
        logits = model(ids[None]).logits[0, len(prompt) - 1 : -1]
        best = logits.softmax(-1).topk(2).values
        sure = best[:, 0] - best[:, 1]
        sure[0] = logits[0].index_fill(0, torch.tensor([THOUGHT]), float("-inf")).softmax(-1)[token]
        span = [t != tokenizer.eos_token_id or i == 0 for i, t in enumerate(ids[len(prompt) :].tolist())]
        recomputed.append(sure[torch.tensor(span)].mean().item())
    assert len(set(recomputed)) == 4
    assert sorted(recomputed, reverse=True) == pytest.approx(confidences, abs=1e-4)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_paths_share_their_prompt(make_model, tokenizer, recurrence):
    model = make_model(num_thoughts=3, recurrence=recurrence)
    read = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, args: read.append(args[0].shape))
    explore = lambda **settings: model.generate_answer(  # noqa: E731
        tokenizer=tokenizer, question="1+2=", k=4, max_length=16, return_paths=True, **settings
    )
    explore()
    assert {rows for rows, length in read if length > 1} == {1}
    read.clear()
    explore(noise_std=0.1)
    shared = {4} if recurrence == "sequence" else {1, 4}  # the question, where the thoughts leave it alone
    assert {rows for rows, length in read if length > 1} == shared


def test_paths_can_differ_in_their_thoughts(make_model, tokenizer):
    model = make_model(num_thoughts=2)

    def confidences(**settings):
        torch.manual_seed(0)
        paths = model.generate_answer(
            tokenizer=tokenizer, question="1+2=", k=3, max_length=16, return_paths=True, **settings
        )
        return [path.confidence for path in paths]

    plain = confidences()
    assert confidences() == plain
    for settings in ({"noise_std": 0.5}, {"dropout": 0.3}, {"temperature": 2.0}, {"num_thoughts": 0}):
        assert confidences(**settings) != plain, settings


def test_what_generate_answer_cannot_do_is_named(make_model, tokenizer):
    model = make_model()
    with pytest.raises(ConfigError, match="has no tokenizer"):
        model.generate_answer(question="1")
    for k in (0, 269):
        with pytest.raises(ConfigError, match=f"k is {k}"):
            model.generate_answer(tokenizer=tokenizer, question="1", k=k)
