"""Whether two answers are mathematically equal, decided in a process that can be killed."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from latent_gemma.errors import LatentGemmaError
from latent_gemma.text.answers import MAX_ANSWER_CHARS
from latent_gemma.text.expressions import settle

#: Importing sympy takes a second, on a busy machine many.
START_TIMEOUT_S = 120.0

_WORKER = Path(__file__).with_name("verify_worker.py")
#: Without these some interpreters do not start; nothing else of the environment reaches the worker.
_KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH")
_MAX_REPLY_BYTES = 1000


class VerifierError(LatentGemmaError):
    """The process that compares answers cannot be started at all."""


class _WorkerTimeout(Exception):
    """The worker gave no reply in time and has been killed."""


class _WorkerCrash(Exception):
    """The worker ended, or wrote what is no reply."""


class MathVerifier:
    r"""Mathematical equality by math-verify, safe on any text: `\frac{1}{2}` equals 0.5, `x^2+1` equals `1+x^2`.

    One worker process is started when the first question needs it, and again after it had to be killed. It has no
    environment, may neither write files nor open sockets nor start processes, and its memory and CPU time are limited
    where the system can. Safe to use from any thread; questions are answered one at a time. A forked process starts a
    worker of its own. Use it as a context manager, or call `close`.

    Args:
        timeout_s: wall-clock seconds for one question, after which the worker is killed.
        memory_gib: address space of the worker in GiB.
        max_chars: longer predictions are wrong, unread; longer accepted answers are compared as text only.

    Source: math-verify (Kydlíček 2024). Its own time limits need the main thread and cannot interrupt one long
    multiplication, so they are off and the process is killed instead; a text is compared as a whole, where
    math-verify alone looks for an expression anywhere in it; numbers are compared exactly, without it.
    """

    def __init__(self, timeout_s: float = 5.0, memory_gib: float = 1.0, max_chars: int = MAX_ANSWER_CHARS) -> None:
        self.timeout_s = timeout_s
        self.memory_gib = memory_gib
        self.max_chars = max_chars
        self._lock = threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None
        self._end_worker: weakref.finalize[..., MathVerifier] | None = None
        self._asked = 0
        self._has_run = False
        _VERIFIERS.add(self)

    def __enter__(self) -> "MathVerifier":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. The next question would start another."""
        with self._lock:
            self._stop()

    def equal(self, predicted: str | None, accepted: Sequence[str]) -> bool:
        """Whether a prediction equals one of the accepted answers, as text, as a number or as an expression.

        Args:
            predicted: the extracted answer, with or without `$`; None never matches.
            accepted: what counts as correct.

        Returns:
            True if `settle` says so (the worker is then not asked) or math-verify does. False too where the worker
            took too long, ended or replied nonsense.

        Raises:
            VerifierError: if the worker cannot be started the first time.
        """
        if predicted is None or len(predicted) > self.max_chars:
            return False
        asked: dict[str, list[str]] = {}
        for answer in accepted:
            if len(answer) > self.max_chars:
                continue
            verdict, given, wanted = settle(predicted, answer)
            if verdict is True:
                return True
            if given is not None and wanted is not None:
                asked.setdefault(given, []).append(wanted)
        with self._lock:
            try:
                return any(self._ask(given, wanted) for given, wanted in asked.items())
            except (_WorkerTimeout, _WorkerCrash):
                self._stop()
                return False
            except BaseException:
                # Interrupted between a question and its reply, which must not be read as the next one's.
                self._stop()
                raise

    def _ask(self, given: str, wanted: Sequence[str]) -> bool:
        worker = self._worker or self._start()
        self._asked += 1
        question = {"id": self._asked, "predicted": given, "accepted": wanted}
        reply = _exchange(worker, json.dumps(question).encode("ascii") + b"\n", self.timeout_s)
        if reply.get("id") != self._asked or not isinstance(reply.get("equal"), bool):
            raise _WorkerCrash
        return bool(reply["equal"])

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-B", str(_WORKER), str(self.memory_gib), str(self.timeout_s)]
        try:
            worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                # An interrupt from the keyboard is for the run, which then ends the worker itself.
                start_new_session=True,
            )
            self._worker = worker
            self._end_worker = weakref.finalize(self, _end, worker)
            if _exchange(worker, b"", START_TIMEOUT_S).get("ready") is not True:
                raise _WorkerCrash
        except (OSError, _WorkerCrash, _WorkerTimeout) as error:
            self._stop()
            if self._has_run:
                raise _WorkerCrash from error
            raise VerifierError(
                "the process that compares answers does not start",
                f"check that {sys.executable} finds math-verify and that {self.memory_gib:g} GiB are enough",
            ) from error
        self._has_run = True
        return worker

    def _stop(self) -> None:
        if self._end_worker is not None:
            self._end_worker()
        self._worker = self._end_worker = None

    def _forget(self) -> None:
        """In a forked process: leave the worker, and a lock that a thread may have held, to the parent."""
        self._lock = threading.Lock()
        if self._end_worker is not None:
            self._end_worker.detach()
        if self._worker is not None:
            self._worker.returncode = 0  # it is no child of this process, which must not wait for it
            for pipe in (self._worker.stdin, self._worker.stdout):
                # The descriptor alone: what is buffered is the parent's to send.
                if pipe is not None:
                    getattr(pipe, "raw", pipe).close()
        self._worker = self._end_worker = None


_VERIFIERS: weakref.WeakSet[MathVerifier] = weakref.WeakSet()


def _forget_workers() -> None:
    for verifier in list(_VERIFIERS):
        verifier._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def _exchange(worker: subprocess.Popen[bytes], line: bytes, timeout_s: float) -> dict[str, object]:
    """Send a line and read one; the clock kills the worker, which ends a blocked write or read as well."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    late = threading.Event()

    def kill() -> None:
        late.set()
        worker.kill()

    clock = threading.Timer(timeout_s, kill)
    clock.daemon = True
    clock.start()
    try:
        worker.stdin.write(line)
        worker.stdin.flush()
        reply = worker.stdout.readline(_MAX_REPLY_BYTES)
    except OSError as error:
        reply = b""
        if not late.is_set():
            raise _WorkerCrash from error
    finally:
        clock.cancel()
        clock.join()
    if late.is_set():
        raise _WorkerTimeout
    try:
        data = json.loads(reply)
    except (ValueError, RecursionError) as error:
        raise _WorkerCrash from error
    if not isinstance(data, dict):
        raise _WorkerCrash
    return data


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            # What the dead worker never read cannot be flushed.
            with contextlib.suppress(OSError):
                pipe.close()
