"""Which data a verb reads."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from latent_gemma.ranges import Advanced, Count, Whole, check_ranges

if TYPE_CHECKING:
    from latent_gemma.data.load import DataSpec


@dataclass(frozen=True)
class DataSettings:
    """Which examples a recipe reads.

    Args:
        data: "arithmetic[:ops=add,mul;digits=2]", "chains[:length=4]", "prosqa[:hops=3]", "prosqa:nodes=23" (one letter
            a node), "multiplication[:digits=4]", a local JSONL, JSON, CSV, TSV, XML, Parquet or text file, or a hub
            name.
        limit: use at most this many examples; needed for the generators.
        holdout: leave the last n rows of a local file to evaluation.
        steps_format: how GSM8K's steps are written: sentences, expressions, or their results alone.
        question_column: name of the column that holds the question; published formats are recognised without.
        steps_column: name of the column that holds the steps.
        answer_column: name of the column that holds the answer.
    """

    data: str
    limit: Count | None = None
    holdout: Whole = 0
    steps_format: Advanced[Literal["natural", "expression", "result"]] = "natural"
    question_column: Advanced[str | None] = None
    steps_column: Advanced[str | None] = None
    answer_column: Advanced[str | None] = None

    def __post_init__(self) -> None:
        check_ranges(self)

    def spec(self, split: str, seed: int, limit: int | None = None) -> "DataSpec":
        """The data specification of one split."""
        # help needs none of it, and it takes a tenth of a second
        from latent_gemma.data.load import DataSpec
        from latent_gemma.data.rows import FileColumns

        named = {"question": self.question_column, "steps": self.steps_column, "answer": self.answer_column}
        given = {name: column for name, column in named.items() if column is not None}
        return DataSpec(
            source=self.data,
            split=split,
            limit=self.limit if limit is None else limit,
            seed=seed,
            steps_format=self.steps_format,
            holdout=self.holdout,
            columns=FileColumns(**given) if given else None,
        )
