"""A small Gemma 2 on generated ProsQA by words, COCONUT, annealed, and no reasoning.

The report in results/prosqa:

    python studies/prosqa.py --seed 1
"""

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from shared import command, run_results
from tokenizers import AddedToken

from latent_gemma.data.example import Example
from latent_gemma.data.local import read_file
from latent_gemma.data.prosqa import CONCEPTS, NAMES, ProsqaConfig, prosqa_examples
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.ranges import Count, Positive, Seed, check_ranges
from latent_gemma.recipes.methods import Method
from latent_gemma.recipes.study import Study
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum, WrittenCurriculum
from latent_gemma.training.settings import Resume, TrainSettings

#: Warm-up: to look a concept up in a list of sentences is learnt several times faster on short lists.
SMALL = ProsqaConfig(concepts=4, min_hops=1, max_hops=2)
GRAPHS = ProsqaConfig(concepts=8, min_hops=2, max_hops=3)
MAX_ROWS = 24_000  #: rows of a pool; longer runs see them again, as the published recipe does
SIZES = {"hidden_size": 96, "num_layers": 3, "num_heads": 2, "intermediate_size": 192}
SETTINGS = TrainSettings(batch_size=32, lr=3e-3, warmup=0.05, log_every=25)
WARM_UP, WORDS, COCONUT = 1400, 300, 400
LATER_LR = 2e-3
METHODS = (
    Method("words, small graphs", None, WrittenCurriculum("words"), WARM_UP, "small", measured=False),
    Method("words", "words, small graphs", WrittenCurriculum("words"), WORDS, "graphs", LATER_LR),
    Method(
        "COCONUT",
        "words",
        CoconutCurriculum(max_latent_stage=GRAPHS.max_hops, final_stages=1, pad_latent_to_max=True, uniform_prob=0.1),
        COCONUT,
        "graphs",
        LATER_LR,
    ),
    # The anchor keeps each thought decodable as a token of its step, then fades.
    Method(
        "annealed",
        "words",
        AnnealCurriculum(grow_until=0.35, p_until=0.7, anchor_until=0.85),
        COCONUT,
        "graphs",
        LATER_LR,
    ),
    Method("none, small graphs", None, WrittenCurriculum("none"), WARM_UP, "small", measured=False),
    # As many steps as the latent models have had in both their stages on these graphs.
    Method("no reasoning", "none, small graphs", WrittenCurriculum("none"), WORDS + COCONUT, "graphs", LATER_LR),
)


@dataclass(frozen=True)
class Prosqa:
    """Train a small Gemma 2 on generated ProsQA: words, COCONUT, annealed, no reasoning; controls on held-out graphs.

    Args:
        out: folder of the report.
        models: folder of the models; None takes the name of `out` under runs.
        published: a local file of the published rows, on which every method is measured too.
        c_thought: latent steps for each written one; a written step has two tokens.
        items: held-out questions each setting is measured on.
        seed: of the weights, the data and the training.
        scale: multiplies the number of training steps; below 1 the models are not trained to the end.
        max_hours: stop in time, after this many hours.
        resume: go on with a study that was stopped: methods that are finished are not trained again; "auto" starts it
            if there is none.
    """

    out: Path = Path("results/prosqa")
    models: Path | None = None
    published: Path | None = None
    c_thought: Count = 2
    items: Count = 500
    seed: Seed = 0
    scale: Positive = 1.0
    max_hours: Positive | None = None
    resume: Resume = "no"

    def __post_init__(self) -> None:
        check_ranges(self)


def phrase_tokenizer() -> Any:
    """A tokenizer with one token a phrase ("Every lempus", " is a lempus."): a sentence has two tokens."""
    tokenizer = build_tokenizer()
    phrases = [form.format(word) for word in CONCEPTS for form in ("Every {}", " is a {}.", " a {}", " or {}?")]
    phrases += [form.format(name) for name in NAMES for form in ("{}", "Is {}")]
    # The space between two sentences belongs to the second.
    tokenizer.add_tokens([AddedToken(phrase, normalized=False, lstrip=True) for phrase in phrases])
    return tokenizer


def prosqa_study(config: Prosqa) -> Study:
    """The task and its methods.

    Args:
        config: see `Prosqa`.

    Returns:
        The study.
    """

    def train(pool: str, count: int) -> list[Example]:
        family = SMALL if pool == "small" else GRAPHS
        return list(itertools.islice(prosqa_examples(family, "train", config.seed), min(count, MAX_ROWS)))

    further = {} if config.published is None else {"published rows": list(read_file(config.published.expanduser()))}
    hops = f"{GRAPHS.min_hops} to {GRAPHS.max_hops} hops"
    return Study(
        name="studies/prosqa",
        title="ProsQA: a small Gemma 2 by every method",
        task=f"generated ProsQA, {GRAPHS.concepts} concepts, {hops} (published: about 20 concepts, 3 to 6 hops)",
        methods=METHODS,
        train=train,
        tests=list(itertools.islice(prosqa_examples(GRAPHS, "test", config.seed), config.items)),
        tokenizer=phrase_tokenizer(),
        settings=SETTINGS,
        sizes=SIZES,
        num_thoughts=GRAPHS.max_hops * config.c_thought,
        c_thought=config.c_thought,
        max_new_tokens=4 * GRAPHS.max_hops + 8,
        ks=tuple(config.c_thought * steps for steps in range(GRAPHS.max_hops + 2)),
        ps=(0.0, 0.5, 1.0),
        further=further,
        batch_size=125,
    )


def run_prosqa(config: Prosqa) -> EvalReport | None:
    """Train, measure, print and write the report.

    Args:
        config: see `Prosqa`.

    Returns:
        The report; None if the study was stopped.

    Raises:
        LatentGemmaError: if a folder is not empty or the published file cannot be read.
    """
    return run_results(prosqa_study(config), config, Console())


if __name__ == "__main__":
    sys.exit(command(Prosqa, run_prosqa))
