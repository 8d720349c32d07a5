"""What is measured: the options of `eval` and `compare`."""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from latent_gemma.choices import AskedKind, AskedMode, Controls, WordsFormat
from latent_gemma.evaluation.metrics.bertscore import DEFAULT_ENCODER
from latent_gemma.options.source import DataSettings
from latent_gemma.ranges import Advanced, Amount, Count, Seed, Size, Whole, check_ranges
from latent_gemma.text.language import AnswerLanguage
from latent_gemma.training.settings import Resume


@dataclass(frozen=True)
class Eval:
    """Measure models on questions they were not trained on.

    Args:
        models: run folders, model directories, GGUF files or hub names; one or more. A mode behind a colon says how
            this one is asked: runs/words:words, runs/annealed:none.
        data: the test part of generated and hub data; of a local file the held-out rows, or all without holdout.
        tasks: instead of data, tasks by name, each from the hub or from a file: gsm8k,mgsm-ja=mgsm_ja.tsv;
            `latent-gemma tasks` lists them.
        answer_kind: how answers are compared: as "number", "math" (expressions, by math-verify), "choice", "text" or
            "translation"; "auto" takes what the task or the format of the data says.
        metrics: further metrics of the answers: fuzzy, bleu, bertscore, language.
        encoder: of BERTScore: a hub name or a local directory.
        k: numbers of latent steps to try besides the model's own, e.g. 0,1,2,4,8,auto; with "auto" the model itself
            ends its thinking.
        p: shares of the token embedding to try besides the model's own, e.g. 0,0.5,1.
        mode: "auto" asks each model as it was trained: "latent" thinks, "words" writes its steps, "none" answers at
            once.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        controls: "basic" measures zeroed, noise, swapped, permuted and pause thoughts, "full" also curves over added
            noise, over the first thoughts kept and over the read-out after each; "none" measures none.
        ood: further questions, of another kind or harder, on which the main setting is measured too, as chains:length=6
            beside --data chains:length=4.
        votes: hold a vote of this many sampled traces at every K and p as well; 0 for none.
        temperatures: of the traces, taken in turn.
        noise: on each trace's thoughts, in units of their RMS.
        answer_language: "same" as the question's, or "ja" or "en": a question in the other language is then asked with
            an instruction to answer in this one.
        skip_bad: leave out what cannot be used (malformed rows, a task whose file cannot be read, questions longer
            than a model takes), each told in a line, instead of stopping.
        out: folder of the report, one folder in it for each task; None takes the next free runs/eval-N.
        resume: go on in --out where an evaluation was stopped or killed; "auto" starts it if there is nothing yet.
        batch_size: questions answered at once; of votes, traces.
        max_new_tokens: bound on generated tokens.
        compile: compile the steps of thinking and decoding on a CPU, which takes half a minute or more at first.
        traces: items whose thoughts the report shows.
        layers: read the thoughts after every layer too.
        seed: of generated data, of a task's sample, of the controls and of the votes.
    """

    models: Positional[tuple[str, ...]]
    data: DataSettings = field(default_factory=lambda: DataSettings(data=""))
    tasks: str = ""
    answer_kind: Advanced[AskedKind] = "auto"
    metrics: str = ""
    encoder: Advanced[str] = DEFAULT_ENCODER
    k: str = ""
    p: str = ""
    mode: AskedMode = "auto"
    format: Advanced[WordsFormat | None] = None
    system: Advanced[str | None] = None
    controls: Controls = "basic"
    ood: str = ""
    votes: Size = 0
    temperatures: Advanced[str] = "0.2,0.4,0.6,0.8,1.0"
    noise: Advanced[Amount] = 0.0
    answer_language: Advanced[AnswerLanguage] = "same"
    skip_bad: Advanced[bool] = False
    out: Path | None = None
    resume: Resume = "no"
    batch_size: Count = 64
    max_new_tokens: Count = 256
    compile: Advanced[bool] = False
    traces: Advanced[Whole] = 5
    layers: Advanced[bool] = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Compare:
    """Hold evaluations of the same questions side by side: which method to pick, what it costs, where they differ.

    Args:
        runs: folders that `eval` wrote; of several tasks, one task's folder each.
        out: folder of the report; None takes the next free runs/compare-N.
    """

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None
