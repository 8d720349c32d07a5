"""The thought lens: what each latent step says, read through the model's own head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latent_gemma.data.example import Example
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.evaluation.results import ThoughtStep, ThoughtTrace
from latent_gemma.model.alignment import aligned_tokens
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.halting import stop_margin
from latent_gemma.model.prompt import Frame
from latent_gemma.model.thinking import ThoughtRecord
from latent_gemma.text.answers import Match, answers_match, grade


@torch.no_grad()
def read_thoughts(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    question: str,
    num_thoughts: int,
    top: int = 5,
    layers: bool = False,
    record: ThoughtRecord | None = None,
    frame: Frame | None = None,
) -> list[ThoughtStep]:
    """Read the latent steps of one question.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        question: the question.
        num_thoughts: K.
        top: tokens to name per step.
        layers: also read the state after every layer (the logit lens).
        record: filled with the thoughts themselves.
        frame: with the earlier turns of a conversation; None takes the model's own.

    Returns:
        One step each: the tokens that the state fed back is closest to, their probabilities, the norm of what was
        fed back, and the entropy of the whole distribution.

    Source: nostalgebraist 2020 (logit lens) for the layers.
    """
    if num_thoughts == 0:
        return []
    frame = frame or Frame(tokenizer, model.config.latent)
    ids = torch.tensor([frame.latent_prompt(question, num_thoughts)], device=model.device)
    record = ThoughtRecord() if record is None else record
    with model.thinking(record=record):
        output = model.model(ids, project=model.project, output_hidden_states=layers, use_cache=False)
    first = ids.shape[1] - 1 - num_thoughts
    steps = []
    repeats = model.config.latent.recurrence == "sequence"
    own = zip(*(part[-num_thoughts:] for part in (record.source, record.inputs, record.hidden)), strict=True)
    for k, (source, fed, hidden) in enumerate(own):
        log_probs = model.project(source[0]).float().log_softmax(-1)
        best = log_probs.exp().topk(top)
        column = first - 1 if repeats else first + k - 1
        said = _layer_tokens(model, tokenizer, output.hidden_states, column) if layers else ()
        ends = None if repeats else stop_margin(model.project(hidden[0]).float(), frame.latent.eot_id).sigmoid().item()
        steps.append(
            ThoughtStep(
                step=k + 1,
                tokens=tuple(tokenizer.decode([i]) for i in best.indices.tolist()),
                probabilities=tuple(best.values.tolist()),
                norm=fed[0].float().norm().item(),
                entropy_nats=-(log_probs.exp() * log_probs).sum().item(),
                layers=tuple(token for token, _ in said),
                layer_probabilities=tuple(probability for _, probability in said),
                ids=tuple(best.indices.tolist()),
                stop=ends,
            )
        )
    return steps


def _layer_tokens(
    model: LatentReasoningGemmaForCausalLM, tokenizer: Any, hidden_states: Sequence[Tensor], column: int
) -> list[tuple[str, float]]:
    last, said = len(hidden_states) - 1, []
    for i, state in enumerate(layer[0, column] for layer in hidden_states):
        best = model.project(state if i == last else model.model.norm(state)).float().softmax(-1).max(-1)
        said.append((tokenizer.decode([int(best.indices)]), float(best.values)))
    return said


def _targets(example: Example, frame: Frame) -> list[str]:
    """What each thought stands for: its written step, or its token, the last of several that share a thought."""
    latent = frame.latent
    if latent.c_thought != "tokens":
        return [step for step in example.steps for _ in range(latent.c_thought)]
    separator = frame.text_ids(latent.step_separator)
    tokens = [aligned_tokens(frame.text_ids(step), separator, latent) for step in example.steps]
    return [frame.tokenizer.decode([token]) for of_step in tokens for token in of_step]


def both_kinds(right: Sequence[bool], count: int) -> list[int]:
    """Which answers to show: wrong and right ones, half of each where there are as many.

    Args:
        right: of each answer, whether it is.
        count: how many to show.

    Returns:
        Their indices, rising.
    """
    kinds = [[at for at, correct in enumerate(right) if correct == kind] for kind in (False, True)]
    few = min(max(count - len(kinds[1]), (count + 1) // 2), len(kinds[0]))
    return sorted(kinds[0][:few] + kinds[1][: count - few])


def trace_examples(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any, examples: Sequence[Example], label: str, max_new_tokens: int, layers: bool = False,
    match: Match = answers_match,
) -> list[ThoughtTrace]:  # fmt: skip
    """Answer a few examples and read their thoughts.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        examples: the examples.
        label: the method's name.
        max_new_tokens: bound on generated tokens.
        layers: see `read_thoughts`.
        match: how answers are compared.

    Returns:
        One trace each; a step's target is the written step it stands for.
    """
    latent = model.config.latent
    frame = Frame(tokenizer, latent)
    batch = answer_batch(
        model,
        frame,
        [example.question for example in examples],
        "latent",
        latent.own_thoughts,
        max_new_tokens=max_new_tokens,
    )
    traces = []
    for example, answer, k in zip(examples, batch.answers, batch.num_thoughts, strict=True):
        steps, targets = [], _targets(example, frame)
        for step in read_thoughts(model, tokenizer, example.question, k, layers=layers):
            target = targets[step.step - 1] if step.step <= len(targets) else ""
            steps.append(ThoughtStep(**{**step.__dict__, "target": target}))
        correct = grade(answer.graded, example.answers, match).lenient
        traces.append(ThoughtTrace(label, example.question, example.answer, answer.answer, correct, tuple(steps)))
    return traces
