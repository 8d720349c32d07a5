"""The page's own drawings, as HTML and SVG: thoughts, what each layer says, answers, votes; all text is escaped."""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from latent_gemma.evaluation.results import ThoughtStep
from latent_gemma.evaluation.voting import vote_of
from latent_gemma.inspection.edits import Thoughts
from latent_gemma.inspection.numbers import percent
from latent_gemma.model.prompt import Written
from latent_gemma.model.traces import Trace
from latent_gemma.text.display import escape, visible
from latent_gemma.text.election import agree

#: What a log entry counts beside what is learnt.
_COUNTERS = {"step", "seconds", "epoch", "tokens", "skipped", "learning_rate"}


def _token(text: str, kind: str = "says") -> str:
    return f'<code class="{kind}">{escape(visible(text))}</code>'


def share(probability: float) -> str:
    """A probability as people read it: "99.6 %", "< 0.1 %"."""
    return "&lt; 0.1 %" if 0.0 < probability < 0.0005 else f"{percent(probability)} %"


def note(text: str, kind: str = "note") -> str:
    """A line of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def strip(
    thoughts: Thoughts,
    answer: Written | None,
    learned_k: bool = False,
    picked: int | None = None,
    labels: Mapping[int, str] | None = None,
    edited: Thoughts | None = None,
    changed: Written | None = None,
) -> str:
    """The thoughts as a row of cells that can be pressed, the answer behind them.

    Args:
        thoughts: as they were thought.
        answer: what they led to; None while it is awaited.
        learned_k: the model itself ends its thinking.
        picked: place of the cell that was pressed.
        labels: place -> what was put there.
        edited: the thoughts with that.
        changed: what those led to.
    """
    labels = labels or {}
    cells = "".join(
        _cell(step, thoughts.expected[k], learned_k, k == picked, labels.get(k), edited.steps[k] if edited else None)
        for k, step in enumerate(thoughts.steps)
    )
    end = f'<div class="end"><small>answer</small>{_end(answer, changed)}</div>'
    return f'<div class="strip" role="group" aria-label="thoughts">{cells}{end}</div>'


def _cell(
    step: ThoughtStep, expected: str, learned_k: bool, picked: bool, label: str | None, after: ThoughtStep | None
) -> str:
    first, step = step.tokens[0], after or step
    moved = step.tokens[0] != first
    said = (_token(first, "was") if moved or label else "") + (
        f'<code class="put">{escape(label)}</code>' if label else _token(step.tokens[0])
    )
    hint = ""
    if expected:
        right = "good" if expected == first else "bad"
        hint = f'<span class="hint {right}" title="what the written steps expect">expects {_token(expected, "")}</span>'
    bars = "".join(
        f'<span class="row">{_token(token, "")}<i style="--_w:{percent(min(max(p, 0.0), 1.0))}%"></i></span>'
        for token, p in list(zip(step.tokens, step.probabilities, strict=True))[:3]
    )
    stop = ""
    if learned_k and step.stop is not None:
        stop = f'<span class="stop" title="probability of ending the thinking here">stop {share(step.stop)}</span>'
    kinds = " ".join(kind for kind, on in (("picked", picked), ("edited", label), ("moved", moved)) if on)
    return (
        f'<button type="button" class="cell {kinds}" data-act="pick" data-place="{step.step - 1}" data-drop '
        f'aria-pressed="{str(picked).lower()}"><small>{step.step}</small>{hint}<span class="said">{said}</span>'
        f'<span class="bars">{bars}</span><span class="facts">norm {_rounded(step.norm)}<br>'
        f"entropy {step.entropy_nats:.2f}</span>{stop}</button>"
    )


def _end(answer: Written | None, changed: Written | None) -> str:
    if answer is None:
        return '<span class="said">…</span>'
    if changed is None or changed.answer == answer.answer:
        return f'<span class="said"><code class="says">{escape(answer.answer) or "∅"}</code></span>'
    return (
        f'<span class="said"><code class="was">{escape(answer.answer) or "∅"}</code>'
        f'<code class="put">{escape(changed.answer) or "∅"}</code></span>'
    )


def tools(thoughts: Thoughts, picked: int | None, edited: bool) -> str:
    """What can be done with the thought that was pressed, as buttons."""
    if not thoughts.steps:
        return note("This model took no latent step: there is no thought to take.")
    back = _button("restore", "↺ all as they were") if edited else ""
    if picked is None:
        return f'<div class="tools">{note("Press a thought to take it out.")}{back}</div>'
    step = thoughts.steps[picked]
    others = "".join(
        f'<button type="button" class="chip" data-act="token" data-token="{number}">{_token(token, "")}</button>'
        for number, token in enumerate(step.tokens[1:], start=1)
    )
    return (
        f'<div class="tools"><b>Thought {step.step}</b>{_button("zero", "∅ zero it")}{_button("noise", "≈ noise it")}'
        f'<span class="row">say instead {others}</span>{back}</div>'
    )


def _button(act: str, text: str) -> str:
    return f'<button type="button" class="act" data-act="{act}">{text}</button>'


def donor(thoughts: Thoughts | None) -> str:
    """The thoughts of another question, to be pressed or dragged onto one of the first."""
    if thoughts is None:
        return ""
    if not thoughts.steps:
        return note("The other question took no latent step.")
    cells = "".join(
        f'<button type="button" class="cell" draggable="true" data-act="swap" data-from="{k}">'
        f"<small>{step.step}</small>{_token(step.tokens[0])}</button>"
        for k, step in enumerate(thoughts.steps)
    )
    return (
        f'<p class="note">Press a thought of <b class="text">{escape(thoughts.question)}</b>, or drag it up.</p>'
        f'<div class="strip small">{cells}</div>'
    )


def _small(step: ThoughtStep) -> str:
    return f'<div class="cell"><small>{step.step}</small>{_token(step.tokens[0])}</div>'


def change(answer: Written, changed: Written, done: str, odds: Sequence[Sequence[float]] | None = None) -> str:
    """Both answers side by side, and how probable each is with the thoughts as they were and as they are now.

    Args:
        answer: with the thoughts as they were.
        changed: with what was put in their place.
        done: what was put there, in words.
        odds: of `Thinker.odds`, of both thoughts and both answers; None while they are awaited.
    """
    same = answer.answer == changed.answer
    head = (
        f'<div class="pair"><div class="side"><small>as it thought</small>{_said(answer)}</div>'
        f'<div class="becomes" aria-hidden="true">→</div><div class="side {"" if same else "new"}">'
        f'<small class="text">{escape(done)}</small>{_said(changed)}</div></div>'
    )
    if odds is None:
        return head
    names = [(0, answer)] if same else [(0, answer), (1, changed)]
    tracks = "".join(
        f'<div class="track"><b class="text">{escape(_short(written.answer)) or "∅"}</b>'
        f'<div class="line" style="--_a:{percent(odds[0][i])}%;--_b:{percent(odds[1][i])}%;'
        f'--_l:{percent(min(odds[0][i], odds[1][i]))}%;--_r:{percent(1 - max(odds[0][i], odds[1][i]))}%">'
        f'<i class="span"></i><i class="before"></i><i class="after"></i></div>'
        f"<span>{share(odds[0][i])} → <b>{share(odds[1][i])}</b></span></div>"
        for i, written in names
    )
    says = "The answer stays." if same else "The answer changes."
    return (
        f'{head}<p class="outcome">{says} Probability of {"it" if same else "both"}, before ○ and after ●:</p>{tracks}'
    )


def _reasoning(written: Written) -> str:
    return f'<div class="text reasoning">{escape(written.reasoning)}</div>' if written.reasoning else ""


def _said(written: Written) -> str:
    return f'{_reasoning(written)}<div class="text answer">{escape(written.answer) or "∅"}</div>'


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def heat_map(thoughts: Thoughts, title: str) -> str:
    """What each layer says at each latent step, K columns; a ring where it is what the written steps expect."""
    if not thoughts.steps:
        return ""
    heads = "".join(
        f'<th scope="col">{step.step}{_token(wanted, "wanted") if wanted else ""}</th>'
        for step, wanted in zip(thoughts.steps, thoughts.expected, strict=True)
    )
    rows = ""
    for layer in reversed(range(len(thoughts.steps[0].layers))):
        cells = "".join(
            _heat(step, layer, wanted) for step, wanted in zip(thoughts.steps, thoughts.expected, strict=True)
        )
        name = f"layer {layer}" if layer else "embedding"
        rows += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    expects = " A ring: what the written steps expect there." if any(thoughts.expected) else ""
    return (
        f'<p class="title">{escape(title)}</p><div class="scroll"><table class="heat">'
        f"<thead><tr><th>thought</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        + note(f"The stronger its colour, the surer a layer is.{expects}")
    )


def _heat(step: ThoughtStep, layer: int, wanted: str) -> str:
    token, p = step.layers[layer], step.layer_probabilities[layer]
    kind = ("sure " if p > 0.55 else "") + ("hit" if wanted and wanted == token else "")
    return f'<td class="{kind}" style="--_p:{percent(p)}%" title="{share(p)}">{_token(token, "")}</td>'


def votes(traces: Sequence[Trace]) -> str:
    """A card for each answer that traces gave, the winner first; traces that gave none have one too."""
    spelled, groups = agree([vote_of(trace) for trace in traces]), dict[str | None, list[Trace]]()
    for trace, answer in zip(traces, spelled, strict=True):
        groups.setdefault(answer, []).append(trace)
    order = sorted(groups.items(), key=lambda entry: (entry[0] is None, -len(entry[1])))
    return '<div class="cards">' + "".join(_ballot(name, own, len(traces)) for name, own in order) + "</div>"


def _ballot(answer: str | None, traces: Sequence[Trace], total: int) -> str:
    facts = "".join(
        f'<li title="temperature, mean log-probability, thoughts">T {trace.temperature:g} · {trace.logprob:.2f} nats'
        f"{f' · K {trace.num_thoughts}' if trace.num_thoughts else ''}</li>"
        for trace in traces
    )
    name = '<span class="note">no answer</span>' if answer is None else f'<b class="text">{escape(_short(answer))}</b>'
    return (
        f'<div class="card"><div class="head">{name}<span>{len(traces)} of {total}</span></div>'
        f'<i class="bar" style="--_w:{percent(len(traces) / total)}%"></i>{_reasoning(traces[0].written)}'
        f"<details><summary>traces</summary><ul>{facts}</ul></details></div>"
    )


def sides(answered: Sequence[tuple[str, str, Thoughts, Written]]) -> str:
    """The same question to several runs: label, mode, thoughts and answer of each, side by side."""
    return (
        '<div class="cards wide">'
        + "".join(
            f'<div class="card"><div class="head"><b class="text">{escape(label)}</b><span>{escape(mode)} · '
            f"{len(thoughts.steps) + written.tokens} steps and tokens</span></div>"
            f'<div class="strip small">{"".join(map(_small, thoughts.steps)) or "no thoughts"}</div>'
            f"{_said(written)}</div>"
            for label, mode, thoughts, written in answered
        )
        + "</div>"
    )


def curves(entries: Sequence[Mapping[str, Any]]) -> str:
    """Small panels of what a training logged, one a measure; those of several latent steps share one."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for entry in entries:
        for name, value in entry.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            if number and name not in _COUNTERS and "step" in entry:
                lines = panels.setdefault(re.sub(r"_\d+$", "", name), {})
                lines.setdefault(name, []).append((float(entry["step"]), float(value)))
    drawn = "".join(_panel(name, lines) for name, lines in panels.items() if max(map(len, lines.values())) > 1)
    return f'<div class="panels">{drawn}</div>' if drawn else note("Nothing is logged yet.")


def _panel(name: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    xs, ys = zip(*(point for line in lines.values() for point in line), strict=True)
    left, low, wide, high = min(xs), min(ys), max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
    paths = "".join(
        '<polyline points="'
        + " ".join(f"{(x - left) / wide * 200:.1f},{58 - (y - low) / high * 56:.1f}" for x, y in line)
        + '"/>'
        for line in lines.values()
    )
    last = [line[-1][1] for line in lines.values()][-1]
    title = escape(name.replace("_", " "))
    return (
        f'<figure><figcaption>{title} <b>{last:.4g}</b></figcaption><svg viewBox="0 0 200 60" role="img" '
        f'aria-label="{title}" preserveAspectRatio="none">{paths}</svg><small>{low:.3g} to {max(ys):.3g}, step '
        f"{left:.0f} to {max(xs):.0f}</small></figure>"
    )


def _rounded(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) else "∞"
