"""Every way to think that a study compares, by name: a curriculum, what is fed back, and how the model is asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from latent_gemma.choices import Mode, ThoughtsPerStep
from latent_gemma.errors import ConfigError
from latent_gemma.options.config_file import nearest
from latent_gemma.training.curriculum import (
    AnnealCurriculum,
    CoconutCurriculum,
    CodiCurriculum,
    Curriculum,
    InternalizeCurriculum,
    WrittenCurriculum,
)


@dataclass(frozen=True)
class Method:
    """One method of a study: a stage of training, or a way to ask a model that another one has trained.

    Args:
        label: its name in tables; "words" and "no reasoning" are what the verdict compares with.
        parent: label of the method whose model it goes on from; None starts from the study's base.
        curriculum: what is latent, and when; None trains nothing and asks the parent's model.
        steps: optimiser steps.
        measured: whether the report shows it; what others only go on from is not shown.
        latent: fields of the latent configuration that are its own.
        asked: the mode it is asked in; None as it was trained.
    """

    label: str
    parent: str | None
    curriculum: Curriculum | None
    steps: int
    measured: bool = True
    latent: Mapping[str, Any] = field(default_factory=dict)
    asked: Mode | None = None

    @property
    def thinks(self) -> bool:
        """Whether it takes latent steps."""
        return not isinstance(self.curriculum, WrittenCurriculum | InternalizeCurriculum)

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return self.label.lower().replace(", ", "-").replace(" ", "-")


@dataclass(frozen=True)
class Budget:
    """What the methods of a study are made for.

    Args:
        text_steps: optimiser steps of the text stage, from which most of them go on.
        steps: of each of them after it.
        longest: written steps of the longest training example; 0 where the data has none.
        max_latent_steps: steps' worth of thoughts at most; 0 takes all of `longest`. Without written steps every
            question has as many.
        c_thought: thoughts for a written step.
        next_only: see `StagedCurriculum`.
    """

    text_steps: int
    steps: int
    longest: int
    max_latent_steps: int = 0
    c_thought: ThoughtsPerStep = 1
    next_only: bool = False

    @property
    def most(self) -> int:
        """Steps' worth of thoughts of the longest example."""
        return min(self.max_latent_steps or self.longest, self.longest or self.max_latent_steps)

    @property
    def fixed(self) -> int:
        """Thoughts for a step where every question has the same number of them; COCONUT's 2 stands for "tokens"."""
        return self.c_thought if isinstance(self.c_thought, int) else 2

    @property
    def stages(self) -> dict[str, Any]:
        """COCONUT's stages up to where all that may be latent is; longer examples drop the rest in a stage more."""
        final = int(self.most < self.longest)
        return {
            "max_latent_stage": self.most, "final_stages": final, "uniform_prob": 0.1, "next_only": self.next_only,
        }  # fmt: skip

    @property
    def anneal(self) -> AnnealCurriculum:
        """The annealed plan: K has grown, p has fallen and the anchor is gone before the end."""
        plan = AnnealCurriculum(max_latent_steps=self.max_latent_steps, grow_until=0.35, p_until=0.7, anchor_until=0.85)
        return plan if self.longest else replace(plan, anchor_weight=0.0, learn_k=False)


def text_stage(budget: Budget) -> Method:
    """What most methods go on from; it is measured where "words" has gone on as long as they have."""
    written = WrittenCurriculum("words" if budget.longest else "none")
    return Method("text stage", None, written, budget.text_steps, measured=False)


#: Name -> the method with a budget: each has as many steps as the others, those of the text stage counted.
METHODS: dict[str, Callable[[Budget], Method]] = {
    "none": lambda budget: Method("no reasoning", None, WrittenCurriculum("none"), budget.text_steps + budget.steps),
    "words": lambda budget: Method("words", "text stage", WrittenCurriculum("words"), budget.steps),
    "coconut": lambda budget: Method("COCONUT", "text stage", CoconutCurriculum(**budget.stages), budget.steps),
    "coconut-mixed": lambda budget: Method(
        "COCONUT, mixed stages", "text stage",
        CoconutCurriculum(**budget.stages | {"uniform_prob": 0.0, "stage_mixing": True}), budget.steps,
    ),
    "anneal": lambda budget: Method("annealed", "text stage", budget.anneal, budget.steps),
    # COCONUT's curriculum with one learnt constant for its thoughts, and with nothing in their place.
    "pause": lambda budget: Method(
        "pause", "text stage", CoconutCurriculum(**budget.stages) if budget.longest else budget.anneal, budget.steps,
        latent={"fed": "pause"},
    ),
    "internalize": lambda budget: Method(
        "internalised", "text stage", InternalizeCurriculum(**budget.stages), budget.steps
    ),
    "codi": lambda budget: Method(
        "CODI", "text stage", CodiCurriculum(num_thoughts=budget.most * budget.fixed), budget.steps,
        latent={"bridge": "mlp", "c_thought": 1},
    ),
    # In three passes, as published; in as many as there are thoughts it would be the annealed plan again.
    "parallel": lambda budget: Method(
        "parallel", "text stage", budget.anneal, budget.steps, latent={"recurrence": "parallel", "parallel_passes": 3}
    ),
    # No training: at p = 1 and a thought a token, thinking is what the words model writes, mixed over its vocabulary.
    "soft": lambda budget: Method(
        "soft", "words", None, 0, asked="latent",
        latent={"token": "soft", "p": 1.0, "learned_k": True, "c_thought": "tokens"},
    ),
}  # fmt: skip
#: Those that no written step has to be there for.
STEPLESS = ("none", "anneal", "pause", "parallel")


def methods_of(names: Sequence[str], budget: Budget) -> tuple[Method, ...]:
    """The methods of a study, with what they go on from.

    Args:
        names: as the user typed them.
        budget: what they are made for.

    Returns:
        The methods in the order of their names, each behind its parent; a parent that was not named is trained, and
        not shown.

    Raises:
        ConfigError: for no name, one that is unknown, one that is there twice, or one that needs written steps where
            there are none.
    """
    if not names:
        raise ConfigError("--methods names none", f"choose from {','.join(METHODS)}")
    chosen: dict[str, Method] = {}
    for place, name in enumerate(names):
        if name not in METHODS:
            remedy = nearest(name, [*METHODS], f"choose from {','.join(METHODS)}")
            raise ConfigError(f"--methods: there is no method {name!r:.40}", remedy)
        if name in names[:place]:
            raise ConfigError(f"--methods names {name} twice", "name each once")
        if not budget.longest and name not in STEPLESS:
            raise ConfigError(
                f"--methods: {name} needs written steps, and the data has none", f"choose from {','.join(STEPLESS)}"
            )
        method = METHODS[name](budget)
        chosen[method.label] = method
    unnamed = [text_stage(budget), *(replace(make(budget), measured=False) for make in METHODS.values())]
    known = {method.label: method for method in unnamed} | chosen
    ordered: dict[str, Method] = {}
    for method in chosen.values():
        line = [method]
        while line[0].parent:
            line.insert(0, known[line[0].parent])
        ordered |= {each.label: each for each in line if each.label not in ordered}
    return tuple(ordered.values())
