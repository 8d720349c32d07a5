"""latent-gemma: teach Gemma to reason, in words and in latent space, and prove what the reasoning is worth.

The names below are the public ones; every other is free to move. Importing the package makes transformers' Auto classes
know the latent ones; what else is named here is imported when it is first asked for.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latent_gemma.data.example import Example
    from latent_gemma.data.load import DataSpec, load_examples
    from latent_gemma.data.task_list import load_task
    from latent_gemma.errors import ConfigError, DataError, LatentGemmaError, ModelError, RunError
    from latent_gemma.evaluation.engine import Evaluator, Measured
    from latent_gemma.evaluation.paired import PairedTest, mcnemar
    from latent_gemma.evaluation.points import EvalSettings
    from latent_gemma.evaluation.results import EvalReport, EvalRow, ThoughtStep
    from latent_gemma.evaluation.voting import VotedAnswer, Voter
    from latent_gemma.fast.steps import FastSteps
    from latent_gemma.generation.answers import Answers, answer
    from latent_gemma.inspection.lens import read_thoughts
    from latent_gemma.inspection.verdict import verdict
    from latent_gemma.inspection.write import write_report
    from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM, Thinking, ThoughtRecord
    from latent_gemma.model.loading import load_model
    from latent_gemma.model.prompt import Frame
    from latent_gemma.options.measurements import Eval
    from latent_gemma.options.source import DataSettings
    from latent_gemma.options.stages import Anneal, Coconut, Codi, Grpo, Internalize, LatentModel, Pause, Sft
    from latent_gemma.options.study_options import StudyOptions
    from latent_gemma.recipes.calls import Trained, evaluate, study, train
    from latent_gemma.recipes.evaluate import Evaluated
    from latent_gemma.text.answers import Grade, grade
    from latent_gemma.training.curriculum import (
        AnnealCurriculum,
        CoconutCurriculum,
        CodiCurriculum,
        InternalizeCurriculum,
        Stage,
        WrittenCurriculum,
    )
    from latent_gemma.training.fit import fit
    from latent_gemma.training.run import FitResult
    from latent_gemma.training.settings import GrpoSettings, LoraSettings, RewardSettings, TrainSettings

#: module -> public names that live in it
_HOMES = {
    "data.example": ("Example",),
    "data.load": ("DataSpec", "load_examples"),
    "data.task_list": ("load_task",),
    "errors": ("ConfigError", "DataError", "LatentGemmaError", "ModelError", "RunError"),
    "evaluation.engine": ("Evaluator", "Measured"),
    "evaluation.paired": ("PairedTest", "mcnemar"),
    "evaluation.points": ("EvalSettings",),
    "evaluation.results": ("EvalReport", "EvalRow", "ThoughtStep"),
    "evaluation.voting": ("VotedAnswer", "Voter"),
    "fast.steps": ("FastSteps",),
    "generation.answers": ("Answers", "answer"),
    "inspection.lens": ("read_thoughts",),
    "inspection.verdict": ("verdict",),
    "inspection.write": ("write_report",),
    "model": ("LatentConfig", "LatentReasoningGemmaForCausalLM", "Thinking", "ThoughtRecord"),
    "model.loading": ("load_model",),
    "model.prompt": ("Frame",),
    "options.measurements": ("Eval",),
    "options.source": ("DataSettings",),
    "options.stages": ("Anneal", "Coconut", "Codi", "Grpo", "Internalize", "LatentModel", "Pause", "Sft"),
    "options.study_options": ("StudyOptions",),
    "recipes.calls": ("Trained", "evaluate", "study", "train"),
    "recipes.evaluate": ("Evaluated",),
    "text.answers": ("Grade", "grade"),
    "training.curriculum": (
        *("AnnealCurriculum", "CoconutCurriculum", "CodiCurriculum", "InternalizeCurriculum"),
        *("Stage", "WrittenCurriculum"),
    ),
    "training.fit": ("fit",),
    "training.run": ("FitResult",),
    "training.settings": ("GrpoSettings", "LoraSettings", "RewardSettings", "TrainSettings"),
}
__all__ = [
    "Anneal",
    "AnnealCurriculum",
    "Answers",
    "Coconut",
    "CoconutCurriculum",
    "Codi",
    "CodiCurriculum",
    "ConfigError",
    "DataError",
    "DataSettings",
    "DataSpec",
    "Eval",
    "EvalReport",
    "EvalRow",
    "EvalSettings",
    "Evaluated",
    "Evaluator",
    "Example",
    "FastSteps",
    "FitResult",
    "Frame",
    "Grade",
    "Grpo",
    "GrpoSettings",
    "Internalize",
    "InternalizeCurriculum",
    "LatentConfig",
    "LatentGemmaError",
    "LatentModel",
    "LatentReasoningGemmaForCausalLM",
    "LoraSettings",
    "Measured",
    "ModelError",
    "PairedTest",
    "Pause",
    "RewardSettings",
    "RunError",
    "Sft",
    "Stage",
    "StudyOptions",
    "Thinking",
    "ThoughtRecord",
    "ThoughtStep",
    "TrainSettings",
    "Trained",
    "VotedAnswer",
    "Voter",
    "WrittenCurriculum",
    "answer",
    "evaluate",
    "fit",
    "grade",
    "load_examples",
    "load_model",
    "load_task",
    "mcnemar",
    "read_thoughts",
    "study",
    "train",
    "verdict",
    "write_report",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"latent_gemma.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# The command loads torch and transformers, which takes seconds, when a verb needs them: its help does not.
if Path(sys.argv[0]).stem != "latent-gemma" and not {"latent_gemma", "latent_gemma.cli"} & {*sys.orig_argv}:
    importlib.import_module("latent_gemma.compat")
