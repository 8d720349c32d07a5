"""What a launcher (`accelerate launch`, torchrun) tells each of its processes.

accelerate's `PartialState` knows it too, but whoever makes the first one decides for the whole process: made without
saying that it computes on a CPU, a launched process takes itself for the only one there.
"""

import os


def is_main_process() -> bool:
    """Whether this process writes: the only one, or the first of those that were launched."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes were launched together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
