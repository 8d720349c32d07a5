"""What every training recipe can be told."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from latent_gemma.choices import EngineName, Mode, Precision
from latent_gemma.errors import ConfigError
from latent_gemma.ranges import MOST, Advanced, Amount, Count, Positive, Range, Seed, Size, Whole, check_ranges

Resume = Literal["no", "yes", "auto"]
Score = Annotated[float, Range(-1e6, 1e6)]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the optimisation, the same for every recipe.

    Args:
        steps: optimiser steps; 0 takes `epochs` instead.
        epochs: passes over the training examples.
        batch_size: examples per step and device.
        accumulate: batches per optimiser step.
        group_by_length: fill each step with examples of like length, which spares padding; the mean over a step's
            tokens then gives a token of a short example more weight, and on arithmetic the same number of steps taught
            less. Text stages pack what they can without it.
        lr: peak learning rate.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of AdamW.
        clip: largest gradient norm; 0 for no bound.
        precision: "float32", or "bfloat16" mixed precision: what trains, the bridge and accumulation stay in float32;
            frozen weights are held in bfloat16 while training lasts, and end as they began.
        checkpointing: recompute activations in backward: less memory, about a third more time.
        log_every: steps between entries of metrics.jsonl.
        save_every: steps between checkpoints; 0 saves only when the run is stopped.
        max_hours: stop in time to be done, with a full checkpoint, after this many hours (a Kaggle session has 9);
            `--resume auto` goes on in the next session.
        seed: of new weights, data order, dropout and stage mixing.
        engine: "torch", or "tunix" (JAX, for TPU; words of Gemma 1 and 2; docs/tpu.md says how it is installed).
        mesh: of the tunix engine, such as "2,4": how many parts the devices cut weights and batches into, and how many
            each layer's heads and hidden units; None cuts batches as far as they divide.
    """

    steps: Whole = 0
    epochs: Positive = 3.0
    batch_size: Count = 8
    accumulate: Advanced[Count] = 1
    group_by_length: Advanced[bool] = False
    lr: Positive = 3e-5
    warmup: Advanced[Annotated[float, Range(0.0, 0.99)]] = 0.05
    weight_decay: Advanced[Amount] = 0.01
    clip: Advanced[Amount] = 1.0
    precision: Precision = "float32"
    checkpointing: Advanced[bool] = False
    log_every: Advanced[Count] = 10
    save_every: Advanced[Whole] = 0
    max_hours: Positive | None = None
    seed: Seed = 0
    engine: Advanced[EngineName] = "torch"
    mesh: Advanced[str | None] = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation of the whole model; kept as an adapter, and merged into the weights at the end.

    Args:
        rank: rank of the update; 0 trains all weights instead.
        alpha: its scale times its rank.
        dropout: on the update's input.
        targets: names of the projections it acts on.
        quantize: "4bit" keeps the frozen weights in 4 bits while the adapter trains (QLoRA; needs bitsandbytes).
    """

    rank: Size = 0
    alpha: Advanced[Count] = 32
    dropout: Advanced[Annotated[float, Range(0.0, 0.99)]] = 0.0
    targets: Advanced[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    quantize: Advanced[Literal["none", "4bit"]] = "none"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.quantize == "4bit" and not self.rank:
            raise ConfigError("--quantize 4bit freezes all weights", "train an adapter beside them with --rank 16")


@dataclass(frozen=True)
class GrpoSettings:
    """What is particular to GRPO; docs/grpo.md says which choices make it the published algorithm.

    Args:
        num_generations: completions per question, G.
        max_new_tokens: bound on a completion, tokens.
        temperature: of the rollouts.
        iterations: updates per batch of rollouts; with 1 the ratio is 1 and nothing is clipped.
        sample_every: steps between tables of sample completions; 0 for none.
        vllm: where rollouts run: "off" in transformers, "colocate" in vLLM on the same GPUs, "server" in a vLLM
            server (CUDA; words only, vLLM knows no thoughts).
    """

    num_generations: Annotated[int, Range(2, MOST)] = 8
    max_new_tokens: Count = 256
    temperature: Positive = 1.0
    iterations: Advanced[Count] = 1
    sample_every: Advanced[Whole] = 50
    vllm: Advanced[Literal["off", "colocate", "server"]] = "off"

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class RewardSettings:
    """What a completion is worth. Each question's rewards are divided by their own standard deviation, so only the
    sizes relative to each other matter.

    Args:
        format_score: both pairs of tags, once and in order, and nothing outside of them.
        correct_score: the right answer in the answer tags (for a latent model: as the whole text); outside of them 0.4
            of it.
        broken_score: a tag without its partner, repeated or out of order.
        short_score: reasoning that shows no work: of fewer than `least_chars` characters, of dots, of one phrase over
            and over, or copied from the question.
        least_chars: see `short_score`.
        steps_score: times the share of equations in the reasoning that are true, arithmetic checked exactly; 0, as
            published, leaves it out.
        equality: "exact" compares numbers exactly and other answers by spelling; "math" also compares expressions,
            by math-verify in a process of its own; "auto" does so where the data's format is of mathematics.
        rewards: further rewards, each "module:function" of (question, completion, accepted) in the current folder or
            installed; one column each in the log.
    """

    format_score: Advanced[Score] = 2.0
    correct_score: Advanced[Score] = 25.0
    broken_score: Advanced[Score] = -15.0
    short_score: Advanced[Score] = -2.0
    least_chars: Advanced[Whole] = 5
    steps_score: Advanced[Score] = 0.0
    equality: Advanced[Literal["auto", "exact", "math"]] = "auto"
    rewards: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self)

    def compares_math(self, kind: str) -> bool:
        """Whether answers to data of this kind are compared as expressions."""
        return self.equality == "math" or (self.equality == "auto" and kind == "math")

    def build(self, mode: Mode, kind: str = "text") -> list[Any]:
        """The rewards that apply: a latent model writes no tags and no reasoning, so it is paid for answers alone.

        Args:
            mode: of the prompts.
            kind: of the data's answers; see `answer_kind`.

        Returns:
            Those with a score that is not zero, then the user's own.

        Raises:
            ConfigError: if none is left, a user's reward cannot be imported, or two share a name.
        """
        # help needs none of it, and it takes a tenth of a second
        from latent_gemma.text import rewards as texts
        from latent_gemma.text.answers import answers_match
        from latent_gemma.text.verify import MathVerifier

        match = MathVerifier().equal if self.compares_math(kind) else answers_match
        if mode != "words":
            chosen: list[Any] = [texts.CorrectnessReward(self.correct_score, match, untagged_share=1.0)]
        else:
            shaped = (
                texts.FormatReward(self.format_score),
                texts.BrokenTagsReward(self.broken_score),
                texts.ShortReasoningReward(self.short_score, self.least_chars),
                texts.StepsReward(self.steps_score),
            )
            chosen = [texts.CorrectnessReward(self.correct_score, match), *shaped]
        chosen = [reward for reward in chosen if reward.score]
        chosen += [texts.load_reward(path) for path in self.rewards]
        names = [texts.reward_name(reward) for reward in chosen]
        if not chosen:
            raise ConfigError("no reward is left", "give one of them a score that is not zero")
        if len(set(names)) < len(names):
            raise ConfigError(f"two rewards share a name among {', '.join(names)}", "rename your function")
        return chosen
