"""What a terminal shows in columns: no word is broken, and where the words do not fit, each line becomes a record."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from latent_gemma.text.display import displayable

#: Of a cell that was not measured.
ABSENT = "–"
#: Words longer than this, such as paths and hashes, may be broken; a column of text is not narrower than the other.
LONGEST_WORD, TEXT_WIDTH = 24, 16
_LETTERS = re.compile(r"[^\W\d_]")


def spoken(seconds: float) -> str:
    """A duration in the unit a person would take: "0.3 s", "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def spoken_bytes(count: float) -> str:
    """Memory in the unit a person would take: "40 MiB", "3.1 GiB"."""
    mib = count / 2**20
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def wrapped(text: str) -> str:
    """A sentence in lines of the terminal."""
    return "\n".join(textwrap.wrap(text, shutil.get_terminal_size().columns))


def facts(said: Mapping[str, str]) -> RenderableType:
    """Names and what there is to say of each, one below the other.

    Args:
        said: name -> text of any origin, wrapped where the terminal ends.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in said.items():
        table.add_row(Text(name, style="dim"), Text(displayable(text)))
    return table


@dataclass(frozen=True)
class Columns:
    """A table as wide as the terminal allows.

    Args:
        header: its headings.
        rows: its cells, all text of any origin.
        title: above it.
        note: below it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""

    @property
    def _texts(self) -> list[list[str]]:
        return [[displayable(cell) for cell in row] for row in (self.header, *self.rows)]

    @property
    def widest(self) -> int:
        """Cells it takes where nothing is wrapped."""
        return sum(map(_width, zip(*self._texts, strict=True))) + len(self.header) - 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(f"\n{displayable(self.title)}", style="bold")
        columns = [*zip(*self._texts, strict=True)]
        widths = _fitted(columns, options.max_width - len(columns) + 1)
        if widths is None:
            yield from self._records(options.max_width)
        else:
            yield self._table(columns, widths)
        if self.note:
            yield Text(displayable(self.note), style="table.caption")

    def _table(self, columns: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
        for index, ((heading, *cells), width) in enumerate(zip(columns, widths, strict=True)):
            numbers = index > 0 and not any(map(_LETTERS.search, cells))
            # Text, not str: a label or a heading in square brackets is no markup.
            table.add_column(Text(heading), justify="right" if numbers else "left", width=width, overflow="fold")
        for first, *rest in zip(*(cells for _, *cells in columns), strict=True):
            table.add_row(Text(first, style="bold"), *map(Text, rest))
        return table

    def _records(self, room: int) -> Iterable[RenderableType]:
        headings, *rows = self._texts
        for first, *rest in rows:
            yield Text(first, style="bold", overflow="fold")
            line = Text()
            for heading, cell in zip(headings[1:], rest, strict=True):
                if cell in ("", ABSENT):
                    continue
                said = Text.assemble((heading, "dim"), " ", cell)
                if line and line.cell_len + 3 + said.cell_len > room - 2:
                    yield Padding(line, (0, 0, 0, 2))
                    line = Text()
                line = Text.assemble(line, "   ", said) if line else said
            if line:
                yield Padding(line, (0, 0, 0, 2))


def _width(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)


def _least(column: Sequence[str]) -> int:
    """Cells below which a word would be broken; what is written without spaces has words of a character or two."""
    words = [word for text in column for word in text.split()]
    longest = max((_unbroken(word) for word in words), default=1)
    if not any(map(_LETTERS.search, column[1:])):  # numbers with their intervals
        return max(longest, _width(column[1:]))
    return max(min(longest, LONGEST_WORD), min(_width(column[1:]), TEXT_WIDTH))


def _unbroken(word: str) -> int:
    """The widest part of a word that is to stay on one line: between characters of double width it may end."""
    runs = re.split("|".join({re.escape(c) for c in word if cell_len(c) > 1}) or r"(?!)", word)
    return max(2 * (len(runs) > 1), *map(cell_len, runs))


def _fitted(columns: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Widths of the columns that fit the room, the widest giving way first; None where words would break."""
    least = [min(_least(column), room) for column in columns]
    widths = [max(lowest, min(_width(column), room)) for lowest, column in zip(least, columns, strict=True)]
    while sum(widths) > room:
        loose = [index for index, width in enumerate(widths) if width > least[index]]
        if not loose:
            return None
        widths[max(loose, key=widths.__getitem__)] -= 1
    return widths
