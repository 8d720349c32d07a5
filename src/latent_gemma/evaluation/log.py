"""The log of an evaluation: every finished batch is on the disk before the next begins, so a kill costs one batch."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from latent_gemma.data.example import Example
from latent_gemma.errors import RunError
from latent_gemma.evaluation.items import FILE, Item, Setting, read_log, to_line
from latent_gemma.origin import read_origin, refuse_changes, write_origin

#: Beside the log: what its items depend on.
ORIGIN = "evaluation.json"

#: Told how many answers have just been generated.
Progress = Callable[[int], None]


def _processes() -> PartialState:
    """The processes that were launched together."""
    return PartialState(cpu=not torch.cuda.is_available())


class ItemLog:
    """The finished items of an evaluation, by setting and index; with a folder, on the disk too.

    Args:
        folder: where `items.jsonl` lies; None keeps the items in memory alone.
        origin: what the items depend on, name -> value; written beside the log before the first item.
    """

    def __init__(self, folder: Path | None = None, origin: Mapping[str, str] | None = None) -> None:
        self.path = None if folder is None else folder / FILE
        self.origin = dict(origin or {})
        self._found: dict[Setting, dict[int, Item]] = {}
        if self.path is not None and self.path.exists():
            items, whole = read_log(self.path)
            # What comes next must not be glued to half a line.
            if _processes().is_main_process:
                os.truncate(self.path, whole)
            self._note(items)

    def _note(self, items: Iterable[Item]) -> None:
        for item in items:
            self._found.setdefault(item.setting, {}).setdefault(item.index, item)

    def __bool__(self) -> bool:
        return bool(self._found)

    def finished(self, setting: Setting) -> Mapping[int, Item]:
        """The items of a setting by index."""
        return self._found.get(setting, {})

    def append(self, items: Sequence[Item]) -> None:
        """Add the items of a batch; they are on the disk when this returns.

        Args:
            items: none of which the log holds yet.
        """
        if self.path is not None and _processes().is_main_process:
            if not self.path.exists():
                write_origin(self.path.with_name(ORIGIN), self.origin)
            with self.path.open("ab") as file:
                file.write(b"".join(map(to_line, items)))
                file.flush()
                os.fsync(file.fileno())
        self._note(items)


def open_log(folder: Path, origin: Mapping[str, str]) -> ItemLog:
    """Start a log, or go on with the one that is there.

    Args:
        folder: where it lies.
        origin: what its items depend on: name -> value.

    Returns:
        The log; nothing is written before its first item.

    Raises:
        RunError: if what is there depends on something else, or is damaged.
    """
    if (folder / FILE).exists():
        refuse_changes(folder, "an evaluation", read_origin(folder / ORIGIN), origin)
    return ItemLog(folder, origin)


def answer_missing(
    log: ItemLog,
    setting: Setting,
    examples: Sequence[Example],
    batch_size: int,
    answer: Callable[[Sequence[int]], list[Item]],
    progress: Progress | None = None,
    order: Sequence[int] | None = None,
) -> list[Item]:
    """Answer every example that the log does not hold, batch by batch, shared among the processes of a launch.

    Args:
        log: what is finished.
        setting: what is measured.
        examples: all questions.
        batch_size: questions answered at once. A batch with a missing item is answered as a whole, in the company it
            would have had without an interruption.
        answer: from the indices of a batch to its items.
        progress: told after every batch.
        order: indices of the questions in the order they are answered in; None takes them as they come.

    Returns:
        One item an example, in order.

    Raises:
        RunError: if the log holds answers to other questions.
    """
    known = log.finished(setting)
    # Questions too long for a larger K leave the list, and all behind them move up.
    if any(index >= len(examples) or item.question != examples[index].question for index, item in known.items()):
        raise RunError(f"{log.path} holds answers to other questions", "give another --out")
    finished = log.finished(setting)
    order = range(len(examples)) if order is None else order
    batches = [sorted(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    waiting = [batch for batch in batches if any(index not in finished for index in batch)]
    # Processes that were launched together take batches in turn, and all know all items after each turn.
    processes = _processes()
    for turn in range(0, len(waiting), processes.num_processes):
        new: list[Item] = []
        for batch in waiting[turn : turn + processes.num_processes][processes.process_index :][:1]:
            new = [item for item in answer(batch) if item.index not in finished]
        new = gather_object(new)
        log.append(new)
        if progress is not None:
            progress(len(new))
        finished = log.finished(setting)
    return [finished[index] for index in range(len(examples))]
