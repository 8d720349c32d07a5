"""Thoughts and answers as cards of the HTML report; whatever models and users wrote is escaped."""

from collections.abc import Sequence
from math import isfinite

from latent_gemma.evaluation.results import Differences, ThoughtStep, ThoughtTrace
from latent_gemma.inspection.numbers import percent
from latent_gemma.text.display import displayable, escape


def visible(token: str) -> str:
    """A token as it can be seen on a page: white space and control characters become symbols.

    Args:
        token: a decoded token.

    Returns:
        The text, not yet escaped; "∅" for an empty token.
    """
    pictures = {" ": "␣", "\n": "⏎", "\t": "⇥", "\u3000": "␣", "\xa0": "␣", "\u200b": "∅"}
    return "".join(pictures.get(c) or displayable(c) for c in token) or "∅"


def lens(traces: Sequence[ThoughtTrace]) -> str:
    """Items with their thoughts, one card each; empty without any."""
    if not traces:
        return ""
    intro = (
        '<p class="note">Each step shows the tokens that the thought is closest to through the model’s own head, with '
        "their probabilities. ␣ is a space, ⏎ a line break. That a thought reads like a step does not show that the "
        "answer depends on it; the controls do.</p>"
    )
    return intro + "".join(map(_trace, traces))


def differences(found: Differences | None) -> str:
    """Questions on which methods differ, one card each, the methods side by side; empty without any."""
    if found is None:
        return ""
    intro = (
        f'<p class="note">{found.count} of {found.total} questions are answered rightly by some methods only; here are '
        f"{len(found.items)} of them. Under an answer stands what led to it: written reasoning, or for each latent "
        "step the tokens that the thought is closest to.</p>"
    )
    return intro + "".join(map(_sides, found.items))


def _sides(group: Sequence[ThoughtTrace]) -> str:
    sides = "".join(
        f'<div class="side"><div class="label">{escape(trace.label)}</div><div class="answers">{_answer(trace)}</div>'
        f"{_reasoning(trace)}{''.join(map(_step, trace.steps))}</div>"
        for trace in group
    )
    return (
        f'<article class="trace"><div class="asked"><div class="question text">{escape(group[0].question)}</div>'
        f'<div class="answers">{_expected(group[0])}</div></div><div class="sides">{sides}</div></article>\n'
    )


def _trace(trace: ThoughtTrace) -> str:
    return (
        f'<article class="trace"><div class="label">{escape(trace.label)}</div>'
        f'<div class="question text">{escape(trace.question)}</div>'
        f'<div class="answers">{_expected(trace)}{_answer(trace)}</div>'
        f"{_reasoning(trace)}{''.join(map(_step, trace.steps))}</article>\n"
    )


def _expected(trace: ThoughtTrace) -> str:
    return f'<span>expected <b class="text">{escape(trace.expected)}</b></span>'


def _answer(trace: ThoughtTrace) -> str:
    mark, kind, word = ("✓", "good", "correct") if trace.correct else ("✗", "bad", "wrong")
    return (
        f'<span class="{kind}">answer <b class="text">{escape(trace.answer) or "∅"}</b> '
        f'<span class="{kind}" role="img" aria-label="{word}">{mark}</span></span>'
    )


def _reasoning(trace: ThoughtTrace) -> str:
    return f'<div class="reasoning text">{escape(trace.reasoning)}</div>' if trace.reasoning else ""


def _step(step: ThoughtStep) -> str:
    chips = "".join(
        f'<span class="chip"><code>{escape(visible(token))}</code><small>{percent(probability)} %</small>'
        f'<span class="bar"><i style="width:{percent(min(1.0, max(0.0, probability)))}%"></i></span></span>'
        for token, probability in zip(step.tokens, step.probabilities, strict=True)
    )
    facts = [f"norm {_rounded(step.norm)}", f"entropy {_rounded(step.entropy_nats)} nats"]
    if step.target:
        facts.insert(0, f'stands for <b class="text">{escape(step.target)}</b>')
    layers = "".join(
        f"<li><small>{index}</small><code>{escape(visible(token))}</code></li>"
        for index, token in enumerate(step.layers)
    )
    folded = f'<details><summary>by layer</summary><ol class="layers">{layers}</ol></details>' if layers else ""
    return (
        f'<div class="step"><div class="number">{step.step}</div><div><div class="chips">{chips}</div>'
        f'<p class="facts">{" · ".join(facts)}</p>{folded}</div></div>'
    )


def _rounded(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) and abs(value) < 1000 else f"{value:.0f}"
