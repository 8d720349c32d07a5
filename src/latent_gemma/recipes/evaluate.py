"""`latent-gemma eval`: accuracy with intervals over K and over p, the controls, and a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from latent_gemma.config import parse_numbers
from latent_gemma.data.load import load_examples
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import EvalSettings, Evaluator
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.inspection.lens import trace_examples
from latent_gemma.inspection.tables import further_tables, results_table
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.write import write_report
from latent_gemma.model.config import WordsFormat
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Mode
from latent_gemma.recipes.stage import DataSettings, machine, model_hash, next_free, run_folder, versions
from latent_gemma.recipes.words import ask_for


@dataclass(frozen=True)
class Eval:
    """Measure a model on questions it was not trained on.

    Args:
        model: a run folder, model directory, GGUF file or hub name.
        data: the test part of generated and hub data; of a local file the held-out rows, or all without holdout.
        k: numbers of latent steps to try besides the model's own, e.g. 0,1,2,4,8.
        p: shares of the token embedding to try besides the model's own, e.g. 0,0.5,1.
        mode: "latent" thinks, "words" writes its steps (a model trained by `train sft`); "auto" writes them where they
            stand between tags, and thinks otherwise.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        controls: measure zeroed, noise, swapped and pause thoughts.
        out: folder of the report; None takes the next free runs/eval-N.
        batch_size: questions answered at once.
        max_new_tokens: bound on generated tokens.
        traces: items whose thoughts the report shows.
        layers: read the thoughts after every layer too.
        seed: of generated data and of the noise control.
    """

    model: Positional[str]
    data: DataSettings
    k: str = ""
    p: str = ""
    mode: Literal["auto", "latent", "words"] = "auto"
    format: WordsFormat | None = None
    system: str | None = None
    controls: bool = True
    out: Path | None = None
    batch_size: int = 64
    max_new_tokens: int = 256
    traces: int = 5
    layers: bool = False
    seed: int = 0


def run_eval(config: Eval) -> Path:
    """Evaluate and write the report.

    Args:
        config: what is measured.

    Returns:
        The path of the HTML report.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the model that cannot be used.
    """
    ks = parse_numbers(config.k, int, "--k")
    ps = parse_numbers(config.p, float, "--p")
    if any(k < 0 for k in ks):
        raise ConfigError(f"--k {config.k} holds a negative number of latent steps", "give 0 or more")
    if any(not 0 <= p <= 1 for p in ps):
        raise ConfigError(f"--p {config.p} holds a share outside [0, 1]", "give shares between 0 and 1")
    spec = config.data.spec("test", config.seed)
    whole_file = not (spec.is_generated or spec.is_hub_name or spec.holdout)
    examples = load_examples(spec)
    with run_folder(config.out or next_free("eval"), resume=False) as out:
        model, tokenizer = load_model(config.model)
        ask_for(model, config.format, config.system)
        tags = model.config.latent.words_format == "tags"
        mode: Mode = config.mode if config.mode != "auto" else "words" if tags else "latent"
        settings = EvalSettings(ks, ps, config.controls, config.batch_size, config.max_new_tokens, config.seed)
        label = "words" if mode == "words" else ("latent" if model.config.latent.num_thoughts else "no reasoning")
        evaluator = Evaluator(model, tokenizer, examples, settings, label)
        console = Console()
        with console.status("") as status:
            if mode == "words":
                rows = [evaluator.measure(mode="words").row]
            else:
                rows = evaluator.run(lambda text: status.update(text))
            traces = trace_examples(
                model, tokenizer, examples[: config.traces], label, config.max_new_tokens, config.layers
            ) if config.traces and mode == "latent" else []  # fmt: skip
        report = EvalReport(
            title=f"{Path(config.model).name} on {config.data.data}",
            verdict=verdict(rows),
            rows=tuple(rows),
            traces=tuple(traces),
            context={
                "model": config.model,
                "model sha256": model_hash(config.model),
                "data": f"{config.data.data} ({'whole file' if whole_file else 'held-out part'})",
                "items": str(len(examples)),
                "seed": str(config.seed),
                "machine": machine(),
                **versions(),
            },
        )
        console.print(results_table(report))
        for table in further_tables(report):
            console.print(table)
        console.print(report.verdict)
        page = write_report(report, out)
        console.print(f"report: {page}")
    return page
