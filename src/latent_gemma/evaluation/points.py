"""What an evaluation measures of a model: the grid over K, p, controls and votes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latent_gemma.choices import Controls, NumThoughts
from latent_gemma.data.example import Example
from latent_gemma.evaluation.items import Setting
from latent_gemma.evaluation.metrics.bertscore import DEFAULT_ENCODER
from latent_gemma.evaluation.results import CONTROLS, DOSE, KEEP, STOP
from latent_gemma.evaluation.vote_rows import VOTED
from latent_gemma.evaluation.voting import TEMPERATURES
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.ranges import k_order
from latent_gemma.text.answers import Match, answers_match
from latent_gemma.text.language import AnswerLanguage, ask_in

#: Noise added to the thoughts, in units of their RMS.
DOSES = (0.25, 0.5, 1.0, 2.0)
#: Points of a curve over the first m thoughts, at most.
MOST_POINTS = 6


@dataclass(frozen=True)
class EvalSettings:
    """What is measured.

    Args:
        ks: numbers of latent steps to try at the main p; "auto" for as many as the model itself takes.
        ps: shares of the token embedding to try at the main K.
        controls: "basic" measures zeroed, noise, swapped, permuted and pause thoughts and K = 0; "full" also curves
            over added noise, over the first m thoughts kept, and over K up to the main one; a truth value is "basic" or
            "none".
        batch_size: questions answered at once; of votes, traces.
        max_new_tokens: bound on generated tokens.
        seed: of the controls and of the votes' sampling.
        metrics: further metrics where the thoughts are the model's own, names of `METRICS`.
        encoder: of BERTScore: a hub name or a local directory.
        match: how answers are compared.
        answer_language: what the answers should be in.
        votes: traces of a vote, held at every K and p; 0 for none.
        temperatures: of the traces, taken in turn.
        noise: on each trace's thoughts, in units of their RMS.
        compiled: compile the steps of thinking and decoding.
    """

    ks: tuple[NumThoughts, ...] = ()
    ps: tuple[float, ...] = ()
    controls: Controls | bool = "basic"
    batch_size: int = 64
    max_new_tokens: int = 256
    seed: int = 0
    metrics: tuple[str, ...] = ()
    encoder: str = DEFAULT_ENCODER
    match: Match = answers_match
    answer_language: AnswerLanguage = "same"
    votes: int = 0
    temperatures: tuple[float, ...] = TEMPERATURES
    noise: float = 0.0
    compiled: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.controls, bool):
            object.__setattr__(self, "controls", "basic" if self.controls else "none")


@dataclass(frozen=True)
class Point:
    """A point of the grid: K latent steps, p (None as configured), what stands in the thoughts, traces of a vote."""

    k: NumThoughts
    p: float | None = None
    control: str = "none"
    votes: int = 0

    def setting(self, label: str, own_p: float, mode: Mode) -> Setting:
        """The point as the items and the row of a method name it."""
        p = (own_p if self.p is None else self.p) if self.k else None
        return Setting(f"{label}{VOTED}" if self.votes else label, self.k, p, self.control, mode)


def ordered_thoughts(latent: LatentConfig, k: NumThoughts) -> int:
    """How many thoughts there are that come one after the other: of a learnt K those it was trained around.

    In recurrence "sequence" the thoughts are the positions of the prompt, and there are none.
    """
    return 0 if latent.recurrence == "sequence" else latent.num_thoughts if k == "auto" else k


def _first(thoughts: int) -> list[int]:
    """Numbers of first thoughts, 1 to one less than all: all of them, or some that are spread over them."""
    count = min(thoughts - 1, MOST_POINTS)
    return sorted({1 + round(at * (thoughts - 2) / max(1, count - 1)) for at in range(count)})


def plan(k: NumThoughts, p: float, mode: Mode, settings: EvalSettings, ordered: int | None = None) -> list[Point]:
    """What is measured of one model.

    Args:
        k: its own K.
        p: its own p.
        mode: in words and without reasoning there is one point, and its vote.
        settings: what is asked for.
        ordered: see `ordered_thoughts`; None takes K.

    Returns:
        The main point first, each once: over K, over p, the controls, then votes over K and p.
    """
    if mode != "latent" or k == 0:
        points = [Point(0)]
    else:
        ordered = (0 if k == "auto" else k) if ordered is None else ordered
        names, first = [], _first(ordered) if settings.controls == "full" else []
        if settings.controls != "none":
            names = [name for name in CONTROLS[1:] if name != "permute" or ordered > 1]
        if settings.controls == "full":
            names += [f"{DOSE}_{dose:g}" for dose in DOSES]
            # of a fixed K the read-out after m thoughts is the curve over K
            names += [f"{name}_{m}" for name in ((KEEP, STOP) if k == "auto" else (KEEP,)) for m in first]
        own = {*([0] if settings.controls != "none" else []), *(first if k != "auto" else [])}
        over_k = [Point(other) for other in sorted({*settings.ks, *own} - {k}, key=k_order)]
        over_p = [Point(k, other) for other in sorted(set(settings.ps) - {p})]
        points = [Point(k), *over_k, *over_p, *(Point(k, control=name) for name in names)]
    if not settings.votes:
        return points
    voted = [point for point in points if point.control == "none" and point.k in (points[0].k, *settings.ks)]
    return points + [Point(point.k, point.p, votes=settings.votes) for point in voted]


def too_long(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    examples: Sequence[Example],
    mode: Mode,
    k: NumThoughts,
    answer_language: AnswerLanguage,
) -> dict[int, str]:
    """Find questions that a model cannot take.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        examples: the questions.
        mode: see `answer_batch`.
        k: the largest number of latent steps; "auto" for the bound on a learnt one.
        answer_language: what the answers should be in.

    Returns:
        Index -> what is wrong with it.
    """
    latent, limit = model.config.latent, model.config.max_position_embeddings
    frame, k = Frame(tokenizer, latent), latent.most_thoughts if k == "auto" else k
    lengths = [len(frame.prompt(ask_in(example.question, answer_language), mode, k)) for example in examples]
    return {
        index: f"{length} tokens, and the model takes {limit}"
        for index, length in enumerate(lengths)
        if length >= limit
    }
