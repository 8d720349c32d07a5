"""A stage maps a model directory to a model directory: load, train, save, and write down what was done."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from latent_gemma.data.load import DataSpec
from latent_gemma.data.rows import FileColumns
from latent_gemma.errors import RunError
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.files import remove_partial, whole_folder, write_atomically
from latent_gemma.inspection.plots import plot_curves
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import weight_files
from latent_gemma.model.prompt import Frame
from latent_gemma.training.checkpoints import list_checkpoints, refuse_damaged
from latent_gemma.training.running import FitResult
from latent_gemma.training.saving import bytes_of, cannot_save
from latent_gemma.training.settings import Resume

#: Held while a process works in a run folder.
LOCK = ".lock"
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "safetensors")


@dataclass(frozen=True)
class DataSettings:
    """Which examples a recipe reads.

    Args:
        data: "arithmetic[:ops=add,mul;digits=2]", "chains[:length=4]", "prosqa[:hops=3]", "multiplication[:digits=4]",
            a local JSONL, JSON, CSV, TSV, XML, Parquet or text file, or a hub name.
        limit: use at most this many examples; needed for the generators.
        holdout: leave the last n rows of a local file to evaluation.
        steps_format: how GSM8K's steps are written: sentences, expressions, or their results alone.
        question_column: name of the column that holds the question; published formats are recognised without.
        steps_column: name of the column that holds the steps.
        answer_column: name of the column that holds the answer.
    """

    data: str
    limit: int | None = None
    holdout: int = 0
    steps_format: Literal["natural", "expression", "result"] = "natural"
    question_column: str | None = None
    steps_column: str | None = None
    answer_column: str | None = None

    def spec(self, split: str, seed: int, limit: int | None = None) -> DataSpec:
        """The data specification of one split."""
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


def is_main_process() -> bool:
    """Whether this process writes: the only one, or the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that numbers depend on."""
    found = {"latent-gemma": metadata.version("latent-gemma"), "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def machine() -> str:
    """The machine, in a few words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def model_hash(name: str) -> str:
    """SHA-256 over the files a model's weights are read from; empty for a fresh one and what is not there."""
    files = weight_files(name)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest() if files else ""


@dataclass(frozen=True)
class Parent:
    """What a stage was trained from.

    Args:
        name: as the user gave it.
        sha256: of its weights when they were loaded.
        commit: of its hub repository, where it came from there.
    """

    name: str
    sha256: str = ""
    commit: str = ""

    @classmethod
    def of(cls, name: str) -> "Parent":
        """Identify a model; called when it is loaded, for what lies there may change while a stage trains."""
        files = weight_files(name)
        commit = files[0].parent.name if files and files[0].parent.parent.name == "snapshots" else ""
        return cls(name, model_hash(name), commit)


def next_free(name: str) -> Path:
    """The next run folder runs/NAME-N that does not exist."""
    return next(path for n in itertools.count(1) if not (path := Path(f"runs/{name}-{n}")).exists())


@contextlib.contextmanager
def run_folder(out: Path, resume: bool) -> Iterator[Path]:
    """Open a run folder: a new one, or with `resume` the one of a stopped run.

    Args:
        out: the folder.
        resume: go on in it.

    Yields:
        The folder, which no other process can open meanwhile; a new one that is still empty at the end (a run that
        failed before its first line) is removed.

    Raises:
        RunError: if it holds something and `resume` is not asked for, another process has it open, or it cannot be
            written.
    """
    if not is_main_process():
        yield out
        return
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out} is a file", "give a folder")
    created, lock = not out.exists(), out / LOCK
    # The system lets go of it when its process ends, however it ends.
    held = FileLock(lock, timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout as error:
        raise RunError(f"--out {out} is in use by another process", "wait for it, or give another folder") from error
    except OSError as error:
        raise RunError(f"--out {out} cannot be made: {error.strerror}", "give a folder that can be written") from error
    try:
        if not resume and _content(out):
            raise RunError(
                f"--out {out} is not empty", "give another folder, or --resume auto to go on with a stopped run"
            )
        for folder in (out, out / "checkpoints"):
            remove_partial(folder)
        yield out
    finally:
        # While it is held, so that nobody gets hold of a file that has no name any more; Windows does it by itself.
        with contextlib.suppress(OSError):
            lock.unlink()
        held.release()
        if created and not any(out.iterdir()):
            out.rmdir()


def _content(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != LOCK]


def resumes(out: Path, resume: Resume) -> bool | None:
    """Whether a run goes on from a checkpoint.

    Args:
        out: the run folder.
        resume: as the user asked.

    Returns:
        True or False; None if "auto" finds the run finished, which is said on the terminal.

    Raises:
        RunError: if "yes" finds no checkpoint, or the newest damaged.
    """
    if resume == "auto" and (out / "run.json").is_file():
        print(f"{out} is finished; its model is in {out / 'model'}")
        return None
    if resume == "yes":
        refuse_damaged(out)
    return resume == "yes" or (resume == "auto" and bool(list_checkpoints(out)))


def say_stopped(run: Path, result: FitResult) -> Path:
    """Say where a run stopped and how to go on; returns the run folder."""
    if is_main_process():
        print(f"stopped at step {result.steps}; the same command with --resume auto goes on")
    return run


def save_stage(
    run: Path, recipe: str, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, config: Any, parent: Parent,
    result: FitResult, seed: int,
) -> Path:  # fmt: skip
    """Write a finished stage: `model/`, `run.json` and `training.png`.

    Args:
        run: the run folder.
        recipe: its name.
        model: the trained model, merged.
        tokenizer: its tokenizer.
        config: the recipe's configuration, a dataclass.
        parent: what the stage was trained from.
        result: of the training.
        seed: of the run.

    Returns:
        The model directory.
    """
    folder = run / "model"
    if not is_main_process():
        return folder
    model.generation_config.suppress_tokens = [model.config.latent.thought_id]
    # What ends an answer in our prompts ends it in a bare `generate` too.
    known = model.generation_config.eos_token_id
    ends = {*(known if isinstance(known, list) else [] if known is None else [known])}
    model.generation_config.eos_token_id = sorted({*ends, *Frame(tokenizer, model.config.latent).end_ids})
    try:
        with whole_folder(folder) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    except (OSError, SafetensorError) as error:
        after = "the same command with --resume auto goes on from the last checkpoint"
        raise cannot_save("the model", run, sum(map(bytes_of, model.parameters())), error, after) from error
    record = json.dumps(
        {
            "recipe": recipe,
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "config": dataclasses.asdict(config),
            "seed": seed,
            "parent": parent.name,
            "parent_sha256": parent.sha256,
            "parent_commit": parent.commit,
            "versions": versions(),
            "machine": machine(),
            "seconds": round(result.seconds, 3),
            "steps": result.steps,
            "metrics": result.metrics[-1] if result.metrics else {},
            "notes": result.notes,
        },
        indent=2,
        ensure_ascii=False,
        default=str,
    )
    write_atomically(run / "run.json", record + "\n")
    curves = training_curves(result.metrics)
    if curves:
        plot_curves(EvalReport(recipe, "", (), curves=curves)).savefig(run / "training.png", dpi=150)
    return folder


def training_curves(metrics: list[dict[str, Any]], prefix: str = "") -> dict[str, list[dict[str, float]]]:
    """The curves worth a plot: loss, p, K and the gradient norm of the first and last latent step; of GRPO the
    rewards, the divergence from the start, the length of completions and what was cut or taught nothing."""
    names = {"answer_loss": "answer loss", "anchor_loss": "anchor loss", "p": "p", "K": "K"}
    names |= {"reward": "reward", "kl": "KL to the start, nats per token", "completions/mean_length": "tokens"}
    names |= {"frac_reward_zero_std": "groups of equal reward", "completions/clipped_ratio": "completions cut off"}
    names |= {
        key: f"reward for {key.split('/')[1].replace('_', ' ')}"
        for entry in metrics
        for key in entry
        if key.startswith("rewards/") and key.endswith("/mean")
    }
    steps = sorted(
        {key for entry in metrics for key in entry if key.startswith("latent_grad_norm_")},
        key=lambda k: int(k.rsplit("_", 1)[1]),
    )
    for key in dict.fromkeys([*steps[:1], *steps[-1:]]):
        names[key] = f"gradient, step {key.rsplit('_', 1)[1]}"
    curves = {}
    for key, title in names.items():
        points = [{"step": entry["step"], "value": entry[key]} for entry in metrics if key in entry]
        if len({point["value"] for point in points}) > 1:
            curves[prefix + title] = points
    return curves
