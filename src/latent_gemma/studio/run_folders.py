"""The runs under a folder, as the page lists and shows them: state, curves, report, questions of their data."""

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.errors import LatentGemmaError
from latent_gemma.inspection.html_report import POLICY
from latent_gemma.origin import RECORD, SETTINGS
from latent_gemma.text.display import escape
from latent_gemma.training.run_log import METRICS, read_metrics

#: A run that has written nothing for so long is not going on.
SILENT_S = 120.0
REPORT = "report.html"


@dataclass(frozen=True)
class RunFolder:
    """A run.

    Args:
        name: relative to the folder it was found under.
        path: where it lies.
    """

    name: str
    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """What it was begun or finished with; empty where that cannot be read."""
        return next(filter(None, (_read(self.path / name) for name in (RECORD, SETTINGS))), {})

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What its training has logged so far."""
        log = self.path / METRICS
        try:
            now = log.stat()
            return _logged(log, now.st_mtime_ns, now.st_size)
        except OSError:
            return []

    @property
    def state(self) -> str:
        """ "finished", "going on" or "stopped"."""
        if (self.path / RECORD).is_file():
            return "finished"
        newest = max((file.stat().st_mtime for file in self.path.iterdir() if file.is_file()), default=0.0)
        return "going on" if time.time() - newest < SILENT_S else "stopped"


@lru_cache(maxsize=256)
def _logged(log: Path, written_ns: int, size: int) -> list[dict[str, Any]]:
    """The entries of a log as it was then: the page asks for those of all runs every other second."""
    return [entry for entry in read_metrics(log) if isinstance(entry, dict)]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _folders(run: Path) -> tuple[Path, ...]:
    """A run and the study it may be a part of, with several seeds or one."""
    return run, *run.resolve().parents[:2]


def find_runs(root: Path) -> list[RunFolder]:
    """Folders under `root`, down to the methods of a study with its seeds, that hold a run."""
    folders = sorted({path.parent for depth in ("*", "*/*", "*/*/*") for name in (SETTINGS, RECORD)
                      for path in root.glob(f"{depth}/{name}")})  # fmt: skip
    return [RunFolder(folder.relative_to(root).as_posix(), folder) for folder in folders]


def table(runs: list[RunFolder], shown: str) -> str:
    """The runs as an HTML table, whose names can be pressed; `shown` is the one that was."""
    rows = ""
    for run in runs:
        last: dict[str, Any] = next((entry for entry in reversed(run.entries) if "loss" in entry), {})
        state = run.state
        cells = (str(run.record.get("recipe", "")), str(last.get("step", "")), f"{last['loss']:.4g}" if last else "")
        rows += (
            f'<tr><th scope="row"><button type="button" class="text" data-act="show" data-run="{escape(run.name)}" '
            f'aria-pressed="{str(run.name == shown).lower()}">{escape(run.name)}</button></th>'
            f'<td class="{state.split()[0]}">{state}</td>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("run", "state", "recipe", "step", "loss"))
    body = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll list"><table class="runs">{body}</table></div>'


def report(run: RunFolder) -> str:
    """A run's report in a frame that runs no script and fetches nothing, whatever it holds; empty without one."""
    file = next((up / REPORT for up in _folders(run.path) if (up / REPORT).is_file()), None)
    if file is None:
        return ""
    page = file.read_text(encoding="utf-8", errors="replace")
    policy = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return f'<iframe class="report" title="report" sandbox srcdoc="{escape(policy + page)}"></iframe>'


def known_questions(model: str, limit: int = 50) -> list[Example]:
    """Test questions of the data that a run was trained on, with their steps.

    Args:
        model: as the user gave it; a run folder, or anything else, which has none.
        limit: at most so many.

    Returns:
        The examples; none where its record names no data that can be read.
    """
    folders = _folders(Path(model).expanduser())
    records = chain.from_iterable((_read(up / RECORD), _read(up / SETTINGS)) for up in folders)
    for record in records:
        data = record.get("config", {}).get("data")
        if isinstance(data, dict) and isinstance(data.get("data"), str):
            try:
                spec = DataSpec(data["data"], "test", limit, steps_format=data.get("steps_format", "natural"),
                                holdout=data.get("holdout") or 0)  # fmt: skip
                return [] if spec.is_hub_name else load_examples(spec)
            except LatentGemmaError:
                return []
    return []
