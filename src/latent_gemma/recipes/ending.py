"""The end of a training run, for the person who waits for it: what came of it, where it lies, what to type next."""

import contextlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.data.example import Example
from latent_gemma.data.kinds import answer_kind
from latent_gemma.data.load import load_examples
from latent_gemma.errors import LatentGemmaError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.launch import is_main_process, process_count
from latent_gemma.model.prompt import own_mode
from latent_gemma.options.flat import retyped
from latent_gemma.options.source import DataSettings
from latent_gemma.options.stages import Common, Grpo, Sft
from latent_gemma.recipes.targets import match_of
from latent_gemma.text.columns import facts, spoken
from latent_gemma.text.display import displayable
from latent_gemma.text.verify import MathVerifier
from latent_gemma.training.run import FitResult

#: Held-out rows that are looked at, so many at once, until so much time is up.
ROWS, AT_ONCE, SECONDS = 16, 4, 30.0
#: Tokens that an answer may have beyond the longest right one.
ROOM = 8
DATA = frozenset(field.name for field in fields(DataSettings))
#: What the machine can take, and the next stage is to take as well.
FITTING = frozenset({"batch_size", "accumulate", "precision", "checkpointing", "seed"})


def held_out_rows(config: Common) -> list[Example]:
    """A few rows that a run does not learn from; none where the data keeps none back.

    Args:
        config: the run's.

    Returns:
        The rows.
    """
    spec = config.data.spec("test", config.train.seed, ROWS)
    if not (spec.is_generated or spec.holdout):
        return []
    with contextlib.suppress(LatentGemmaError):  # a family too small for any; nobody has asked for them
        return load_examples(spec, lambda error: None)
    return []


def _right(model: Any, tokenizer: Any, rows: Sequence[Example], config: Common) -> str:
    """How many of the rows a trained model answers rightly, in words."""
    longest = max(len(tokenizer(" ".join((*row.steps, row.answer)))["input_ids"]) for row in rows)
    mode, kind = own_mode(model.config.latent), answer_kind(config.data.spec("test", config.train.seed), rows)
    correct = total = 0
    started = time.monotonic()
    with MathVerifier() as verifier:
        settings = EvalSettings(max_new_tokens=longest + ROOM, match=match_of(kind, verifier.equal))
        while total < len(rows) and time.monotonic() - started < SECONDS:
            evaluator = Evaluator(model.eval(), tokenizer, rows[total : total + AT_ONCE], settings, "trained")
            row = evaluator.measure(mode, k=evaluator.k if mode == "latent" else 0).row
            correct, total = correct + row.correct, total + row.total
    return f"{correct} of {total} right; eval measures more of them, with controls"


def next_command(config: Common, out: Path) -> str:
    """What to type after a run.

    Args:
        config: the run's.
        out: its folder, with the trained model.

    Returns:
        A command line: after a text stage the stage that it is made for, after others an evaluation, or a question
        where no row was kept for one.
    """
    data = retyped(config.data, DATA)
    words: list[str] = ["latent-gemma"]
    if isinstance(config, Sft) and config.reasoning == "words":
        verb, lora = ("grpo", ["--rank", str(config.lora.rank)]) if config.format == "tags" else (
            "coconut", ["--trains", "thoughts", "--adapter", "lora"]
        )  # fmt: skip
        words += ["train", verb, "--model", str(out), *data, *(retyped(config, FITTING) if verb == "coconut" else [])]
        words += [*(lora if config.lora.rank else []), "--out", str(out.with_name(f"{out.name}-{verb}"))]
    elif config.data.spec("test", 0).keeps_test_rows:
        words += ["eval", str(out), *data]
    else:
        question = load_examples(config.data.spec("train", 0, 1), lambda error: None)[0].question
        words += ["ask", str(out), question]
    return shlex.join(words)


def say_trained(
    model: Any, tokenizer: Any, config: Common, out: Path, result: FitResult, rows: Sequence[Example]
) -> None:
    """Print what came of a run that is saved: time, loss, a few answers, where things lie, what to type next.

    Args:
        model: as trained.
        tokenizer: its tokenizer.
        config: the run's.
        out: its folder.
        result: of the training.
        rows: that it has not learnt from.
    """
    if not is_main_process():
        return
    waited = next((entry["train_data_share"] for entry in result.metrics if "train_data_share" in entry), 0.0)
    said = {"done": f"{result.steps:,} steps in {spoken(result.seconds)}, {waited:.0%} of it waiting for data"}
    for name in ("reward",) if isinstance(config, Grpo) else ("loss",):
        values = [entry[name] for entry in result.metrics if name in entry]
        if values:
            said[name] = f"{values[-1]:.4g}" + (f", {values[0]:.4g} at first" if len(values) > 1 else "")
    if rows and process_count() == 1:
        said["held out"] = _right(model, tokenizer, rows, config)
    said["model"] = str(out / "model")
    if (out / "training.png").exists():
        said["plot"] = str(out / "training.png")
    Console().print(facts(said))
    # in one piece, as it is copied
    lead = f"{'next':<{max(map(len, said))}}  "
    Console().print(lead + displayable(next_command(config, out)), markup=False, highlight=False, soft_wrap=True)
