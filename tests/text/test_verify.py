import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.text import verify, verify_worker
from latent_gemma.text.verify import MathVerifier, VerifierError
from tests.text.counting_verifier import CountingVerifier

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture(scope="module")
def verifier():
    with MathVerifier() as shared:
        yield shared


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def runs(pid):
    """Whether a process still computes; an orphan may stay in the table with nobody to bury it."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def fake_worker(monkeypatch, tmp_path, body):
    path = tmp_path / "worker.py"
    path.write_text(f"import sys, time\n{body}", encoding="utf-8")
    monkeypatch.setattr(verify, "_WORKER", path)


@pytest.mark.parametrize(
    ("predicted", "accepted"),
    [
        (r"\frac{1}{2}", "0.5"),
        (r"$\frac12$", "0.5"),
        ("x^2+1", "1+x^2"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        (r"\{3,1,2\}", r"\{1,2,3\}"),
        ("[1, 2)", "[1,2)"),
        (r"(-\infty,2]", r"$(-\infty, 2]$"),
        ("x = 5", "5"),
        ("2**10", "1024"),
        ("３²", "9"),
        (r"\frac{−3}{4}", "-0.75"),
        (r"5\text{ cm}", "5"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ],
)
def test_equal_expressions(verifier, predicted, accepted):
    assert verifier.equal(predicted, ["no", accepted])


@pytest.mark.parametrize(
    ("predicted", "accepted"),
    [
        (None, "1"),
        ("", ""),
        ("(1,2)", "[1,2)"),
        ("(2,1)", "(1,2)"),
        ("x^2+2", "1+x^2"),
        ("Tokyo", "kyoTo"),
        ("T o k y o", "Tokyo"),
        ("9**9", "9"),
        ("3; 4", "3"),
        ("3)", "3"),
        ("12 apples or 13", "12"),
        (r"\boxed{__import__('os').getpid()}", "1"),
        ("\udcff", "1"),
        ("\x00", "1"),
    ],
)
def test_unequal_answers(verifier, predicted, accepted):
    assert not verifier.equal(predicted, [accepted])


def test_batches_keep_their_order(verifier):
    pairs = [("0.50", ["1/2"]), ("7", ["8"]), (None, ["1"]), ("2x", ["x+x"]), ("1", [])]
    assert [verifier.equal(*pair) for pair in pairs] == [True, False, False, True, False]


def test_what_is_equal_as_text_or_number_needs_no_worker():
    with MathVerifier() as lazy:
        assert lazy.equal("９**9**9", ["9**9**9"])
        assert lazy.equal("1,080", ["1080"])
        assert not lazy.equal(None, ["1"])
        assert lazy._worker is None


@pytest.mark.parametrize(
    "text",
    ["9**9**9", "9^{9^{9^9}}", "x" * 2**20, "{" * 400 + "1" + "}" * 400, "\\frac{1}{" * 90 + "2" + "}" * 90, "王" * 9],
)
def test_hostile_text_is_refused_unread(text):
    with MathVerifier() as lazy:
        started = time.perf_counter()
        assert not lazy.equal(text, ["2"])
        assert time.perf_counter() - started < 1
        assert lazy._worker is None


def test_code_in_an_answer_never_runs(verifier, tmp_path):
    mark = tmp_path / "ran"
    for code in (f"__import__('os').system('touch {mark}')", f"open('{mark}','w')"):
        for frame in ("{}", "\\boxed{{{}}}", "${}$", "\\text{{{}}}", "1+{}"):
            assert not verifier.equal(frame.format(code), ["1"])
    assert not mark.exists()


def test_a_question_without_end_is_graded_false_in_time_and_the_next_one_is_answered():
    with CountingVerifier() as impatient:
        assert impatient.equal("2x", ["x+x"])
        impatient.timeout_s = 1
        started = time.perf_counter()
        assert not impatient.equal("9!!!", ["1"])
        assert time.perf_counter() - started < 5
        assert (impatient.timeouts, impatient.crashes) == (1, 0)
        impatient.timeout_s = 20
        assert impatient.equal(r"\frac{2}{4}", ["0.5"])


@linux
def test_memory_is_capped():
    with MathVerifier(memory_gib=0.25) as small:
        assert small.equal("2x", ["x+x"])
        limits = Path(f"/proc/{small._worker.pid}/limits").read_text()
        assert limits.split("Max address space")[1].split()[0] == str(2**28)
    hungry = "from latent_gemma.text.verify_worker import limit_memory\nlimit_memory(0.25)\nbytearray(2**29)"
    done = subprocess.run([sys.executable, "-c", hungry], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


@linux
def test_the_worker_sees_no_environment(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    with MathVerifier() as verifier:
        assert verifier.equal("2x", ["x+x"])
        assert b"abc" not in Path(f"/proc/{verifier._worker.pid}/environ").read_bytes()


@posix
def test_a_worker_killed_from_outside_costs_one_answer():
    with CountingVerifier() as verifier:
        assert verifier.equal("2x", ["x+x"])
        os.kill(verifier._worker.pid, signal.SIGKILL)
        assert not verifier.equal("2x", ["x+x"])
        assert verifier.crashes == 1
        assert verifier.equal("2x", ["x+x"])
        assert (verifier.timeouts, verifier.crashes) == (0, 1)


@posix
def test_a_stopped_worker_is_killed():
    with CountingVerifier() as verifier:
        assert verifier.equal("2x", ["x+x"])
        os.kill(verifier._worker.pid, signal.SIGSTOP)
        verifier.timeout_s = 0.3
        assert not verifier.equal("2x", ["x+x"])
        assert verifier.timeouts == 1


@pytest.mark.parametrize(
    "reply",
    ["", "no json", "[]", "[" * 990, "x" * 10_000, '{"id": 7, "equal": true}', '{"id": 1}', '{"id": 1, "equal": 1}'],
)
def test_garbage_counts_as_a_crash(monkeypatch, tmp_path, reply):
    fake_worker(
        monkeypatch, tmp_path, f"print('{{\"ready\": true}}', flush=True)\ninput()\nprint({reply!r}, flush=True)\n"
    )
    with CountingVerifier() as verifier:
        assert not verifier.equal("2x", ["x+x"])
        assert (verifier.timeouts, verifier.crashes) == (0, 1)


@pytest.mark.parametrize("body", ["sys.exit(1)", "print('hello')", "time.sleep(60)"])
def test_a_worker_that_never_starts_is_an_error_with_a_remedy(monkeypatch, tmp_path, body):
    fake_worker(monkeypatch, tmp_path, body)
    monkeypatch.setattr(verify, "START_TIMEOUT_S", 0.5)
    with MathVerifier() as verifier, pytest.raises(VerifierError, match=r"does not start: check .*math-verify"):
        verifier.equal("2x", ["x+x"])


def test_a_worker_that_no_longer_starts_is_a_crash(monkeypatch, tmp_path):
    with CountingVerifier() as verifier:
        assert verifier.equal("2x", ["x+x"])
        verifier.close()
        fake_worker(monkeypatch, tmp_path, "sys.exit(1)")
        assert not verifier.equal("2x", ["x+x"])
        assert verifier.crashes == 1


def test_an_interrupt_leaves_no_reply_behind(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with CountingVerifier() as verifier:
        assert verifier.equal("2x", ["x+x"])
        with monkeypatch.context() as patch:
            patch.setattr(verify, "_exchange", interrupted)
            with pytest.raises(KeyboardInterrupt):
                verifier.equal("2x", ["x+x"])
        assert verifier._worker is None
        assert verifier.equal("2x", ["x+x"])
        assert verifier.crashes == 0


def test_grading_from_threads(verifier):
    verdicts = {}

    def work(number):
        verdicts[number] = verifier.equal(f"{number}x", [f"x+{number - 1}x"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == dict.fromkeys(range(2, 6), True)


@posix
def test_no_process_is_left_behind():
    kept, dropped = MathVerifier(), MathVerifier()
    assert kept.equal("2x", ["x+x"])
    assert dropped.equal("2x", ["x+x"])
    pids = [kept._worker.pid, dropped._worker.pid]
    kept.close()
    del dropped
    gc.collect()
    assert not any(alive(pid) for pid in pids)
    kept.close()


@posix
def test_a_forked_process_has_a_worker_of_its_own():
    script = (
        "import os, sys, threading\nfrom latent_gemma.text.verify import MathVerifier\n"
        "v = MathVerifier(timeout_s=20)\nassert v.equal('2x', ['x+x'])\nworker = v._worker.pid\n"
        "v._lock.acquire()\n"  # as a thread may at that moment, which does not exist in the child
        "child = os.fork()\n"
        "if not child:\n"
        "    right = v.equal('3x', ['x+2x']) and not v.equal('3x', ['4x']) and v._worker.pid != worker\n"
        "    sys.exit(0 if right else 1)\n"
        "v._lock.release()\n"
        "assert v.equal('4x', ['2x+2x'])\nassert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert v.equal('5x', ['2x+3x'])\nassert v._worker.pid == worker, 'one that ended or was late is replaced'\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 60


@linux
@pytest.mark.parametrize(
    "last_words",
    [
        pytest.param("", id="idle"),
        pytest.param("threading.Thread(target=v.equal, args=('9!!!', ['1'])).start(); time.sleep(1)", id="busy"),
    ],
)
def test_a_worker_ends_after_its_parent(last_words):
    script = (
        "import os, threading, time\nfrom latent_gemma.text.verify import MathVerifier\n"
        "v = MathVerifier(timeout_s=2)\nassert v.equal('2x', ['x+x'])\nprint(v._worker.pid, flush=True)\n"
        f"{last_words}\nos._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    deadline = time.monotonic() + 60
    while runs(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(int(done.stdout))


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("os.system", (b"ls",)),
        ("subprocess.Popen", ("ls", ["ls"], None, None)),
        ("socket.connect", (None, ("localhost", 1))),
        ("open", ("f", "w", 0)),
        ("open", ("f", None, os.O_RDWR)),
    ],
)
def test_the_second_fence(event, arguments):
    with pytest.raises(PermissionError):
        verify_worker.forbid(event, arguments)


def test_values_are_near_in_proportion():
    small, smaller, text = sympy.Rational(1, 3**60), sympy.Rational(1, 3**61), sympy.Symbol("x")
    assert verify_worker.is_near(small, small)
    assert not verify_worker.is_near(small, smaller)
    assert verify_worker.is_near(sympy.Float("0.3333333"), sympy.Rational(1, 3))
    assert verify_worker.is_near(text, small)
    assert verify_worker.is_near(sympy.FiniteSet(1), sympy.FiniteSet(2)), "told apart elsewhere"


def test_reading_is_allowed():
    verify_worker.forbid("open", ("f", "rb", os.O_RDONLY))
    verify_worker.forbid("import", ("sympy", None, None, None, None))


pieces = st.sampled_from(
    [*"0123456789+-*/^_=<>(){}[]|,.;:!%&~ xyπ√×", "\\frac", "\\sqrt", "\\left(", "\\text{a}", "\\pi", "\\in", "$", "\\"]
)


def test_no_generated_answer_hangs_or_ends_the_worker():
    with CountingVerifier(timeout_s=2.0) as verifier:

        @settings(max_examples=300, deadline=None)
        @given(
            st.lists(pieces, max_size=25).map("".join) | st.text(max_size=30), st.sampled_from(["1", "x+1", "(1,2)"])
        )
        def grade(text, accepted):
            started = time.perf_counter()
            assert verifier.equal(text, [accepted]) in (True, False)
            assert time.perf_counter() - started < 20

        grade()
        assert verifier.crashes == 0
