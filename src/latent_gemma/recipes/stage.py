"""A stage maps a model directory to a model directory: load, train, save, and write down what was done."""

import contextlib
import hashlib
import itertools
import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.text import Text
from safetensors import SafetensorError

from latent_gemma.data.example import Example
from latent_gemma.engines.choice import engine_record
from latent_gemma.errors import DataError, RunError
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.files import PARTIAL, remove_partial, sha256_of, whole_folder
from latent_gemma.inspection.plots import plot_curves
from latent_gemma.launch import is_main_process
from latent_gemma.model.loading import weight_files
from latent_gemma.model.prompt import Frame, own_mode
from latent_gemma.options.flat import told
from latent_gemma.options.stages import Common
from latent_gemma.origin import RECORD, SETTINGS, write_origin
from latent_gemma.recipes.card import write_card
from latent_gemma.text.display import displayable
from latent_gemma.training.batches import OnBad
from latent_gemma.training.reward_watch import SAMPLES
from latent_gemma.training.run import METRICS, FitResult
from latent_gemma.training.whole_checkpoints import bytes_of, cannot_save
from latent_gemma.versions import versions

#: Held while a process works in a run folder.
LOCK = ".lock"


def bad_rows(config: Common) -> OnBad | None:
    """What is told of rows that a training leaves out; None where one ends it."""
    return _say_left_out if config.skip_bad else None


def _say_left_out(error: DataError) -> None:
    if is_main_process():
        print(f"left out: {displayable(str(error))}")


def command_line(recipe: str) -> str:
    """The command that is being carried out, as a shell takes it; of a call from Python one that does the same."""
    program = Path(sys.argv[0])
    if program.stem == "latent-gemma" or program.parent.name == "latent_gemma":  # the latter by `python -m`
        return shlex.join(["latent-gemma", *sys.argv[1:]])
    name = recipe.partition(",")[0]
    return f"latent-gemma {name if name in ('demo', 'study', 'eval') else f'train {name}'} --config {RECORD}"


def machine() -> str:
    """The machine, in a few words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    count = torch.get_num_threads()
    return f"{platform.machine()} CPU, {count} thread{'s' * (count > 1)}"


def run_record(recipe: str, config: Any, seed: int) -> dict[str, Any]:
    """What is carried out, by what and where, ready for JSON; `--config` reads the configuration in it.

    Args:
        recipe: its name.
        config: its configuration, a dataclass.
        seed: of the run.

    Returns:
        Name -> value.
    """
    more, engine_machine = engine_record(config)
    return {
        "recipe": recipe,
        "command": command_line(recipe),
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "seed": seed,
        "versions": versions() | more,
        "machine": engine_machine or machine(),
    }


def say_options(recipe: str, config: Any) -> None:
    """Print what a run is carried out with, once, as it begins."""
    if is_main_process():
        Console().print(Text(displayable(f"{recipe}: {told(config)}")))


def digest(examples: Sequence[Example]) -> str:
    """SHA-256 over examples and their order."""
    return hashlib.sha256(repr(list(examples)).encode("utf-8", "backslashreplace")).hexdigest()


def model_hash(name: str) -> str:
    """SHA-256 over the files a model's weights are read from; empty for a fresh one and what is not there."""
    files = weight_files(name)
    return sha256_of(*files) if files else ""


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
        The folder, which no other process can open meanwhile; a new one that holds nothing but settings at the end (a
        run that failed before its first line) is removed.

    Raises:
        RunError: if it holds something and `resume` is not asked for, another process has it open, or it cannot be
            written.
    """
    if not is_main_process():
        yield out
        return
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out} is a file", "give a folder")
    made, lock = [path for path in (out, *out.parents) if not path.exists()], out / LOCK
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
        if not resume and begun(out):
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
        if not begun(out):
            (out / SETTINGS).unlink(missing_ok=True)
            for path in (*filter(Path.is_dir, out.iterdir()), *made):
                with contextlib.suppress(OSError):  # a log of what failed stays
                    path.rmdir()


def begun(folder: Path) -> bool:
    """Whether a folder holds work: more than settings, the log of a run without a checkpoint, and what is not whole."""
    held = [path for path in folder.iterdir() if path.name not in (LOCK, SETTINGS, METRICS, SAMPLES)]
    held = [each for path in held for each in (path.iterdir() if path.is_dir() else [path])]
    return not all(path.name.endswith(PARTIAL) for path in held)


def save_stage(run: Path, origin: Mapping[str, Any], tokenizer: Any, result: FitResult) -> Path:
    """Write a finished stage: `model/` with its card, `run.json` and `training.png`.

    A model that thinks is saved as such; one that was trained to do without thoughts as the plain Gemma that it is.

    Args:
        run: the run folder.
        origin: what the stage was trained with, as its settings.json holds it.
        tokenizer: the model's.
        result: of the training, with the trained model, merged.

    Returns:
        The model directory.
    """
    folder, model = run / "model", result.model
    if not is_main_process():
        return folder
    suppressed = model.generation_config.suppress_tokens or ()
    model.generation_config.suppress_tokens = sorted({*suppressed, model.config.latent.thought_id})
    # What ends an answer in our prompts ends it in a bare `generate` too.
    known = model.generation_config.eos_token_id
    ends = {*(known if isinstance(known, list) else [] if known is None else [known])}
    frame = Frame(tokenizer, model.config.latent)
    model.generation_config.eos_token_id = sorted({*ends, *frame.end_ids})
    record = {
        **origin,
        "mode": own_mode(model.config.latent),
        "seconds": round(result.seconds, 3),
        "steps": result.steps,
        "metrics": result.metrics[-1] if result.metrics else {},
        "notes": result.notes,
    }
    try:
        with whole_folder(folder) as partial:
            if model.is_plain:
                model.save_plain(partial, keeps_latent=True)
            else:
                model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            write_card(partial, run.resolve().name, record, frame, model.is_plain)
    except (OSError, SafetensorError) as error:
        after = "the same command with --resume auto goes on from the last checkpoint"
        raise cannot_save("the model", run, sum(map(bytes_of, model.parameters())), error, after) from error
    write_origin(run / RECORD, record)
    curves = training_curves(result.metrics)
    if curves:
        plot_curves(EvalReport(origin["recipe"], "", (), curves=curves)).savefig(run / "training.png", dpi=150)
    return folder


def training_curves(metrics: list[dict[str, Any]], prefix: str = "") -> dict[str, list[dict[str, float]]]:
    """The curves worth a plot: loss, p, K and the gradient norm of the first and last latent step; of GRPO the
    rewards, the divergence from the start, the length of completions and what was cut or taught nothing."""
    names = {"answer_loss": "answer loss, nats a token", "anchor_loss": "anchor loss, nats a token"}
    names |= {"p": "p, share of the token embedding", "K": "K, latent steps"}
    names |= {
        "reward": "reward",
        "kl": "KL to the start, nats per token",
        "completions/mean_length": "length of completions, tokens",
    }
    names |= {"frac_reward_zero_std": "groups of equal reward, share"}
    names |= {"completions/clipped_ratio": "completions cut off, share"}
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
        names[key] = f"gradient norm, latent step {key.rsplit('_', 1)[1]}"
    curves = {}
    for key, title in names.items():
        points = [{"step": entry["step"], "value": entry[key]} for entry in metrics if key in entry]
        if len({point["value"] for point in points}) > 1:
            curves[prefix + title] = points
    return curves
