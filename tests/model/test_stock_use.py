"""The class as stock users hold it: Trainer, generate, pipelines, PEFT and TRL, as any model of transformers."""

import inspect
import math
import threading

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma2ForCausalLM,
    LogitsProcessor,
    TextIteratorStreamer,
    Trainer,
    TrainingArguments,
    pipeline,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from latent_gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.model.stock import CACHE
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from tests.conftest import BOT, EOT, RECURRENCES, THOUGHT, every_family

GREEDY = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": -1}
CHAT = (
    "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def save_plain(model, folder):
    """A model's weights as a publisher of plain Gemma 2 leaves them."""
    config = Gemma2ForCausalLM.config_class(**{**model.config.to_dict(), "model_type": "gemma2"})
    del config.latent
    stock = Gemma2ForCausalLM(config)
    stock.load_state_dict(model.state_dict())
    stock.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def plain(make_model, tmp_path):
    return save_plain(make_model(), tmp_path / "plain")


def rows(ids):
    return Dataset.from_dict(
        {"input_ids": ids.tolist(), "attention_mask": torch.ones_like(ids).tolist(), "labels": ids.tolist()}
    )


def quiet(kind, folder, **settings):
    return kind(
        str(folder), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1, **settings
    )


def test_the_signature_begins_as_the_stock_one(make_model):
    model = make_model()
    stock = Gemma2ForCausalLM(model.config)
    for own, theirs in ((model, stock), (model.model, stock.model)):
        wanted = [name for name in inspect.signature(theirs.forward).parameters if name != "kwargs"]
        assert list(inspect.signature(own.forward).parameters)[: len(wanted)] == wanted


def test_trainer_finds_the_columns_and_tells_a_loss(make_model, prompts, tmp_path):
    data = rows(prompts(batch=8, thoughts=2, answer=4))
    trainer = Trainer(
        make_model(),
        quiet(TrainingArguments, tmp_path, max_steps=2, eval_strategy="steps", eval_steps=1),
        train_dataset=data,
        eval_dataset=data,
    )
    trainer.train()
    assert all(math.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
    assert sum("eval_loss" in entry for entry in trainer.state.log_history) == 2


def test_trainer_trains_plain_text_as_the_stock_class(plain, tmp_path):
    ids = torch.randint(12, 260, (8, 10), generator=torch.Generator().manual_seed(0))
    curves = []
    for kind in (Gemma2ForCausalLM, LatentReasoningGemmaForCausalLM):
        arguments = quiet(
            TrainingArguments, tmp_path, max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=2
        )
        trainer = Trainer(kind.from_pretrained(plain), arguments, train_dataset=rows(ids))
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert curves[0] == curves[1]


@pytest.mark.parametrize("thoughts", [0, 3])
@torch.no_grad()
def test_padding_is_told_from_the_prompt_without_a_mask(make_model, prompts, thoughts):
    model, ids = make_model(), prompts(batch=2, thoughts=thoughts)[:, : None if thoughts else 6]
    ids[0, :3] = 0
    told = model.generate(ids, attention_mask=(ids != 0).long(), **GREEDY)
    assert torch.equal(model.generate(ids, **GREEDY), told)


@torch.no_grad()
def test_prompts_think_alike_whichever_side_is_padded(make_model, prompts):
    model = make_model()
    question = prompts(batch=2)[:, :6]
    left, right = question.clone(), question.clone()
    left[0, :2], right[0, 4:] = 0, 0
    for padded, alone in ((left, left[:1, 2:]), (right, right[:1, :4])):
        expected = model.generate(alone, num_thoughts=3, **GREEDY)[0, -6:]
        for given in ({}, {"attention_mask": (padded != 0).long()}):
            assert torch.equal(model.generate(padded, num_thoughts=3, **given, **GREEDY)[0, -6:], expected)


@torch.no_grad()
def test_a_typed_marker_concerns_its_own_row(make_model, prompts):
    model, ids = make_model(), prompts(batch=3)[:, :6]
    ids[0, 2] = BOT
    framed = torch.cat([ids, torch.tensor([[BOT, THOUGHT, THOUGHT, EOT]]).expand(3, -1)], dim=1)
    written = model.generate(ids, num_thoughts=2, **GREEDY)
    assert torch.equal(written[:, -6:], model.generate(framed, **GREEDY)[:, -6:])
    both = torch.stack([framed[1], torch.cat([torch.zeros(4, dtype=torch.long), ids[2]])])
    assert torch.equal(model.generate(both, num_thoughts=2, **GREEDY)[:, -6:], written[1:, -6:])


@torch.no_grad()
def test_every_turn_of_a_chat_thinks(make_model, prompts):
    model, first = make_model(), prompts(batch=1, answer=2)
    history = torch.cat([first, prompts(batch=1, seed=5)[:, :6]], dim=1)
    framed = torch.cat([history, torch.tensor([[BOT, THOUGHT, EOT]])], dim=1)
    expected = model.generate(framed, **GREEDY)[:, -6:]
    assert torch.equal(model.generate(history, num_thoughts=1, **GREEDY)[:, -6:], expected)


@pytest.mark.parametrize("thoughts", [0, 2])
@torch.no_grad()
def test_a_second_turn_with_the_cache_of_the_first(make_model, prompts, thoughts):
    model = make_model()
    first = prompts(batch=1, thoughts=thoughts)[:, : None if thoughts else 6]
    cache = DynamicCache(config=model.config)
    output = model.generate(first, return_dict_in_generate=True, **{CACHE: cache}, **GREEDY)
    second = torch.cat([output.sequences, prompts(batch=1, thoughts=thoughts, seed=5)], dim=1)
    expected = model.generate(second, **GREEDY)
    assert torch.equal(model.generate(second, **{CACHE: cache}, **GREEDY), expected)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@torch.no_grad()
def test_a_prompt_is_read_without_making_all_its_logits(make_model, prompts, recurrence):
    model, sizes = make_model(recurrence=recurrence), []
    model.lm_head.register_forward_hook(lambda module, args, output: sizes.append(output.shape[1]))
    model.generate(prompts(), **GREEDY)
    assert set(sizes) == {1}


@torch.no_grad()
def test_embeddings_of_a_prompt_think_as_its_ids(make_model, prompts):
    model, ids = make_model(p=0.3), prompts()
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=embeds).logits, model(ids).logits)
    assert torch.equal(model.generate(inputs_embeds=embeds, **GREEDY), model.generate(ids, **GREEDY)[:, ids.shape[1] :])


@torch.no_grad()
def test_what_num_thoughts_cannot_have_is_named(make_model, prompts, tokenizer):
    model, ids = make_model(), prompts()[:, :6]
    with pytest.raises(ConfigError, match="num_thoughts is -1"):
        model.generate(ids, num_thoughts=-1, **GREEDY)
    with pytest.raises(ConfigError, match="without a prompt's ids"):
        model.generate(inputs_embeds=model.get_input_embeddings()(ids), num_thoughts=1, **GREEDY)
    with pytest.raises(ConfigError, match="with a cache"):
        model.generate(ids, num_thoughts=1, **{CACHE: DynamicCache()}, **GREEDY)
    with pytest.raises(ModelError, match="contrastive search"):
        model.generate(ids, penalty_alpha=0.6, top_k=4)
    model.tokenizer = tokenizer
    assert model.generate(inputs_embeds=model.get_input_embeddings()(ids), **GREEDY).shape == (3, 6)


class Favourite(LogitsProcessor):
    def __call__(self, input_ids, scores):
        return scores.index_fill(-1, torch.tensor([THOUGHT]), 1e4)


@pytest.mark.parametrize(
    "settings",
    [
        {"suppress_tokens": [20], "sequence_bias": {(THOUGHT,): 1e4}},
        {"logits_processor": [Favourite()]},
        {"logits_processor": [Favourite()], "do_sample": True, "top_k": 1},
        {"logits_processor": [Favourite()], "num_beams": 2},
    ],
    ids=["bias", "processor", "sampled", "beams"],
)
@torch.no_grad()
def test_no_setting_lets_a_thought_be_generated(make_model, prompts, settings):
    ids = prompts()
    written = make_model().generate(ids, **{**GREEDY, **settings})
    assert not (written[:, ids.shape[1] :] == THOUGHT).any()


@torch.no_grad()
def test_text_shows_no_markers(make_model, tokenizer):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHAT
    for token in (BOT, THOUGHT, EOT):  # as in Gemma's own vocabulary, where they are not special
        tokenizer.added_tokens_decoder[token].special = False
    model = make_model()
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    settings = {"max_new_tokens": 3, "do_sample": False, "bad_words_ids": [[BOT], [EOT]], "num_thoughts": 2}
    chat = generator([{"role": "user", "content": "12+3="}], **settings)[0]["generated_text"]
    texts = [
        chat[-1]["content"],
        *(row[0]["generated_text"] for row in generator(["12+3=", "1"], batch_size=2, **settings)),
    ]
    assert not any("unused" in text for text in texts)
    assert texts[1].startswith("12+3=")


@torch.no_grad()
def test_settings_reach_no_other_thread(make_model, prompts):
    model, ids, found = make_model(), prompts(), []
    configured = model(ids).logits
    with model.thinking(p=1.0):
        thread = threading.Thread(target=lambda: found.append(model(ids).logits))
        thread.start()
        thread.join()
        assert not torch.equal(model(ids).logits, configured)
    torch.testing.assert_close(found[0], configured)  # with gradients, which the main thread has switched off
    assert torch.equal(model(ids).logits, configured)


def test_answers_are_streamed_from_a_thread(make_model, prompts, tokenizer):
    model, ids = make_model(), prompts(batch=1)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    thread = threading.Thread(target=model.generate, args=(ids,), kwargs={"streamer": streamer, **GREEDY})
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == tokenizer.decode(model.generate(ids, **GREEDY)[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_packed_rows_with_thoughts_are_refused(make_model, prompts, recurrence):
    model, ids = make_model(recurrence=recurrence), prompts(batch=1)
    positions = torch.cat([torch.arange(5), torch.arange(ids.shape[1] - 5)])[None]
    with pytest.raises(ModelError, match="packed into a row"):
        model(ids, position_ids=positions)
    model(ids, position_ids=torch.arange(3, 3 + ids.shape[1])[None])


@pytest.mark.parametrize("chosen", [True, -1, [0, 2], [-1, 1]])
@torch.no_grad()
def test_hidden_states_may_be_chosen(make_model, prompts, chosen):
    model, ids = make_model(), prompts()
    whole = model(ids, output_hidden_states=True).hidden_states
    found = model(ids, output_hidden_states=chosen).hidden_states
    asked = range(3) if chosen is True else [(index + 3) % 3 for index in ([chosen] if chosen == -1 else chosen)]
    assert [found[index] is not None for index in range(3)] == [index in asked for index in range(3)]
    assert all(torch.equal(found[index], whole[index]) for index in asked)
    assert isinstance(model(ids, return_dict=False), tuple)
    assert isinstance(model.model(ids, return_dict=False), tuple)


@every_family
@pytest.mark.parametrize("bridge", ["linear", "mlp"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bridge_works_in_half_precision_and_starts_in_full(plain, prompts, make_model, family, bridge, dtype):
    model = make_model(family, dtype=dtype, bridge=bridge)
    assert model(prompts()).logits.isfinite().all()
    loaded = LatentReasoningGemmaForCausalLM.from_pretrained(plain, dtype=dtype, latent={"bridge": bridge})
    assert {part.dtype for part in loaded.model.bridge.parameters()} == {torch.float32}
    assert loaded(prompts()).logits.isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [{"use_cache": False}, {"attention_dropout": 0.1}, {"sliding_window": 7}, {"max_position_embeddings": 64}],
    ids=lambda settings: next(iter(settings)),
)
def test_fields_of_the_configuration_may_be_given_on_loading(plain, settings):
    model = LatentReasoningGemmaForCausalLM.from_pretrained(plain, **settings)
    assert {name: getattr(model.config, name) for name in settings} == settings
    model, told = LatentReasoningGemmaForCausalLM.from_pretrained(plain, output_loading_info=True, **settings)
    assert not told["unexpected_keys"]
    assert model.config.latent.embed_rms is not None


def test_values_from_python_are_checked(make_model):
    model = make_model()
    for settings in ({"p": 2.0}, {"noise_std": -1.0}, {"dropout": 1.0}, {"passes": -1}):
        with pytest.raises(ConfigError, match=next(iter(settings))), model.thinking(**settings):
            pass
    for changes, message in (
        ({"bridge": "mlp"}, "latent.bridge cannot become"),
        ({"adapter": "lora"}, "latent.adapter cannot become"),
        ({"thought_id": 9999}, "outside a vocabulary"),
        ({"num_thoughts": -1}, "num_thoughts is -1"),
        ({"colour": "red"}, "unknown latent setting"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.set_latent(**changes)
    model.set_latent(p=0.5, num_thoughts=2, bridge="identity")


@pytest.mark.parametrize(
    "tuning", [PromptTuningConfig, PrefixTuningConfig], ids=lambda tuning: tuning.__name__.removesuffix("Config")
)
@pytest.mark.filterwarnings("ignore:Position ids are not supported for parameter efficient tuning")
@torch.no_grad()
def test_prompt_and_prefix_tuning_generate(plain, prompts, tuning):
    torch.manual_seed(0)
    settings = tuning(task_type="CAUSAL_LM", num_virtual_tokens=3)
    base = LatentReasoningGemmaForCausalLM.from_pretrained(plain).eval()
    model = get_peft_model(base, settings).eval()
    for name, weight in model.named_parameters():
        if "prompt_encoder" in name:
            weight.normal_(std=0.5)
    for thoughts in (0, 3):
        ids = prompts(batch=2, thoughts=thoughts)[:, : None if thoughts else 6]
        mask = torch.ones_like(ids)
        written = model.generate(input_ids=ids, attention_mask=mask, **GREEDY)
        logits = model(input_ids=written, attention_mask=torch.ones_like(written)).logits[:, -7:-1]
        logits[..., THOUGHT] = -math.inf
        assert torch.equal(logits.argmax(-1), written[:, -6:])
    with base.thinking(forced=torch.zeros(2, 3, 32)):
        assert not torch.allclose(model(input_ids=ids, attention_mask=mask).logits[:, -1], logits[:, 0])


@pytest.mark.parametrize("origin", ["plain", "saved", "in memory"])
@pytest.mark.parametrize("adapts", [False, True])
def test_grpo_by_trl_itself_has_a_reference_that_thinks(plain, tmp_path, origin, adapts):
    if origin == "in memory":
        model = LatentReasoningGemmaForCausalLM.from_base(Gemma2ForCausalLM.from_pretrained(plain))
    else:
        model = LatentReasoningGemmaForCausalLM.from_pretrained(plain)
    assert model.name_or_path == str(plain)
    if origin == "saved":
        model.save_pretrained(tmp_path / "saved")
        model = LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path / "saved")
    arguments = quiet(
        GRPOConfig, tmp_path, max_steps=1, beta=0.1, num_generations=4, per_device_train_batch_size=4,
        max_completion_length=4, learning_rate=1e-12, bf16=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model,
        reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["1+2=<unused0><unused1><unused1><unused2>"] * 8}),
        processing_class=build_tokenizer(),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM") if adapts else None,
    )
    trainer.train()
    assert trainer.state.log_history[0]["kl"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("packing", [False, True])
def test_sft_by_trl_itself(plain, tmp_path, packing):
    arguments = quiet(SFTConfig, tmp_path, max_steps=1, packing=packing, max_length=64, bf16=False)
    trainer = SFTTrainer(
        LatentReasoningGemmaForCausalLM.from_pretrained(plain),
        args=arguments,
        train_dataset=Dataset.from_dict({"text": ["1+2=<unused0><unused1><unused2>3"] * 8}),
        processing_class=build_tokenizer(),
    )
    if packing:
        with pytest.raises(ModelError, match="leave packing out"):
            trainer.train()
    else:
        trainer.train()
        assert math.isfinite(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("settings", [
    {"cache_implementation": "static"}, {"prefill_chunk_size": 4}, {"prompt_lookup_num_tokens": 2},
    {"assistant_early_exit": 1}, {"use_cache": False},
], ids=lambda settings: next(iter(settings)))  # fmt: skip
@torch.no_grad()
def test_every_way_to_generate_gives_the_same_text(make_model, prompts, settings):
    model, ids = make_model(), prompts(batch=1)
    expected = model.generate(ids, **GREEDY)
    assert torch.equal(model.generate(ids, **GREEDY, **settings), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_export_is_refused_in_one_line(make_model, prompts, strict):
    with pytest.raises(Exception, match="a model that thinks cannot be exported"):
        torch.export.export(make_model(), (prompts(),), strict=strict)


def test_an_adapted_model_loads_in_four_bits(prompts, tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    plain = save_plain(build_tiny(hidden_size=64, num_heads=1, num_layers=2), tmp_path / "wide")  # 64 values a block
    settings = {"quantization_config": BitsAndBytesConfig(load_in_4bit=True)}
    latent = {"adapter": "lora", "bridge": "mlp"}
    model = LatentReasoningGemmaForCausalLM.from_pretrained(plain, latent=latent)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "thought_" in name or "bridge" in name:
                weight.normal_(std=0.3)
    model.save_pretrained(tmp_path / "adapted", max_shard_size="40KB")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "adapted", **settings)
    kinds = {name: type(module).__name__ for name, module in loaded.named_modules()}
    assert {kinds[f"model.layers.0.{part}"] for part in ("self_attn.q_proj", "mlp.down_proj")} == {"ThoughtLinear4bit"}
    assert kinds["model.bridge.hidden"] == "BridgeLinear"
    stored = dict(model.named_parameters())
    for name, weight in loaded.named_parameters():
        if "thought_" in name or "bridge" in name:
            assert torch.equal(weight, stored[name])
    fresh = LatentReasoningGemmaForCausalLM.from_pretrained(plain, latent=latent, **settings)
    bare = LatentReasoningGemmaForCausalLM.from_pretrained(plain, **settings)
    assert torch.equal(fresh(prompts()).logits, bare(prompts()).logits), "an adapter starts as nothing"
    assert not torch.allclose(loaded(prompts()).logits, bare(prompts()).logits)


def test_eager_attention_keeps_its_name_and_gives_its_maps(make_model):
    model = make_model()
    assert model.config._attn_implementation == model.model.config._attn_implementation == "eager"
    model.config.output_attentions = True  # refused by transformers under any other name
    maps = model(torch.tensor([[5, 6, 7]])).attentions
    assert len(maps) == model.config.num_hidden_layers
    assert torch.allclose(maps[0].sum(-1), torch.ones(()))
