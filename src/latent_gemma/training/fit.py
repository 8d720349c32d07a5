"""One training run: from a model in memory to a run folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainingArguments

from latent_gemma.data.example import Example
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import OnBad, check_rows, encode_examples, thoughts_of
from latent_gemma.training.callbacks import CurriculumCallback, LogCallback
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.curriculum import (
    AnnealCurriculum,
    Curriculum,
    StagedCurriculum,
    check_thoughts,
)
from latent_gemma.training.lora import with_lora
from latent_gemma.training.run import FitResult, Run, trainer_arguments
from latent_gemma.training.run_log import describe_curriculum
from latent_gemma.training.settings import LoraSettings, TrainSettings
from latent_gemma.training.trainer import CurriculumTrainer


def fit(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    examples: Sequence[Example],
    curriculum: Curriculum,
    settings: TrainSettings,
    run: Path,
    title: str,
    lora: LoraSettings | None = None,
    resume: bool = False,
    started_s: float | None = None,
    on_bad: OnBad | None = None,
) -> FitResult:
    """Train a model along a curriculum.

    Args:
        model: trained in place.
        tokenizer: its tokenizer.
        examples: the training examples.
        curriculum: what is latent, and when.
        settings: the optimisation.
        run: the run folder; metrics.jsonl and checkpoints go there.
        title: shown on the progress bar.
        lora: train a low-rank update of the whole model, beside the bridge of one that thinks, and merge it at the end.
        resume: go on from the newest checkpoint in `run`.
        started_s: `time.monotonic()` when the session began, from which `max_hours` counts; None takes now.
        on_bad: told of each example that cannot be trained on, which is then left out; None raises at the first.

    Returns:
        The trained model and what was logged. Its configuration says what it was trained to do in the last step: mode,
        K and p.

    Raises:
        ConfigError: if nothing would train, or see `check_thoughts`.
        DataError: if an example is longer than the model allows, or spells a tag that it stands in; if all do.
        RunError: if `resume` finds no checkpoint.
    """
    check_thoughts(curriculum, model.config.latent.c_thought, model.config.latent.recurrence)
    this = Run.begin(model, run, settings, title, resume, started_s)
    frame = Frame(tokenizer, model.config.latent)
    longest = max((len(example.steps) for example in examples), default=0)
    encoded = encode_examples(
        frame, examples, model.config.max_position_embeddings, on_bad,
        lambda steps: curriculum.most_thoughts(steps, longest),
    )  # fmt: skip
    check_rows(encoded, frame, curriculum)
    trained: Any = model
    if lora is not None and lora.rank > 0:
        trained = with_lora(model, lora)
    else:
        model.freeze_phases()
    arguments = TrainingArguments(**trainer_arguments(settings, run))
    steps = CurriculumCallback()
    trainer = CurriculumTrainer(
        trained,
        encoded,
        frame,
        curriculum,
        settings.group_by_length,
        args=arguments,
        callbacks=[
            steps,
            LogCallback(this.log(describe_curriculum, "tokens")),
            CleanStop(this.started_s, settings.max_hours),
        ],
    )
    steps.trainer = trainer
    result = this.train(trainer, trained)
    return _as_trained(result, trainer, curriculum) if result.finished else result


def _as_trained(result: FitResult, trainer: CurriculumTrainer, curriculum: Curriculum) -> FitResult:
    """Have the model's configuration say what the last step was trained with, and a note where that is not the plan."""
    stage, longest, latent = trainer.stage_before(), trainer.longest, trainer.frame.latent
    share = latent.thoughts_per_token if stage.thoughts_per_token is None else stage.thoughts_per_token
    result.model.set_latent(
        trained_for="words" if latent.words_format == "tags" else stage.mode(longest),
        num_thoughts=max(len(thoughts_of(item, stage, latent)) for item in trainer.encoded),
        learned_k=stage.learns_k(longest),
        thoughts_per_token=share,
        p=stage.p,
    )
    notes = []
    if isinstance(curriculum, AnnealCurriculum) and abs(stage.p - curriculum.p_end) > 1e-9:
        why = "the loss held it" if curriculum.p_shape == "gated" else "it had no more steps to fall in"
        notes.append(f"p ended at {stage.p:.3g}, not at {curriculum.p_end:g}: {why}. The model is saved with this p.")
    steps = stage.steps_thought(longest)
    if isinstance(curriculum, StagedCurriculum) and steps and stage.latent_steps < longest:
        k = ", and K is not learnt" if stage.halt_weight else ""
        notes.append(
            f"The last stage thinks {steps} steps and writes the rest, of up to {longest}; a model that is asked to "
            f"think answers without them{k}. --final-stages 1 trains it so."
        )
    for note in notes if trainer.is_world_process_zero() else ():
        tqdm.write(note)
    return replace(result, notes=(*result.notes, *notes))
