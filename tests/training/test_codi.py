"""CODI's loss equals a plain reference, and a step of several batches trains what one batch would."""

import itertools
import random
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model.prompt import Frame
from latent_gemma.options.stages import Codi, LatentModel
from latent_gemma.training.batches import build_row, encode_examples, pad_rows
from latent_gemma.training.codi import codi_loss, paired_rows
from latent_gemma.training.curriculum import CodiCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.run_log import read_metrics
from latent_gemma.training.settings import LoraSettings, TrainSettings
from tests.conftest import EOT, THOUGHT, every_family, weighted

#: Of unequal numbers of steps, and answers and questions of unequal lengths.
EXAMPLES = [
    Example("2+3*4=", ("2+3=5", "5*4=0"), "0"),
    Example("12+3=", ("12+3=15",), "15"),
    Example("7", (), "7"),
]
CHAINS = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 24))
LATENT = {"step_separator": "", "num_thoughts": 3, "bridge": "mlp"}
K = 3


def paired(frame, examples=EXAMPLES):
    stage = CodiCurriculum(num_thoughts=K).stage_at()
    encoded = encode_examples(frame, examples)
    students = [build_row(item, stage, frame, random.Random(0)) for item in encoded]
    return pad_rows(paired_rows(encoded, students, frame), frame.pad_id)


def reference(model, batch, weight):
    """The loss by the stock decoder alone: a pass of the teacher, K + 1 whole passes of the student, all logits."""
    decoder, half = model.model, len(batch["input_ids"]) // 2
    answering, losses = [], []
    for part in (slice(0, half), slice(half, None)):
        ids, mask, labels = (batch[name][part] for name in ("input_ids", "attention_mask", "labels"))
        inputs = decoder.embed_tokens(ids)
        call = lambda inputs, mask=mask: decoder.decoder_call(  # noqa: E731
            inputs_embeds=inputs, attention_mask=mask, use_cache=False, output_hidden_states=True
        )
        for column in range(ids.shape[1]):
            thought = ids[:, column] == THOUGHT
            if thought.any():
                before = call(inputs).last_hidden_state[:, column - 1]
                unit = before / (before.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
                fed = decoder.bridge(unit) * model.config.latent.embed_rms
                inputs = torch.cat([inputs[:, :column], torch.where(thought[:, None], fed, inputs[:, column])[:, None],
                                    inputs[:, column + 1 :]], dim=1)  # fmt: skip
        output = call(inputs)
        logits = model.project(output.last_hidden_state)[:, :-1].flatten(0, 1)
        losses.append(cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100))
        rows = [ids_row.tolist().index(EOT) for ids_row in ids]
        answering.append([torch.stack([layer[i, at] for i, at in enumerate(rows)]) for layer in output.hidden_states])
    apart = [
        torch.nn.functional.smooth_l1_loss(student, teacher.detach()) / teacher.detach().std()
        for teacher, student in list(zip(*answering, strict=True))[1:]
    ]
    distill = torch.stack(apart).mean()
    return losses[0] + losses[1] + weight * distill, losses[1], losses[0], distill


def gradients(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return {name: g for (name, _), g in zip(model.named_parameters(), found, strict=True) if g is not None}


@every_family
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_is_that_of_two_plain_passes(family, checkpointing, make_model, tokenizer, true_double):
    model = weighted(make_model(family, dtype=torch.float64, sliding_window=5, **LATENT))
    torch.nn.init.normal_(model.model.bridge.out.weight, std=0.2)
    batch = paired(Frame(tokenizer, model.config.latent))
    assert (batch["input_ids"] == THOUGHT).sum(-1).tolist() == [0, 0, 0, K, K, K]
    expected = reference(model, batch, 0.7)
    wanted = gradients(model, expected[0])
    if checkpointing:
        model.train().activation_checkpointing_enable()
    with model.thinking(steps=FastSteps(model, packed=False)):  # as the trainer calls it
        found = codi_loss(model, batch, EOT, 0.7)
    for ours, theirs in zip((found.total, found.student, found.teacher, found.distill), expected, strict=True):
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    assert float(found.distill) > 0.01
    given = gradients(model, found.total)
    assert given.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(given[name], gradient, atol=1e-9, rtol=1e-9)


def test_the_distance_teaches_the_student_alone(make_model, tokenizer):
    model = make_model(dtype=torch.float64, **LATENT)
    batch = paired(Frame(tokenizer, model.config.latent))
    seen = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, out: seen.append(out) or out.requires_grad_())
    plain, distilled = (codi_loss(model, batch, EOT, weight).total for weight in (0.0, 1.0))
    without, with_it = (torch.autograd.grad(loss, x)[0] for loss, x in zip((plain, distilled), seen, strict=True))
    changed = (with_it - without).abs().amax((1, 2))
    assert changed[:3].max() < 1e-12 < 1e-6 < changed[3:].min()


@pytest.mark.parametrize("recurrence", ["append", "sequence"])
def test_several_batches_of_a_step_are_as_one(recurrence, make_model, tokenizer, tmp_path):
    settings = TrainSettings(steps=3, batch_size=6, lr=1e-4, log_every=1)
    curriculum, runs = CodiCurriculum(num_thoughts=K), []
    for name, changes in {"one": {}, "three": {"batch_size": 2, "accumulate": 3}}.items():
        model = make_model(recurrence=recurrence, **LATENT)
        result = fit(model, tokenizer, CHAINS, curriculum, replace(settings, **changes), tmp_path / name, "test")
        steps = [entry for entry in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in entry]
        columns = ("loss", "answer_loss", "teacher_loss", "distill_loss", "grad_norm", "tokens", "K")
        runs.append(([[entry[column] for column in columns] for entry in steps], dict(result.model.named_parameters())))
    (one, weights), (three, others) = runs
    assert three == [pytest.approx(row, abs=1e-4) for row in one]
    for loss, answer, teacher, distill, *_ in one:
        assert loss == pytest.approx(answer + teacher + distill, abs=1e-3)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=1e-5, rtol=0)


def test_training_lowers_all_three_losses(make_model, tokenizer, tmp_path):
    settings = TrainSettings(steps=25, batch_size=8, lr=3e-3, log_every=1, checkpointing=True)
    curriculum = CodiCurriculum(num_thoughts=K)
    result = fit(make_model(**LATENT), tokenizer, CHAINS, curriculum, settings, tmp_path, "test")
    for name in ("answer_loss", "teacher_loss", "distill_loss"):
        values = [entry[name] for entry in result.metrics if name in entry]
        assert sum(values[-5:]) < 0.8 * sum(values[:5]), name
    latent = result.model.config.latent
    assert (latent.trained_for, latent.num_thoughts, latent.p) == ("latent", K, 0.0)


def test_the_bridge_trains_beside_an_adapter_and_is_kept(make_model, tokenizer, tmp_path):
    model = make_model(**LATENT)
    names, before = list(model.state_dict()), {name: w.clone() for name, w in model.state_dict().items()}
    settings, lora = TrainSettings(steps=3, batch_size=4, lr=1e-2), LoraSettings(rank=2)
    result = fit(model, tokenizer, CHAINS, CodiCurriculum(num_thoughts=K), settings, tmp_path, "test", lora)
    after = result.model.state_dict()
    assert list(after) == names
    moved = {name for name in names if not torch.equal(after[name], before[name])}
    assert {"model.bridge.out.weight", "model.layers.0.mlp.up_proj.weight"} <= moved
    assert not {"model.embed_tokens.weight", "model.norm.weight"} & moved


@pytest.mark.parametrize(
    ("latent", "lora", "said"),
    [
        ({"c_thought": 2}, {}, "--c-thought"),
        ({"backprop_steps": 2}, {}, "--backprop-steps"),
        ({"adapter": "lora"}, {"rank": 4}, "--rank"),
        ({"trains": "thoughts"}, {"rank": 4}, "--rank"),
    ],
)
def test_what_codi_cannot_do_is_told(latent, lora, said):
    with pytest.raises(ConfigError, match=said):
        Codi("tiny", None, None, latent=LatentModel(bridge="mlp", **latent), lora=LoraSettings(**lora))
