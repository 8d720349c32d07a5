"""What an evaluation returns: plain rows that the terminal table, the JSON file, the plots and the report all read."""

from dataclasses import asdict, dataclass, field
from statistics import stdev
from typing import Any

from latent_gemma.choices import NumThoughts

#: What stands in the thought positions. "none" leaves the model's own thoughts in place.
CONTROLS = ("none", "zero", "noise", "swap", "permute", "pause")
#: Controls that come in strengths, each as its name, "_" and a number: noise added in units of the thoughts' RMS; the
#: first m thoughts kept and the rest swapped; no more than the first m thoughts taken.
DOSE, KEEP, STOP = "noise", "keep", "stop"


def strength(control: str, name: str) -> float | None:
    """The number of a control that comes in strengths: 2.0 of "keep_2" under the name "keep"; None of any other."""
    own, _, number = control.partition("_")
    return float(number) if own == name and number else None


def mode_of_older(data: dict[str, Any]) -> str:
    """The mode behind a row or item of a version that did not write it down: a format was asked for in words alone."""
    return "words" if data.get("complete") is not None else "latent" if data["k"] else "none"


@dataclass(frozen=True)
class EvalRow:
    """Accuracy and cost of one model under one setting, over one data set.

    Args:
        label: the method as shown to people ("annealed", "words", "no reasoning").
        k: latent steps before the answer; 0 is the model without thoughts, "auto" as many as the model chose.
        p: share of the token embedding in what is fed back; None where no latent step is taken.
        control: one of `CONTROLS`, or one that comes in strengths, such as "keep_2".
        correct: items answered correctly under lenient matching.
        strict: items answered correctly under strict matching.
        total: items evaluated.
        low: lower end of the 95 % Wilson interval of `correct / total`.
        high: upper end of it.
        tokens_per_answer: mean number of generated tokens (reasoning in words and answer, without the prompt).
        passes_per_answer: mean number of decoder passes after the prompt: generated tokens plus latent steps, or
            plus the T passes in which recurrence "parallel" takes these.
        seconds_per_answer: wall-clock seconds of a batch divided by its items, the median of several turns; None where
            it was not timed beside the other methods (`time_in_turns`).
        complete: answers in the format that was asked for: reasoning and answer each once, in order and closed; None
            where no format was asked for.
        truncated: answers cut off at the bound on generated tokens.
        figures: further metrics, name -> value; the name tells the scale.
        extracted: answers in which the lenient rules find one; None where it was not counted, as below.
        marked: answers in which the strict rules find one: in an answer mark, or where the prompt's format puts it.
        latent_steps_per_answer: mean number of latent steps, those of all traces of a vote together.
        peak_mem_gib: peak memory while these items were answered, in GiB: of the GPU, or of the process on a CPU.
        language: of the questions, in a row of one language alone; empty in a row of all.
        answer_language: of the answers wanted, in such a row.
        mode: the model was asked in: "latent", "words" or "none".
        answer_logprob: mean log-probability of the right answer and its end, nats; see `score_answers`.
        donor_rate: of swapped thoughts, share of answers that are right for the question the thoughts came from.
        donor_total: answers in that share: those to questions whose right answer is another than the donor's.
        k_table: where the model chooses K: (K that the written steps ask for, K taken, answers), sorted; None for the
            first where the data has no steps.
        by_seed: (seed, accuracy) of each of several seeds, whose items the row sums up; `low` and `high` are then for
            the questions of one seed.
        seconds_range: the fastest and the slowest turn; of several seeds over all of them.
    """

    label: str
    k: NumThoughts
    p: float | None
    control: str
    correct: int
    strict: int
    total: int
    low: float
    high: float
    tokens_per_answer: float
    passes_per_answer: float
    seconds_per_answer: float | None
    complete: int | None = None
    truncated: int = 0
    figures: dict[str, float | str] = field(default_factory=dict)
    extracted: int | None = None
    marked: int | None = None
    latent_steps_per_answer: float | None = None
    peak_mem_gib: float | None = None
    language: str = ""
    answer_language: str = ""
    mode: str = ""
    answer_logprob: float | None = None
    donor_rate: float | None = None
    donor_total: int | None = None
    k_table: tuple[tuple[int | None, int, int], ...] = ()
    by_seed: tuple[tuple[int, float], ...] = ()
    seconds_range: tuple[float, float] | None = None

    @property
    def accuracy(self) -> float:
        """Share of items answered correctly under lenient matching, 0 to 1."""
        return self.correct / self.total

    @property
    def k_right(self) -> float | None:
        """Share of answers whose K is what the written steps ask for; None where nothing was chosen or asked for."""
        asked = [(taken == wanted, count) for wanted, taken, count in self.k_table if wanted is not None]
        return sum(right * count for right, count in asked) / sum(count for _, count in asked) if asked else None

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the accuracy over seeds; None of fewer than two."""
        return stdev(accuracy for _, accuracy in self.by_seed) if len(self.by_seed) > 1 else None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EvalRow":
        """A row of `EvalReport.to_dict`, which also has its accuracy, as it was."""
        kept = {key: value for key, value in data.items() if key != "accuracy"}
        for name in ("k_table", "by_seed"):  # JSON has no tuples
            kept[name] = tuple(map(tuple, kept.get(name, ())))
        if spread := kept.get("seconds_range"):
            kept["seconds_range"] = tuple(spread)
        else:  # of a version that timed each method once, and not beside the others
            kept["seconds_per_answer"] = None
        return cls(**{"mode": mode_of_older(data), **kept})


@dataclass(frozen=True)
class ThoughtStep:
    """One latent step of one item, as the thought lens sees it.

    Args:
        step: 1-based number of the latent step.
        tokens: the tokens the state is closest to through the model's own head, most probable first.
        probabilities: their probabilities under that head, same order.
        norm: Euclidean norm of what was fed back.
        entropy_nats: entropy of the head's whole distribution.
        target: the written step this thought stands for, where the data has one.
        layers: per decoder layer, the most probable token there; empty unless asked for.
        layer_probabilities: of these tokens.
        ids: of `tokens`.
        stop: probability that thinking ends behind this step; None where thoughts do not say so ("sequence").
    """

    step: int
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    norm: float
    entropy_nats: float
    target: str = ""
    layers: tuple[str, ...] = ()
    layer_probabilities: tuple[float, ...] = ()
    ids: tuple[int, ...] = ()
    stop: float | None = None


@dataclass(frozen=True)
class ThoughtTrace:
    """One item with its answer and the thoughts, or the written reasoning, that led to it."""

    label: str
    question: str
    expected: str
    answer: str
    correct: bool
    steps: tuple[ThoughtStep, ...]
    reasoning: str = ""


@dataclass(frozen=True)
class Differences:
    """Questions that some methods answer rightly and others do not.

    Args:
        items: a few of them, one trace a method each.
        count: how many there are.
        total: questions asked.
    """

    items: tuple[tuple[ThoughtTrace, ...], ...]
    count: int
    total: int


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn.

    Args:
        title: what it shows.
        header: one heading a column.
        rows: the cells; the first of a row names it.
        note: how to read it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


@dataclass(frozen=True)
class Point:
    """A point of a line; with `low` and `high`, the ends of its 95 % interval; with `x_range`, those of its x."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    x_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """A line chart before it is drawn.

    Args:
        name: of its PNG file.
        title: its heading.
        x_label: what runs along the bottom.
        y_label: what runs upwards; shares are drawn in percent.
        lines: label -> points, from left to right.
        shares: the values are shares, 0 to 1.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    lines: dict[str, tuple[Point, ...]]
    shares: bool = True


@dataclass(frozen=True)
class EvalReport:
    """Everything one evaluation found; the only thing plots, tables and the HTML report are made from.

    Args:
        title: heading of the report.
        verdict: what was found, in a sentence or two.
        rows: every setting measured. The controls of a label carry the same k and p as its main row.
        traces: a few items with their thoughts.
        context: seed, versions, machine, data set, command; shown as a table.
        curves: training curves, name -> list of {"step": int, "value": float}; may be empty.
        tables: further tables, such as maj@k.
        charts: further line charts.
        languages: the main rows once more for each language, where the questions are in several.
        choice: which of several methods to pick, in two or three words; the first thing on the page.
        reason: why, in a sentence or two.
        differences: where several methods differ.
    """

    title: str
    verdict: str
    rows: tuple[EvalRow, ...]
    traces: tuple[ThoughtTrace, ...] = ()
    context: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    tables: tuple[Grid, ...] = ()
    charts: tuple[Chart, ...] = ()
    languages: tuple[EvalRow, ...] = ()
    choice: str = ""
    reason: str = ""
    differences: Differences | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EvalReport":
        """A report of `to_dict`, as it was; one of an older version may lack what is new.

        Raises:
            KeyError, TypeError: where the data are of something else.
        """

        def traces(found: list[dict[str, Any]]) -> tuple[ThoughtTrace, ...]:
            return tuple(
                ThoughtTrace(**{**trace, "steps": tuple(ThoughtStep(**step) for step in trace["steps"])})
                for trace in found
            )

        def chart(found: dict[str, Any]) -> Chart:
            lines = {label: tuple(Point(**point) for point in points) for label, points in found["lines"].items()}
            return Chart(**{**found, "lines": lines})

        read: dict[str, Any] = {
            "rows": tuple(map(EvalRow.from_dict, data["rows"])),
            "languages": tuple(map(EvalRow.from_dict, data.get("languages", ()))),
            "traces": traces(data.get("traces", [])),
            "tables": tuple(
                Grid(grid["title"], tuple(grid["header"]), tuple(map(tuple, grid["rows"])), grid["note"])
                for grid in data.get("tables", ())
            ),
            "charts": tuple(map(chart, data.get("charts", ()))),
        }
        if found := data.get("differences"):
            read["differences"] = Differences(tuple(map(traces, found["items"])), found["count"], found["total"])
        return cls(**{**data, **read})

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data; every row also carries its `accuracy`."""
        data = asdict(self)
        for name, originals in (("rows", self.rows), ("languages", self.languages)):
            for row, original in zip(data[name], originals, strict=True):
                row["accuracy"] = original.accuracy
        return data
