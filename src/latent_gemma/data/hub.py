"""Data sets by hub name, through `datasets`."""

from collections.abc import Iterator

from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat
from latent_gemma.data.rows import FileColumns, parse_row
from latent_gemma.errors import DataError

#: Configurations of data sets that have no default one.
_CONFIGS = {"openai/gsm8k": "main", "gsm8k": "main"}


def read_hub(
    name: str, split: str, columns: FileColumns | None = None, steps_format: StepsFormat = "natural"
) -> Iterator[Example]:
    """Read a data set from the hub; no code of the data set is ever run.

    Args:
        name: "owner/name", or "owner/name:config".
        split: name of the split.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.

    Yields:
        Examples, in order.

    Raises:
        DataError: if it cannot be had (offline, gated, unknown), or a row is malformed.
    """
    import datasets

    repository, _, config = name.partition(":")
    try:
        rows = datasets.load_dataset(repository, config or _CONFIGS.get(repository), split=split)
    except Exception as error:  # the library raises many kinds; each means the data cannot be had
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "gated" in text.lower():
            raise DataError(
                f"{name} is gated on the hub", "accept its terms there, then run `hf auth login`"
            ) from error
        raise DataError(
            f"{name} cannot be had from the hub: {text}", "check the name and the network, or give a local file"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield parse_row(row, columns, steps_format, f"{name} ({split}), row {number}")
