"""What stands beside training and measuring: the options of `tasks`, `harness`, `estimate`, `export`, `studio` .."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from latent_gemma.choices import Precision
from latent_gemma.errors import ConfigError
from latent_gemma.ranges import Advanced, Amount, Count, Positive, Range, Size, check_ranges

GgufKind = Literal["f16", "q8_0"]


@dataclass(frozen=True)
class Tasks:
    """List the evaluation tasks with licence, size, fields, language and leaks.

    Args:
        language: only tasks with questions or answers in this language, such as ja; empty for all.
    """

    language: str = ""


@dataclass(frozen=True)
class Harness:
    """Run lm-evaluation-harness (extra `harness`) on a latent model; every option is handed on to it.

    latent-gemma harness --model_args pretrained=runs/annealed,num_thoughts=4 --tasks gsm8k

    Args:
        options: as `lm_eval run` takes them (`lm_eval run --help`); `--model latent-gemma` may be left out. Of
            `--model_args` it knows pretrained, num_thoughts (a number or auto), p, mode, system and max_gen_toks.
    """

    options: Positional[tuple[str, ...]] = ()
    passes_on: ClassVar[bool] = True


@dataclass(frozen=True)
class Estimate:
    """Memory, time and cost of a training run or a study, from the model's dimensions; nothing is loaded.

    Args:
        model: a published Gemma by name ("google/gemma-2-2b-it"), a local model or a hub name.
        study: instead of it, all training of this study: the file that `study --config` would read, which says model,
            rank, batches, steps and precision.
        rank: rank of LoRA; 0 trains all weights.
        k: latent steps.
        parallel_passes: T, passes over all of them at once (recurrence `parallel`); 0 for `append`, a pass a step.
        prompt: tokens before the thoughts.
        answer: tokens after them.
        batch_size: examples at once and GPU.
        rows: training examples.
        epochs: passes over them.
        precision: of the computation; in "bfloat16", frozen weights are held in it, those that train in float32.
        checkpointing: recompute activations in backward.
        gpus: that share the batches.
        peak_share: of a device's published peak that a step without thoughts reaches; benchmarks/sizes.py measures it.
        thought_ms: milliseconds that a layer takes to start the operations of one thought, forward and backward,
            however many rows think it; 3.5 to 6.8 were measured beside an H100.
        price: of a GPU for an hour, in any currency; 0 leaves the cost out.
    """

    model: str = ""
    study: Path | None = None
    rank: Size = 16
    k: Size = 4
    parallel_passes: Size = 0
    prompt: Count = 128
    answer: Count = 64
    batch_size: Count = 8
    rows: Count = 7473
    epochs: Positive = 3.0
    precision: Precision = "bfloat16"
    checkpointing: bool = True
    gpus: Count = 1
    peak_share: Annotated[float, Range(0.0, 1.0, open=True)] = 0.1
    thought_ms: Amount = 5.0
    price: Amount = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Export:
    """Write a model as a plain Gemma, for programs that know no thoughts.

    Args:
        run: a run folder, model directory, GGUF file or hub name.
        to: folder to write; a new one, or an empty one.
        format: "plain" is a directory of safetensors for transformers and vLLM; "gguf" is one file for llama.cpp and
            Ollama.
        quantize: of a GGUF file's matrices: half precision, or 8 bits.
    """

    run: Positional[str]
    to: Path
    format: Literal["plain", "gguf"] = "plain"
    quantize: GgufKind = "f16"


@dataclass(frozen=True)
class Push:
    """Upload a model and its card to the Hugging Face hub.

    Args:
        run: a run folder, or a directory that `export` wrote.
        repo: its name there, owner/name.
        report: folder of an evaluation whose figures the card is to show.
        public: for everybody to see; a repository that is made anew is private without it.
    """

    run: Positional[str]
    repo: Positional[str]
    report: Path | None = None
    public: bool = False


@dataclass(frozen=True)
class Studio:
    """Open a page in the browser: questions beside their thoughts, which can be taken out, and runs (extra `studio`).

    Args:
        runs: run folders, model directories, GGUF files or hub names; of several, the first is asked at first.
        folder: whose runs are listed, with their curves and reports.
        host: address to listen at; whoever reaches another than this machine's own can ask and read all of it.
        port: to listen at; None takes the first free one from 7860 on.
        browser: open it.
        max_new_tokens: bound on an answer's generated tokens.
    """

    runs: Positional[tuple[str, ...]] = ()
    folder: Path = Path("runs")
    host: Advanced[str] = "127.0.0.1"
    port: Annotated[int, Range(1, 65535)] | None = None
    browser: bool = True
    max_new_tokens: Count = 256

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.runs:
            raise ConfigError("no run to open", "name one: latent-gemma studio runs/demo")
