"""What is trained: the options of `train sft | coconut | anneal | pause | internalize | codi | grpo`, and of `demo`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from latent_gemma.choices import (
    Adapter,
    AskedMode,
    BridgeKind,
    EngineName,
    Recurrence,
    ThoughtsPerStep,
    TokenPart,
    Trains,
    WordsFormat,
)
from latent_gemma.errors import ConfigError
from latent_gemma.options.source import DataSettings
from latent_gemma.ranges import Advanced, Count, Positive, Range, Seed, Size, check_ranges
from latent_gemma.training.curriculum import (
    AnnealCurriculum,
    CoconutCurriculum,
    CodiCurriculum,
    InternalizeCurriculum,
    check_thoughts,
)
from latent_gemma.training.settings import GrpoSettings, LoraSettings, Resume, RewardSettings, TrainSettings


@dataclass(frozen=True)
class Common:
    """What every training recipe takes.

    Args:
        model: directory, run folder, GGUF file, hub name, "gemma-3-270m" (extra `trial`) or "tiny".
        data: the training data.
        out: the run folder to write.
        train: the optimisation.
        resume: "yes" goes on from the newest checkpoint in `out`; "auto" does so if there is one and starts otherwise,
            so that the same command is right in every session. What was begun with other settings is refused.
        skip_bad: leave out what cannot be used (malformed rows, rows longer than the model takes, steps that spell the
            tags they stand in), each told in a line, instead of stopping.
    """

    model: str
    data: DataSettings
    out: Path
    train: TrainSettings = field(default_factory=TrainSettings)
    resume: Resume = "no"
    skip_bad: Advanced[bool] = False


@dataclass(frozen=True)
class Sft(Common):
    """Text stage: learn to write the steps, then the answer.

    Args:
        reasoning: "words" writes the steps; "none" learns the answer alone, the baseline without reasoning.
        format: "markers" puts the steps between the thought markers, the frame that latent stages start from; "tags"
            writes `<reasoning>..</reasoning><answer>..</answer>`, and rows without steps as their answer alone.
        system: text before every question, in the user's turn; None asks a model with a chat template for the tags
            it is to write, and puts nothing elsewhere.
        lora: low-rank adaptation, kept as an adapter and merged at the end.
        step_separator: text after each written step; the latent stages inherit it.
    """

    reasoning: Literal["words", "none"] = "words"
    format: WordsFormat = "markers"
    system: Advanced[str | None] = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    step_separator: Advanced[str] = "\n"


@dataclass(frozen=True)
class LatentModel:
    """The latent part of the model that a latent stage trains.

    Args:
        c_thought: thoughts per written step; "tokens" takes one for each token of it, its separator included.
        recurrence: "append", "sequence" or "parallel".
        parallel_passes: T, passes of "parallel" over the thoughts; None takes as many as there are thoughts.
        token: token part of what is fed back while p > 0: the most probable token ("argmax"), or "soft": the mean of
            the most probable ones.
        bridge: "identity", "linear" or "mlp".
        trains: "all" weights in all phases (COCONUT), or the "thoughts" alone: adapter and bridge, the rest frozen.
        adapter: weights active on thought positions: "none", "lora" or "full".
        thought_rank: rank of the "lora" adapter.
        backprop_steps: backpropagate through the last n latent steps only.
    """

    c_thought: Annotated[ThoughtsPerStep, Range(1, 1000)] = 1
    recurrence: Advanced[Recurrence] = "append"
    parallel_passes: Advanced[Count | None] = None
    token: Advanced[TokenPart] = "argmax"
    bridge: Advanced[BridgeKind] = "identity"
    trains: Advanced[Trains] = "all"
    adapter: Advanced[Adapter] = "none"
    thought_rank: Advanced[Annotated[Size, Range(1, 50_000)]] = 16
    backprop_steps: Advanced[Count | None] = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Coconut(Common):
    """COCONUT: stage by stage, written steps are replaced by thoughts (p = 0 throughout)."""

    latent: LatentModel = field(default_factory=LatentModel)
    curriculum: CoconutCurriculum = field(default_factory=CoconutCurriculum)

    def __post_init__(self) -> None:
        check_thoughts(self.curriculum, self.latent.c_thought, self.latent.recurrence)


@dataclass(frozen=True)
class Pause(Coconut):
    """The control of COCONUT: the same stages with a learnt constant in place of every thought."""


@dataclass(frozen=True)
class Internalize(Common):
    """The other control of COCONUT: the same stages with nothing in place of the steps that are gone."""

    curriculum: InternalizeCurriculum = field(default_factory=InternalizeCurriculum)


@dataclass(frozen=True)
class Anneal(Common):
    """The annealed plan: all steps become thoughts while the share p of the token embedding falls to 0."""

    latent: LatentModel = field(default_factory=lambda: LatentModel(c_thought="tokens"))
    curriculum: AnnealCurriculum = field(default_factory=AnnealCurriculum)

    def __post_init__(self) -> None:
        check_thoughts(self.curriculum, self.latent.c_thought, self.latent.recurrence)


@dataclass(frozen=True)
class Codi(Common):
    """CODI: one model writes its steps and thinks, and the pass that thinks learns from the one that writes.

    Args:
        lora: low-rank adaptation, kept as an adapter and merged at the end; the bridge trains beside it. Published with
            rank 128.
    """

    latent: LatentModel = field(default_factory=lambda: LatentModel(bridge="mlp"))
    curriculum: CodiCurriculum = field(default_factory=CodiCurriculum)
    lora: LoraSettings = field(default_factory=LoraSettings)

    def __post_init__(self) -> None:
        if self.latent.c_thought != 1:
            raise ConfigError("--c-thought has no meaning in CODI", "its thoughts stand for no steps: --num-thoughts")
        if self.latent.backprop_steps is not None:
            raise ConfigError("--backprop-steps would cut the teacher's gradient in CODI, too", "leave it out")
        if self.lora.rank and (self.latent.trains == "thoughts" or self.latent.adapter != "none"):
            raise ConfigError(
                "--rank adapts all phases, and leaves weights of thoughts alone as they are",
                "leave out --rank, or --trains and --adapter",
            )


@dataclass(frozen=True)
class Grpo(Common):
    """GRPO: completions of a group are compared by their rewards, and the better ones become more likely.

    Start from a text stage that is right now and then (`train sft --format tags`), or from a latent model: its
    thoughts are in the prompt, and the gradients of its answers reach them.

    Args:
        train: the optimisation; `batch_size` counts completions, a multiple of `num_generations` with `accumulate`.
        beta: weight of the KL divergence to the start, or several ("0,0.04,0.1") for a study: one run each, measured
            on the test split, with a report.
        mode: "auto" does what the model was trained for; "latent" thinks, "words" writes its steps, "none" answers at
            once.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        eval_items: test questions each run of a study is measured on.
        grpo: what is particular to GRPO.
        reward: what a completion is worth.
        lora: low-rank adaptation, kept as an adapter and merged at the end; rank 0 trains all weights.
    """

    train: TrainSettings = field(default_factory=lambda: TrainSettings(batch_size=16, lr=1e-5))
    beta: str = "0.04"
    mode: AskedMode = "auto"
    format: Advanced[WordsFormat | None] = None
    system: Advanced[str | None] = None
    eval_items: Advanced[Count] = 200
    grpo: GrpoSettings = field(default_factory=GrpoSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Demo:
    """Train tiny models on chains of arithmetic: no reasoning, words, COCONUT, annealed; measure, control, report.

    Args:
        words: show reasoning in words instead: base, SFT and SFT + GRPO, each by one pass and by vote.
        all: every method that `study` knows.
        out: folder of the models and the report; None takes runs/demo, with words runs/demo-words.
        items: test questions each setting is measured on; None takes 500, with words 1,000.
        seed: of the weights, the data and the training.
        scale: multiplies the number of training steps; below 1 the models are not trained to the end.
        max_hours: stop in time, after this many hours.
        engine: what trains the words: "torch" or "tunix"; see `train sft`.
        resume: go on in the folder of a demo that was stopped, or is finished; "auto" starts it if there is none.
    """

    words: bool = False
    all: bool = False
    out: Path | None = None
    items: Advanced[Count | None] = None
    seed: Seed = 0
    scale: Advanced[Positive] = 1.0
    max_hours: Positive | None = None
    engine: Advanced[EngineName] = "torch"
    resume: Resume = "no"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.engine != "torch" and not self.words:
            raise ConfigError(f"demo --engine {self.engine}: latent stages train in torch", "add --words")
