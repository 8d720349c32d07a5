"""Curricula as pure functions of progress: which steps are thoughts, how much token is fed back, what is anchored."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from latent_gemma.choices import Mode, Recurrence, ThoughtsPerStep
from latent_gemma.errors import ConfigError
from latent_gemma.ranges import Advanced, Amount, Range, Share, check_ranges, parse_numbers

PShape = Literal["linear", "cosine", "gated"]

ALL_STEPS = 10_000  #: More steps than any example has; COCONUT's reference writes the same number.
Steps = Annotated[int, Range(0, ALL_STEPS)]


@dataclass(frozen=True)
class Stage:
    """What the next batch is built and run with.

    Args:
        number: the curriculum's stage, shown in logs.
        latent_steps: how many of each example's first written steps are replaced by thoughts.
        keeps_rest: whether the steps after those stay as text; if not they are dropped.
        next_only: of the steps that stay as text only the first is a target, and nothing follows it.
        max_thought_steps: at most this many steps' worth of thoughts (None: no bound).
        pad_thoughts: every example thinks `max_thought_steps` steps' worth, however many steps it has.
        mix_prob: share of examples that draw their own `latent_steps` uniformly from 0 to their number of steps.
        draws_up_to: n; every example draws its own stage i from 0 to n with a probability proportional to i + 1, and
            has i steps latent, or for i = n `latent_steps`. None has all in this stage.
        p: share of the token embedding in what is fed back.
        anchor_weight: weight of the loss that keeps each thought decodable as its step.
        halt_weight: weight of the loss by which the model learns where its thinking ends; 0 leaves K to the prompt.
        thoughts_per_token: as the latent configuration's, in its place; None leaves it.
    """

    number: int = 0
    latent_steps: int = 0
    keeps_rest: bool = True
    next_only: bool = False
    max_thought_steps: int | None = None
    pad_thoughts: bool = False
    mix_prob: float = 0.0
    draws_up_to: int | None = None
    p: float = 0.0
    anchor_weight: float = 0.0
    halt_weight: float = 0.0
    thoughts_per_token: float | None = None

    @property
    def thinks(self) -> bool:
        """Whether any example may have a thought."""
        return self.max_thought_steps != 0 and (self.latent_steps > 0 or self.pad_thoughts or self.mix_prob > 0.0)

    def steps_thought(self, steps: int) -> int:
        """Steps' worth of thoughts of an example with so many written steps, mixing left aside."""
        most = ALL_STEPS if self.max_thought_steps is None else self.max_thought_steps
        return most if self.pad_thoughts else min(self.latent_steps, steps, most)

    def mode(self, longest: int) -> Mode:
        """What a model does that was trained in this stage on examples of up to `longest` written steps."""
        if self.steps_thought(longest):
            return "latent"
        return "words" if self.keeps_rest and self.latent_steps < longest else "none"

    def learns_k(self, longest: int) -> bool:
        """Whether such a model has learnt to end its thinking: only where no written step may follow the thoughts."""
        return self.halt_weight > 0.0 and self.mode(longest) == "latent" and self.latent_steps >= longest


@dataclass(frozen=True)
class StagedCurriculum:
    """Stages 0..n, at stage s of which the first s written steps are gone.

    Args:
        first_stage: stage to begin with; 0 is reasoning in words, 1 fits a model that has learnt it already.
        max_latent_stage: n; the stage after it, if there is one, drops what is left of the written steps.
        epochs_per_stage: passes over the data in each stage; 0 divides the run into equal shares, of which the last
            stage takes two.
        final_stages: further stages at n in which all remaining written steps are dropped.
        uniform_prob: share of examples that draw their stage uniformly (mixing earlier and later stages).
        stage_mixing: at stage k every other example draws its own stage i, at most k, with a probability proportional
            to i + 1.
        next_only: where written steps are left, the next one alone is the target; the answer is one only where none is.
        reset_optimizer: drop the optimiser's state where a stage begins, as the published recipe does.

    Source: Hao et al. 2024 (COCONUT, arXiv 2412.06769), section 3 "training procedure", and its published
    configuration names; stage mixing as in arXiv 2602.22441; `next_only` as in arXiv 2505.12514.
    """

    first_stage: Advanced[Steps] = 1
    max_latent_stage: Steps = 3
    epochs_per_stage: Amount = 0.0
    final_stages: Advanced[Steps] = 0
    uniform_prob: Share = 0.0
    stage_mixing: bool = False
    next_only: Advanced[bool] = False
    reset_optimizer: Advanced[bool] = True

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.count < 1:
            raise ConfigError(
                f"--first-stage {self.first_stage} lies behind --max-latent-stage {self.max_latent_stage}",
                "begin with it or before it",
            )

    @property
    def count(self) -> int:
        """Number of stages."""
        return self.max_latent_stage - self.first_stage + 1 + self.final_stages

    def stage_at(self, progress: float, passes: float) -> Stage:
        """The stage at a point of the run.

        Args:
            progress: share of the run that is done, 0 to 1.
            passes: passes over the data that are done; the last batch of one need not be full.

        Returns:
            The stage.
        """
        done = passes / self.epochs_per_stage if self.epochs_per_stage > 0.0 else progress * (self.count + 1)
        # A step that begins a stage must not fall into the one before by a rounding error.
        number = self.first_stage + min(int(done + 1e-9), self.count - 1)
        over = number > self.max_latent_stage
        return Stage(
            number=number,
            latent_steps=ALL_STEPS if over else number,
            max_thought_steps=self.max_latent_stage,
            next_only=self.next_only,
            mix_prob=self.uniform_prob,
            draws_up_to=min(number, self.max_latent_stage + 1) if self.stage_mixing else None,
        )


@dataclass(frozen=True)
class CoconutCurriculum(StagedCurriculum):
    """Stages 0..n: at stage s the first s steps are replaced by their thoughts.

    Args:
        pad_latent_to_max: all examples think n steps' worth from the stage after n on.
        learn_k: learn where thinking ends, so that the model itself chooses K; without it K is the prompt's.

    Source: as `StagedCurriculum`. It differs in where written steps stand: before `eot`, so that stage 0 is the
    written stage unchanged; and in the halting loss.
    """

    pad_latent_to_max: Advanced[bool] = False
    learn_k: bool = True

    def most_thoughts(self, steps: int, longest: int) -> int:
        """Steps' worth of thoughts that an example takes at most, by its written steps and the longest example's."""
        pads = self.pad_latent_to_max and self.final_stages > 0
        return self.max_latent_stage if pads else min(steps, self.max_latent_stage)

    def stage_at(self, progress: float, passes: float) -> Stage:
        """As `StagedCurriculum.stage_at`."""
        stage = super().stage_at(progress, passes)
        over = stage.number > self.max_latent_stage
        return replace(stage, pad_thoughts=self.pad_latent_to_max and over, halt_weight=float(self.learn_k))


@dataclass(frozen=True)
class InternalizeCurriculum(StagedCurriculum):
    """Stages 0..n: at stage s the first s steps are left out, and no thought stands for them.

    Source: Deng et al. 2024 (arXiv 2405.14838), section 3. It differs in what a stage removes: whole steps, as COCONUT
    replaces them, so that the two differ in nothing but the thoughts; not a number of tokens.
    """

    def most_thoughts(self, steps: int, longest: int) -> int:
        """As `CoconutCurriculum.most_thoughts`: none."""
        return 0

    def stage_at(self, progress: float, passes: float) -> Stage:
        """As `StagedCurriculum.stage_at`."""
        return replace(super().stage_at(progress, passes), max_thought_steps=0)


@dataclass(frozen=True)
class AnnealCurriculum:
    """p falls from `p_start` to `p_end` while K grows; an optional anchor keeps thoughts decodable, then fades.

    Args:
        p_start: share of the token embedding at the beginning.
        p_end: share at the end.
        p_shape: "linear", "cosine", or "gated": linear in a position that advances only while the smoothed loss is
            under `gate_loss`.
        p_until: progress at which p reaches `p_end`, 0 to 1; the rest of the run stays there.
        gate_loss: loss under which a gated p may fall, nats.
        max_latent_steps: K grows to this many steps' worth of thoughts; 0 takes the longest example's. Steps beyond it
            are dropped.
        grow_until: progress at which K has grown to its end; 0 starts there. Until then later steps stay as text.
        anchor_weight: weight of the anchor loss at the beginning; 0 trains on the answer alone.
        anchor_until: progress at which the anchor has faded to 0.
        learn_k: every example thinks as many steps as it has, and the model learns where thinking ends; without it all
            think as many as the longest, for a prompt cannot know how many its question needs.
        compress: shares of `thoughts_per_token`, such as "1.0,0.5,0.25", worked through in equal parts of the run; for
            a model whose thoughts are its steps' tokens. Empty leaves the model's.
    """

    p_start: Advanced[Share] = 0.9
    p_end: Advanced[Share] = 0.0
    p_shape: Advanced[PShape] = "linear"
    p_until: Share = 0.7
    gate_loss: Advanced[Amount] = 0.5
    max_latent_steps: Steps = 0
    grow_until: Share = 0.0
    anchor_weight: Amount = 1.0
    anchor_until: Advanced[Share] = 0.85
    learn_k: bool = True
    compress: Advanced[str] = ""

    def __post_init__(self) -> None:
        check_ranges(self)
        parse_numbers(self.compress, float, "--compress", Range(0.0, 1.0, open=True))

    def stage_at(self, progress: float, position: float | None = None, longest: int = 1) -> Stage:
        """The stage at `progress`, 0 to 1, of the run.

        Args:
            progress: share of the run that is done.
            position: the gated position (`advance`), in place of `progress`; only p follows it.
            longest: number of written steps of the longest example, what K grows to.

        Returns:
            The stage; its `number` is the number of steps in latent form.
        """
        at = progress if position is None else position
        done = min(1.0, at / self.p_until) if self.p_until > 0.0 else 1.0
        fallen = 0.5 - 0.5 * math.cos(math.pi * done) if self.p_shape == "cosine" else done
        grown = min(1.0, progress / self.grow_until) if self.grow_until > 0.0 else 1.0
        most = self.max_latent_steps or longest
        steps = max(1, math.ceil(grown * most))
        fade = max(0.0, 1.0 - progress / self.anchor_until) if self.anchor_until > 0.0 else 0.0
        shares = parse_numbers(self.compress, float, "--compress")
        return Stage(
            number=steps,
            latent_steps=ALL_STEPS if steps >= most else steps,
            max_thought_steps=steps,
            pad_thoughts=not self.learn_k,
            p=self.p_start + (self.p_end - self.p_start) * fallen,
            anchor_weight=self.anchor_weight * fade,
            halt_weight=float(self.learn_k),
            # A step that begins a share must not fall into the one before by a rounding error.
            thoughts_per_token=shares[min(int(progress * len(shares) + 1e-9), len(shares) - 1)] if shares else None,
        )

    def most_thoughts(self, steps: int, longest: int) -> int:
        """As `CoconutCurriculum.most_thoughts`."""
        most = self.max_latent_steps or longest
        return min(steps, most) if self.learn_k else most

    def advance(self, position: float, smoothed_loss: float, step: float) -> float:
        """Next gated position: a step further while the smoothed loss is under `gate_loss`, else where it was."""
        return min(1.0, position + step) if smoothed_loss < self.gate_loss else position


@dataclass(frozen=True)
class CodiCurriculum:
    """Self-distillation: every question thinks the same K thoughts, and learns from the pass that writes its steps.

    Args:
        num_thoughts: K, the same for every question.
        distill_weight: weight of the distance between the hidden states of both passes; 1 for small models, 20 for 1B
            as published.

    Source: Shen et al. 2025 (CODI, arXiv 2502.21074), section 3 and its settings; see `training.codi.codi_loss`.
    """

    num_thoughts: Annotated[int, Range(1, ALL_STEPS)] = 6
    distill_weight: Amount = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)

    def stage_at(self) -> Stage:
        """What the student does, the same throughout."""
        return Stage(
            number=self.num_thoughts, latent_steps=ALL_STEPS, max_thought_steps=self.num_thoughts, pad_thoughts=True
        )

    def most_thoughts(self, steps: int, longest: int) -> int:
        """As `CoconutCurriculum.most_thoughts`."""
        return self.num_thoughts


@dataclass(frozen=True)
class WrittenCurriculum:
    """The text stage: every step written ("words"), or none at all ("none": the baseline without reasoning)."""

    reasoning: Literal["words", "none"] = "words"

    def stage_at(self) -> Stage:
        """The same stage throughout."""
        return Stage(keeps_rest=self.reasoning == "words")

    def most_thoughts(self, steps: int, longest: int) -> int:
        """As `CoconutCurriculum.most_thoughts`: none."""
        return 0


Curriculum = CoconutCurriculum | InternalizeCurriculum | AnnealCurriculum | CodiCurriculum | WrittenCurriculum


def check_thoughts(curriculum: Curriculum, c_thought: ThoughtsPerStep, recurrence: Recurrence) -> None:
    """Refuse a curriculum whose number of thoughts makes no sense with what stands for a step.

    Args:
        curriculum: what is latent, and when.
        c_thought: thoughts for a written step.
        recurrence: of the thoughts.

    Raises:
        ConfigError: for a K that is the same for every example where thoughts are counted by tokens, or the reverse,
            and for a K to learn where no thought has a position of its own.
    """
    if recurrence == "sequence" and getattr(curriculum, "learn_k", False):
        raise ConfigError(
            "--recurrence sequence cannot learn K: its thoughts are the prompt's own positions",
            "--no-learn-k, with a number for --c-thought",
        )
    if c_thought == "tokens":
        if not getattr(curriculum, "learn_k", True):
            raise ConfigError("--no-learn-k with --c-thought tokens: every example has a K of its own", "learn it")
        if getattr(curriculum, "pad_latent_to_max", False):
            raise ConfigError("--pad-latent-to-max with --c-thought tokens", "give a number of thoughts for a step")
    elif getattr(curriculum, "compress", ""):
        raise ConfigError(f"--compress with --c-thought {c_thought}", "compress thoughts that are --c-thought tokens")
