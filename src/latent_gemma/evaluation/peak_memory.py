"""Peak memory of a piece of work."""

import sys
from contextlib import suppress
from pathlib import Path

import torch

_PROC = Path("/proc/self")


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far: of the GPU's allocator, or of this process where the system can (Linux).

    Args:
        device: where the work will be done.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            (_PROC / "clear_refs").write_text("5")


def peak_gib(device: torch.device) -> float | None:
    """The peak since `reset_peak`.

    Args:
        device: where the work was done.

    Returns:
        GiB: on a GPU what PyTorch allocated, else the resident memory of the whole process (since its start where the
        system cannot forget a peak); None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    with suppress(OSError, ValueError, StopIteration):
        lines = (_PROC / "status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20
    with suppress(ImportError):
        import resource

        # macOS counts in bytes, others in KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return None
