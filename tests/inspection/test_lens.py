"""The thought lens reads what the model's own head says of the state that is fed back."""

import itertools

import pytest
import torch

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.inspection.lens import both_kinds, read_thoughts, trace_examples
from latent_gemma.model import ThoughtRecord
from latent_gemma.model.prompt import Frame
from tests.conftest import EOT, RECURRENCES


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_a_thought_says_what_the_head_makes_of_the_state_before_it(recurrence, make_model, tokenizer):
    model = make_model(recurrence=recurrence, num_thoughts=3)
    steps = read_thoughts(model, tokenizer, "1+2=", 3, top=2, layers=True)
    ids = torch.tensor([Frame(tokenizer, model.config.latent).latent_prompt("1+2=", 3)])
    record = ThoughtRecord()
    with model.thinking(record=record), torch.no_grad():
        logits = model(ids).logits[0]
    assert [step.step for step in steps] == [1, 2, 3]
    for k, step in enumerate(steps):
        # but for "sequence" the state fed back is that of the position before thought k
        state = model.project(record.source[k][0]) if recurrence == "sequence" else logits[ids.shape[1] - 5 + k]
        probabilities = state.softmax(-1)
        best = probabilities.topk(2)
        assert step.tokens == tuple(tokenizer.decode([i]) for i in best.indices.tolist())
        assert step.probabilities == pytest.approx(best.values.tolist(), rel=1e-4)
        entropy = -(probabilities * probabilities.log()).sum().item()
        assert step.entropy_nats == pytest.approx(entropy, rel=1e-4)
        assert step.norm == pytest.approx(record.inputs[k][0].norm().item(), rel=1e-4)
        assert step.ids == tuple(best.indices.tolist())
        assert len(step.layers) == len(step.layer_probabilities) == model.config.num_hidden_layers + 1
        if recurrence == "sequence":
            assert step.stop is None
        else:
            assert step.stop == pytest.approx(model.project(record.hidden[k][0]).softmax(-1)[EOT].item(), rel=1e-4)
            assert step.layer_probabilities[-1] == pytest.approx(step.probabilities[0], rel=1e-5)
    if recurrence != "sequence":
        assert all(step.layers[-1] == step.tokens[0] for step in steps), "the last layer is what the head reads"


def test_traces_name_the_step_each_thought_stands_for(make_model, tokenizer):
    model = make_model(num_thoughts=4, c_thought=2)
    examples = list(itertools.islice(chain_examples(ChainConfig(2), "test", 0), 2))
    traces = trace_examples(model, tokenizer, examples, "latent", 4)
    for trace, example in zip(traces, examples, strict=True):
        assert (trace.question, trace.expected) == (example.question, example.answer)
        first, second = example.steps
        assert [step.target for step in trace.steps] == [first, first, second, second]


def test_traces_name_the_token_a_thought_stands_for(make_model, tokenizer):
    example = Example("1+2=", ("12", "3"), "3")
    for share, targets in ((1.0, ["1", "2", ";", "3", ";", ""]), (0.5, ["2", "3", "", "", "", ""])):
        model = make_model(num_thoughts=6, c_thought="tokens", step_separator=";", thoughts_per_token=share)
        (trace,) = trace_examples(model, tokenizer, [example], "latent", 4)
        assert [step.target for step in trace.steps] == targets


def test_no_thoughts_nothing_to_read(make_model, tokenizer):
    assert read_thoughts(make_model(), tokenizer, "1+2=", 0) == []


@pytest.mark.parametrize(
    ("right", "count", "shown"),
    [("1111", 2, [0, 1]), ("1101101", 4, [0, 1, 2, 5]), ("0000", 3, [0, 1, 2]), ("0001", 3, [0, 1, 3]), ("10", 1, [1])],
)
def test_wrong_answers_are_shown_as_well_as_right_ones(right, count, shown):
    assert both_kinds([digit == "1" for digit in right], count) == shown
