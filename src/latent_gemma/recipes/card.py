"""The model card: what a model was made from and how, what is known of it, and how it is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from latent_gemma.errors import RunError
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.files import write_atomically
from latent_gemma.inspection.tables import results_markdown
from latent_gemma.model.loading import TINY, TRIAL, split_revision
from latent_gemma.model.prompt import Frame, own_mode
from latent_gemma.origin import RECORD
from latent_gemma.text.display import displayable

CARD = "README.md"
#: Stands for the model's name in the card until it has one.
HERE = "path/to/this/folder"
FIGURES = "## Figures"
_DOES = {
    "latent": "thinks {k} steps in latent space before it answers",
    "words": "writes its reasoning before it answers",
    "none": "answers at once, without reasoning",
}
_LICENCE = (
    "Made from Gemma. Gemma is provided under and subject to the Gemma Terms of Use found at "
    "[ai.google.dev/gemma/terms](https://ai.google.dev/gemma/terms); so is this model, and who passes it on "
    "passes them on."
)
#: Of the last metrics, what says how the training ended.
_ENDS = ("answer_loss", "anchor_loss", "reward", "kl", "K", "p")
_PLAIN = """It is a plain `{architecture}`, for whatever reads Gemma (transformers, vLLM, llama.cpp's converter). Its
prompts have to look as they did in training:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
ids = tokenizer({prompt}, add_special_tokens=False, return_tensors="pt")
written = model.generate(**ids, max_new_tokens=256)[0, ids["input_ids"].shape[1] :]
print(tokenizer.decode(written))
```"""
_LATENT = """It needs the package `latent-gemma`, whose import makes transformers know the architecture. Without it
`from_pretrained` says that it does not recognise `{model_type}`.

```python
import latent_gemma
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
ids = tokenizer({prompt}, add_special_tokens=False, return_tensors="pt")
answer = model.generate(**ids, num_thoughts={k!r}, max_new_tokens=256)[0, ids["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```"""


def _lineage(record: Mapping[str, Any]) -> list[str]:
    """What a model was made from, the nearest first."""
    names: list[str] = []
    while (name := record.get("parent")) and name not in names:
        names.append(name)
        runs = [json.loads(file.read_text(encoding="utf-8")) for file in run_files(Path(name))]
        record = runs[0] if runs else {}
    return names


def run_files(folder: Path) -> list[Path]:
    """The run.json of a run folder or of the model in it, if it has one."""
    return [file for file in (folder / RECORD, folder.parent / RECORD) if file.is_file()][:1]


def write_card(folder: Path, name: str, record: Mapping[str, Any], frame: Frame, plain: bool) -> None:
    """Write a model's card.

    Args:
        folder: the model directory, its config.json written.
        name: of the model.
        record: of its stage, as run.json holds it.
        frame: of its prompts.
        plain: it loads without this package.

    Raises:
        OSError: if it cannot be written.
    """
    latent, recipe = frame.latent, record.get("recipe", "")
    lineage = _lineage(record)
    base = lineage[-1] if lineage else TINY
    on_hub = base not in (TINY, TRIAL) and not Path(base).exists() and base.count("/") == 1
    given = record.get("config", {}).get("data")
    source = given.get("data", "") if isinstance(given, dict) else given or ""
    data = ModelCardData(
        library_name="transformers" if plain else "latent-gemma",
        license=None if base == TINY else "gemma",
        base_model=split_revision(base)[0] if on_hub else None,
        pipeline_tag="text-generation",
        tags=["latent-gemma", *([recipe] if recipe else [])],
    )
    question = frame.question_ids("QUESTION")
    prompt = [*question, *frame.tail_ids(own_mode(latent))] if plain else question
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    how = (_PLAIN if plain else _LATENT).format(
        architecture=config["architectures"][0], model_type=config["model_type"], name=HERE,
        prompt=json.dumps(frame.tokenizer.decode(prompt), ensure_ascii=False), k=latent.own_thoughts,
    )  # fmt: skip
    metrics = record.get("metrics", {})
    ends = ", ".join(f"{key.replace('_', ' ')} {metrics[key]:.4g}" for key in _ENDS if key in metrics)
    rows = f"{source or 'its own'}, {record.get('data_rows', 0)} rows (SHA-256 {record.get('data_sha256', '')[:12]})"
    came = [f"`{Path(parent).name if Path(parent).exists() else parent}`" for parent in lineage]
    versions = record.get("versions", {})
    facts = {
        "base": " from ".join(came) or "random weights",
        "method": f"`{recipe}`, {record.get('steps', 0)} steps, seed {record.get('seed', 0)}",
        "data": rows,
        "at the end of training": ends,
        "mode": _DOES[own_mode(latent)].format(k=latent.own_thoughts),
        "with": ", ".join(
            f"{key} {versions[key]}" for key in ("latent-gemma", "torch", "transformers") if key in versions
        ),
    }
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        "\n".join(f"- {key}: {' '.join(str(value).split())}" for key, value in facts.items() if value),
        f"```bash\n{record.get('command', '')}\n```",
        f"{FIGURES}\n\nNone measured yet: `latent-gemma eval` measures them, with intervals and controls, and "
        "`latent-gemma push --report` writes them here.",
        f"## How to load\n\n{how}",
        *([f"## Licence\n\n{_LICENCE}"] if base != TINY else []),
    ]
    write_atomically(folder / CARD, displayable("\n\n".join(parts) + "\n"))


def with_figures(card: str, report: Path) -> str:
    """A card with the figures of an evaluation in place of those it has.

    Args:
        card: the card.
        report: folder that `eval` wrote.

    Returns:
        The card; its other sections are as they were.

    Raises:
        RunError: if no report can be read there.
    """
    try:
        found = EvalReport.from_dict(json.loads((report / "report.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{report} holds no report that can be read", "give a folder that eval wrote") from error
    before, _, rest = card.partition(FIGURES)
    _, heading, after = rest.partition("\n## ")
    return f"{before}{FIGURES}\n\n{results_markdown(found)}\n{heading}{after}"
