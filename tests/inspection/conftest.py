"""A report as a real evaluation would give it."""

import pytest

from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.results import EvalReport, EvalRow, ThoughtStep, ThoughtTrace
from latent_gemma.inspection.verdict import verdict

INJECTION = "<script>alert('x')</script><img src=\"http://evil.example/a.png\" onerror=alert(1)>"


def make_row(label, k, correct, *, control="none", p=None, total=500, tokens=4.2):
    low, high = wilson_interval(correct, total)
    strict = max(0, correct - 3)
    return EvalRow(label, k, p, control, correct, strict, total, low, high, tokens, tokens + k, None)


def with_controls(label, k, p, intact, **correct):
    """The main row of a label and one row for each control."""
    controls = [make_row(label, k, count, control=name, p=p) for name, count in correct.items()]
    return [make_row(label, k, intact, p=p), *controls]


def over_k(label, counts):
    return [make_row(label, k, correct, p=0.0 if k else None) for k, correct in counts]


def make_step(step, tokens, probabilities, target="", layers=()):
    return ThoughtStep(step, tokens, probabilities, 47.9 + step, 0.35 * step, target, layers)


@pytest.fixture
def row():
    return make_row


@pytest.fixture
def controlled():
    return with_controls


@pytest.fixture
def rows():
    """COCONUT ignores its thoughts, the annealed model lives on them."""
    return (
        make_row("no reasoning", 0, 61),
        make_row("words", 0, 494, tokens=41.7),
        *with_controls("COCONUT", 3, 0.0, 171, zero=166, noise=149, swap=168, pause=163),
        *over_k("COCONUT", ((0, 158), (1, 166), (2, 169), (4, 170), (5, 160), (6, 152))),
        *(make_row("COCONUT", 3, c, p=p) for p, c in ((0.25, 173), (0.5, 160), (0.75, 141), (1.0, 118))),
        *with_controls("annealed", 4, 0.0, 481, zero=58, noise=49, swap=52, pause=61),
        *over_k("annealed", ((0, 55), (1, 84), (2, 197), (3, 362), (5, 477), (6, 451))),
        *(make_row("annealed", 4, c, p=p) for p, c in ((0.25, 484), (0.5, 486), (0.75, 489), (1.0, 490))),
    )  # fmt: skip


@pytest.fixture
def traces():
    layers = (" the", " 2", " 12", " 39", " 39")
    first = (
        make_step(1, (" 39", "39", " 40", "\n", " 24"), (0.912, 0.041, 0.02, 0.006, 0.003), "24 + 15 = 39", layers),
        make_step(2, (" 78", " 39", "78", " 2", "×"), (0.644, 0.171, 0.082, 0.034, 0.011), "39 × 2 = 78", layers),
    )
    japanese = (
        make_step(1, ("七", "7", "个", "、", "です"), (0.48, 0.22, 0.08, 0.05, 0.02), "12 − 5 = 7"),
        make_step(2, ("7", "\n\n", "\t", "", "答"), (0.31, 0.28, 0.12, 0.06, 0.02)),
    )
    question = "りんごが12個あります。5個食べました。残りはいくつですか?"
    hostile = (make_step(1, (INJECTION, "&amp;"), (0.7, 0.1), INJECTION, (INJECTION,)),)
    return (
        ThoughtTrace("annealed", "What is (24 + 15) × 2?", "78", "78", True, first),
        ThoughtTrace("annealed", question, "7", "5", False, japanese),
        ThoughtTrace("COCONUT", f"Say {INJECTION}", "1 < 2", INJECTION, False, hostile),
    )


@pytest.fixture
def report(rows, traces):
    steps = range(0, 3001, 100)
    return EvalReport(
        title="Chains of arithmetic: words against thoughts",
        verdict=verdict(rows),
        rows=rows,
        traces=traces,
        context={
            "model": "runs/annealed/model",
            "data": "chains:4, test split",
            "items": "500",
            "seed": "0",
            "machine": "16 cores, 1 GPU",
            "versions": "torch 2.9.1, transformers 5.12.0",
            "command": "latent-gemma eval runs/annealed --k 0,1,2,3,4,5,6 --p 0,0.25,0.5,0.75,1",
        },
        curves={
            "loss": [{"step": s, "value": 2.4 / (1 + s / 300) + 0.05 * (s % 700 == 0)} for s in steps],
            "p": [{"step": s, "value": max(0.0, 1 - s / 2400)} for s in steps],
            "held-out accuracy": [{"step": s, "value": 0.96 * (1 - 1 / (1 + s / 400))} for s in steps],
            "anchor loss": [{"step": s, "value": 1.1 / (1 + s / 500)} for s in steps],
        },
    )


@pytest.fixture
def bare(row):
    """A report with nothing optional in it."""
    only = (row("words", 0, 45, total=50),)
    return EvalReport("Words alone", verdict(only), only)
