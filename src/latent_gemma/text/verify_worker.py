"""The process that parses model output: run by path in a bare interpreter, started and killed by `verify.py`.

It reads one JSON object a line (`id`, `predicted`, `accepted`) and answers one a line (`id`, `equal`). It imports
nothing of this package, so that a bare interpreter can run the file wherever it lies.
"""

import contextlib
import json
import os
import sys
import time
from typing import Any

#: What no comparison needs: a process, a socket, a change on the disk.
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "os.rename", "os.mkdir")
#: Two decimal numbers that are equal differ by no more than this share.
TOLERANCE = 1e-5
_FORBIDDEN_ROOMS = ("subprocess.", "socket.", "shutil.", "urllib.")


def limit_memory(memory_gib: float) -> None:
    """Cap memory, and forbid files and core dumps; where the system has no such limits, the wall clock remains.

    Args:
        memory_gib: address space in GiB.
    """
    try:
        import resource
    except ImportError:
        return
    limits = {"RLIMIT_AS": int(memory_gib * 2**30), "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, value in limits.items():
        # macOS names RLIMIT_AS and refuses to set it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))


def limit_cpu(seconds: float) -> None:
    """Cap the CPU time from now on, so that a worker whose parent has died while it computes ends as well.

    Args:
        seconds: CPU time in seconds.
    """
    with contextlib.suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 2, hard))


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: refuse what a comparison never does. A second fence; the first is that nothing is evaluated.

    Args:
        event: name of the audit event.
        arguments: its arguments.

    Raises:
        PermissionError: for a process, a socket, or a file opened for writing.
    """
    writes = event == "open" and (
        (isinstance(arguments[1], str) and arguments[1].strip("rbtU") != "")
        or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR) != 0)
    )
    if writes or event in _FORBIDDEN or event.startswith(_FORBIDDEN_ROOMS):
        raise PermissionError(event)


def is_near(one: Any, other: Any) -> bool:
    """Whether two values found equal are, in proportion: math-verify rounds to six decimals, where 3^-60 is 3^-61.

    Args:
        one: a parsed answer.
        other: a parsed answer.

    Returns:
        False for two numbers that differ by more than `TOLERANCE` of the larger; True for anything else.
    """
    try:
        numbers = [complex(value.doit().evalf(15)) for value in (one, other)]
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return True
    return abs(numbers[0] - numbers[1]) <= TOLERANCE * max(map(abs, numbers))


def serve(memory_gib: float, timeout_s: float) -> None:
    """Answer questions until the input ends.

    Args:
        memory_gib: address space in GiB.
        timeout_s: CPU time of one answer in seconds.
    """
    # Whatever a library prints must not be read as an answer.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    limit_memory(memory_gib)
    import logging

    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    # LaTeX only, all or nothing: the other readings take "9" out of "9**9" and "3" out of "3; 4".
    # Units were taken away by whoever asks: here "4t" and "6c" would lose their letters.
    normal = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    latex = [LatexExtractionConfig(normalization_config=normal)]

    def read(text: str) -> list[Any]:
        # Without a time limit of its own: that needs signals, and a signal cannot stop one long multiplication.
        return parse(text, latex, fallback_mode="no_fallback", parsing_timeout=None)

    def is_equal(gold: list[Any], given: list[Any]) -> bool:
        return verify(gold, given, timeout_seconds=None, allow_set_relation_comp=True) and all(
            is_near(one, other) for one, other in zip(gold, given, strict=False)
        )

    sys.addaudithook(forbid)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        limit_cpu(timeout_s)
        given = read(question["predicted"])
        equal = any(is_equal(read(gold), given) for gold in question["accepted"])
        print(json.dumps({"id": question["id"], "equal": equal}), file=replies, flush=True)


if __name__ == "__main__":
    serve(float(sys.argv[1]), float(sys.argv[2]))
