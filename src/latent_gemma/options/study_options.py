"""What a study compares: the options of `study`."""

from dataclasses import dataclass, field

from latent_gemma.choices import AskedKind, Controls
from latent_gemma.errors import ConfigError
from latent_gemma.options.stages import Common, LatentModel
from latent_gemma.ranges import Advanced, Count, Range, Whole, check_ranges, parse_numbers
from latent_gemma.training.settings import LoraSettings

#: What `--tiny` can say, and what a seed may be.
_SIZES = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "sliding_window")
SEEDS = Range(0, 2**32 - 1)


@dataclass(frozen=True)
class StudyOptions(Common):
    """Train and measure every method from one base on one data set with the same budget: one report that settles it.

    `steps` or `epochs` are those of each method after the text stage; the questions are the data's test part, of a file
    the held-out rows; `out` gets a folder a seed, in it one a method.

    Args:
        methods: by name: none, words, coconut, coconut-mixed, anneal, pause, internalize, codi, parallel, soft. Those
            that go on from the text stage have it trained once.
        text_steps: optimiser steps of the text stage; 0 takes as many as every method ("words", too) has after it.
        seeds: several, such as 0,1,2; empty takes `seed`.
        items: test questions, at most.
        max_latent_steps: steps' worth of thoughts at most; 0 takes the longest example's. Of data without written steps
            the thoughts of every question.
        next_only: in the stages of COCONUT, pause and internalize the next written step alone is the target.
        step_separator: text after each written step.
        latent: the latent part of the methods that think.
        lora: low-rank adaptation of every stage, merged at its end; rank 0 trains all weights.
        k: numbers of latent steps to try besides each model's own, e.g. 0,1,2,4,auto.
        p: shares of the token embedding to try besides each model's own, e.g. 0,0.5,1.
        controls: "basic" measures zeroed, noise, swapped, permuted and pause thoughts, "full" also curves over added
            noise and over the first thoughts, "none" neither.
        ood: further questions, of another kind or harder, on which the main setting is measured too, as chains:length=6
            beside chains:length=4.
        answer_kind: how answers are compared: as "number", "math", "choice", "text" or "translation"; "auto" takes
            what the format of the data says.
        max_new_tokens: bound on generated tokens.
        eval_batch_size: questions answered at once.
        tiny: sizes of a tiny base, such as hidden_size=128,num_layers=3,intermediate_size=256.
        tiny_words: texts that are one token each in a tiny base's tokenizer.
    """

    methods: str = "none,words,coconut,anneal,pause"
    text_steps: Whole = 0
    seeds: str = ""
    items: Count = 500
    max_latent_steps: Whole = 0
    next_only: Advanced[bool] = False
    step_separator: Advanced[str] = "\n"
    latent: LatentModel = field(default_factory=lambda: LatentModel(c_thought="tokens"))
    lora: LoraSettings = field(default_factory=LoraSettings)
    k: str = ""
    p: str = ""
    controls: Controls = "basic"
    ood: str = ""
    answer_kind: Advanced[AskedKind] = "auto"
    max_new_tokens: Count = 256
    eval_batch_size: Advanced[Count] = 64
    tiny: Advanced[str] = ""
    tiny_words: Advanced[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
        _ = self.all_seeds, self.sizes  # what is wrong in a text is told before anything is read

    @property
    def names(self) -> list[str]:
        """The methods by name."""
        return [name for name in (part.strip() for part in self.methods.split(",")) if name]

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds, each once.

        Raises:
            ConfigError: for what is no seed, or one that is there twice.
        """
        seeds = parse_numbers(self.seeds, int, "--seeds", SEEDS) or (self.train.seed,)
        twice = next((seed for place, seed in enumerate(seeds) if seed in seeds[:place]), None)
        if twice is not None:
            raise ConfigError(f"--seeds {self.seeds} names {twice} twice", "name each once")
        return seeds

    @property
    def sizes(self) -> dict[str, int]:
        """What `tiny` says.

        Raises:
            ConfigError: for what is no size, or another base than a tiny one.
        """
        if (self.tiny or self.tiny_words) and self.model != "tiny":
            raise ConfigError(f"--tiny with --model {self.model}", "leave it out, or give --model tiny")
        sizes = {}
        for part in filter(None, self.tiny.split(",")):
            name, _, value = part.partition("=")
            if name not in _SIZES:
                raise ConfigError(f"--tiny {self.tiny}: unknown size {name!r:.40}", f"known are {', '.join(_SIZES)}")
            numbers = parse_numbers(value, int, f"--tiny {name}", Range(1, 50_000))
            if not numbers:
                raise ConfigError(f"--tiny {self.tiny}: {name} has no number", f"write {name}=128")
            (sizes[name],) = numbers
        return sizes
