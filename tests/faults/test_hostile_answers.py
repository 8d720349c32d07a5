"""Answers that models might write, of a random grammar: every one is graded in time, whatever it does to the worker."""

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from latent_gemma.text.answers import grade
from latent_gemma.text.verify import MathVerifier
from tests.text.counting_verifier import CountingVerifier

LEAVES = ["0", "1", "x", "y", "\\pi", "2.5", "-7", "1,080", "\\infty", "1/3", "50\\%", "e", "i", "\\alpha", "９９", "²"]
FORMS = [
    "\\frac{%s}{%s}", "\\sqrt{%s}", "\\sqrt[%s]{%s}", "(%s)", "%s+%s", "%s-%s", "%s*%s", "%s/%s", "%s^{%s}", "%s!",
    "%s^%s", "\\left[%s,%s\\right)", "\\{%s,%s\\}", "\\begin{pmatrix}%s&%s\\\\1&2\\end{pmatrix}", "|%s|",
    "\\log_{%s}(%s)", "\\int_0^{%s} %s dx", "\\sum_{n=1}^{%s} %s", "%s=%s", "%s\\le %s", "\\boxed{%s}",
    "\\binom{%s}{%s}", "\\sin(%s)", "\\text{%s}", "$%s$", "%s,%s", "%s\\cup %s", "\\overline{%s}", "%s\\pmod{%s}",
    "\\lim_{x\\to %s} %s", "%s_{%s}",
]  # fmt: skip
ATTACKS = [
    "9**9**9", "9^{9^{9^{9}}}", "9!!!", "99999!", "10^{99999}", "2^{99999}*3^{99999}", "(1+x)^{9999}",
    "\\sqrt{2}^{9999}", "__import__('os').system('touch ran')", "\\input{/etc/passwd}", "\\write18{touch ran}",
    "open('ran','w')", 'exec("open(\'ran\',\'w\')")', "lambda: 0", "{" * 500, "\\frac{1}{" * 400 + "1",
    "\\left(" * 300, "x" * 2**20, "1+" * 400 + "1", "x*" * 400 + "x", "(" * 7 + "x+1" + ")^9" * 7, "\x00", "\x1b[2J",
    "\ud800", "\u202e1", "", " " * 999, "\\begin{cases}" * 40, "\\sum_{n=1}^{9999999} n^n", "\\prod_{n=1}^{99999} n",
    "\\int e^{x^{x^x}} dx", "1/0", "0^0",
]  # fmt: skip
ACCEPTED = (["1"], ["\\frac{1}{2}"], ["x+1"], ["(1,2)"], ["\\{1,2\\}"], ["x^{99}+1"], ["1", "2", "3"])


def write(rng, depth=0):
    """One expression of the grammar."""
    if depth > 4 or rng.random() < 0.25:
        return rng.choice(LEAVES) if rng.random() < 0.8 else str(rng.randrange(10 ** rng.randrange(1, 40)))
    form = rng.choice(FORMS)
    return form % tuple(write(rng, depth + 1) for _ in range(form.count("%s")))


def answer(rng):
    """What a model might write: mathematics, mathematics with a character knocked out, garbage, an attack."""
    kind = rng.random()
    if kind < 0.6:
        return write(rng)
    if kind < 0.8:
        text = write(rng)
        at = rng.randrange(len(text))
        return text[:at] + rng.choice(["", "{", "}", "\\", "^", "$", "猫", "\x00"]) + text[at + 1 :]
    if kind < 0.97:
        return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)])) for _ in range(rng.randrange(30)))
    return rng.choice(ATTACKS)


def grade_all(count, seed, kill_every):
    """Grade answers from threads while the worker is killed now and then; returns counts and the slowest answer."""
    rng = random.Random(seed)
    answers = [(answer(rng), rng.choice(ACCEPTED)) for _ in range(count)]
    counts, slowest, lock = Counter(), 0.0, threading.Lock()
    with CountingVerifier(timeout_s=1.0) as verifier, ThreadPoolExecutor(2) as pool:

        def one(number):
            nonlocal slowest
            text, accepted = answers[number]
            with lock:  # the time of one answer, not of the queue for the one worker
                if number % kill_every == kill_every - 1 and verifier._worker is not None:
                    os.kill(verifier._worker.pid, signal.SIGKILL)
                    counts["kills"] += 1
                started = time.perf_counter()
                verdict = grade(text, accepted, verifier.equal)
                slowest = max(slowest, time.perf_counter() - started)
            counts["right" if verdict.lenient else "wrong"] += 1

        started = time.perf_counter()
        list(pool.map(one, range(count)))
        seconds = time.perf_counter() - started
        assert verifier.equal("2x", ["x+x"]), "the run goes on"
        counts |= Counter(timeouts=verifier.timeouts, crashes=verifier.crashes)
    return counts, seconds, slowest


def check(count, seed, kill_every, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts, seconds, slowest = grade_all(count, seed, kill_every)
    print(
        f"{count:,} answers in {seconds:.0f} s, {count / seconds:.0f} a second, slowest {slowest:.1f} s: {dict(counts)}"
    )
    assert counts["right"] + counts["wrong"] == count
    assert counts["crashes"] >= counts["kills"] > 0
    # an answer is looked at three times at most, and after each a worker may have to be started
    assert slowest < 60
    assert not list(tmp_path.iterdir()), "no code in an answer ran"


def test_answers_of_a_random_grammar_are_all_graded(tmp_path, monkeypatch):
    check(150, 0, 60, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_ten_thousand_answers_without_a_hang(seed, tmp_path, monkeypatch):
    check(2500, seed, 500, tmp_path, monkeypatch)


@pytest.mark.parametrize("attack", ["9**9**9", "9^{9^{9^9}}", "\\frac{1}{" * 400 + "1" + "}" * 400, "1" * 2**20,
                                    "__import__('os').system('touch ran')"])  # fmt: skip
def test_an_attack_is_wrong_in_time_from_a_thread(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MathVerifier(timeout_s=2.0) as verifier, ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        verdict = pool.submit(grade, f"\\boxed{{{attack}}}", ["2"], verifier.equal).result(timeout=60)
        assert not verdict.lenient
        assert time.perf_counter() - started < 30
    assert not list(tmp_path.iterdir())
