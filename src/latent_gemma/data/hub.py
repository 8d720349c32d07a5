"""Data sets by hub name, through `datasets`."""

from collections.abc import Callable, Iterator

from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat
from latent_gemma.data.rows import FileColumns, parse_row, sound_examples
from latent_gemma.errors import DataError

#: Configurations of data sets that have several and no default one.
_CONFIGS = {"openai/gsm8k": "main"}
#: What the library's message holds -> what to do about it; the first that fits.
_REMEDIES = (
    ("gated", "accept its terms on its page, then run `hf auth login`"),
    ("script", "it needs code of its own, which is never run: give a data set in Parquet or JSON, or a local file"),
    ("config", 'name a configuration of it: "owner/name:config"'),
    ("split", "name one of its splits"),
    ("offline", "connect to the network, or give a local file"),
    ("reach", "check the network, or give a local file"),
)


def _remedy(message: str) -> str:
    return next(
        (remedy for word, remedy in _REMEDIES if word in message.lower()), "check the name, or give a local file"
    )


def load_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    columns: FileColumns | None = None,
    steps_format: StepsFormat = "natural",
    on_bad: Callable[[DataError], None] | None = None,
) -> Iterator[Example]:
    """Read a data set from the hub; no code of the data set is ever run.

    Args:
        name: "owner/name".
        config: its configuration; None takes the default one ("main" for openai/gsm8k).
        split: name of the split.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.
        on_bad: told of each malformed row, which is then left out; None raises at the first.

    Yields:
        Examples, in order.

    Raises:
        DataError: if it cannot be had (offline, gated, unknown), or a row is malformed.
    """
    import datasets

    try:
        rows = datasets.load_dataset(name, config or _CONFIGS.get(name), split=split)
    except Exception as error:  # the library and those under it raise many kinds; each means the data cannot be had
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} cannot be had from the hub, {message}", _remedy(message)) from error
    placed = ((f"{name} ({split}), row {number}", row) for number, row in enumerate(rows, start=1))
    yield from sound_examples(placed, lambda where, row: parse_row(row, columns, steps_format, where), on_bad)
