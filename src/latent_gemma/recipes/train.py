"""`latent-gemma train sft | coconut | anneal`: the three stages that change weights."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from latent_gemma.data.load import load_examples
from latent_gemma.model.config import Adapter, BridgeKind, Mix, Recurrence, Trains
from latent_gemma.model.loading import load_model
from latent_gemma.recipes.stage import DataSettings, run_folder, save_stage
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum, Curriculum, WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.settings import LoraSettings, TrainSettings


@dataclass(frozen=True)
class Common:
    """What every training recipe takes.

    Args:
        model: directory, run folder, GGUF file, hub name, "gemma-3-270m" (extra `trial`) or "tiny".
        data: the training data.
        out: the run folder to write.
        train: the optimisation.
        resume: go on from the newest checkpoint in `out`.
    """

    model: str
    data: DataSettings
    out: Path
    train: TrainSettings = field(default_factory=TrainSettings)
    resume: bool = False


@dataclass(frozen=True)
class Sft(Common):
    """Text stage: learn to write the steps between the thought markers, then the answer.

    Args:
        reasoning: "words" writes the steps; "none" learns the answer alone, the baseline without reasoning.
        lora: low-rank adaptation, merged at the end.
        step_separator: text after each written step; the latent stages inherit it.
    """

    reasoning: Literal["words", "none"] = "words"
    lora: LoraSettings = field(default_factory=LoraSettings)
    step_separator: str = "\n"


@dataclass(frozen=True)
class LatentModel:
    """The latent part of the model that a latent stage trains.

    Args:
        c_thought: thoughts per written step.
        recurrence: "append" or "sequence".
        bridge: "identity", "linear" or "mlp".
        mix: how token embedding and latent are combined.
        trains: "all" weights in all phases (COCONUT), or the "thoughts" alone: adapter and bridge, the rest frozen.
        adapter: weights active on thought positions: "none", "lora" or "full".
        lora_rank: rank of the "lora" adapter.
        backprop_steps: backpropagate through the last n latent steps only.
    """

    c_thought: int = 1
    recurrence: Recurrence = "append"
    bridge: BridgeKind = "identity"
    mix: Mix = "linear"
    trains: Trains = "all"
    adapter: Adapter = "none"
    lora_rank: int = 16
    backprop_steps: int | None = None


@dataclass(frozen=True)
class Coconut(Common):
    """COCONUT: stage by stage, written steps are replaced by thoughts (p = 0 throughout)."""

    latent: LatentModel = field(default_factory=LatentModel)
    curriculum: CoconutCurriculum = field(default_factory=CoconutCurriculum)


@dataclass(frozen=True)
class Anneal(Common):
    """The annealed plan: all steps become thoughts while the share p of the token embedding falls to 0."""

    latent: LatentModel = field(default_factory=LatentModel)
    curriculum: AnnealCurriculum = field(default_factory=AnnealCurriculum)


def run_train(config: Sft | Coconut | Anneal) -> Path:
    """Train one stage.

    Args:
        config: its configuration.

    Returns:
        The model directory written, or the run folder if the run was stopped before its end.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the model that cannot be used.
    """
    recipe = type(config).__name__.lower()
    examples = load_examples(config.data.spec("train", config.train.seed))
    changes: dict[str, Any]
    curriculum: Curriculum
    lora = None
    if isinstance(config, Sft):
        changes = {"step_separator": config.step_separator, "num_thoughts": 0, "p": 0.0}
        curriculum, lora = WrittenCurriculum(config.reasoning), config.lora
    else:
        curriculum = config.curriculum
        steps = max(len(example.steps) for example in examples)
        if isinstance(curriculum, CoconutCurriculum):
            steps = min(steps, curriculum.max_latent_stage)
        elif curriculum.max_latent_steps:
            steps = curriculum.max_latent_steps
        # The scale of the latents is measured anew: the text stage has moved the embeddings.
        changes = {**vars(config.latent), "num_thoughts": steps * config.latent.c_thought, "embed_rms": None}
    settings = config.train
    if isinstance(config, Coconut) and config.curriculum.epochs_per_stage > 0.0 and not settings.steps:
        settings = replace(settings, epochs=config.curriculum.count * config.curriculum.epochs_per_stage)
    with run_folder(config.out, config.resume) as run:
        model, tokenizer = load_model(config.model, changes)
        result = fit(model, tokenizer, examples, curriculum, settings, run, recipe, lora=lora, resume=config.resume)
        if not result.finished:
            print(f"stopped at step {result.steps}; go on with --resume")
            return run
        model = result.model
        if isinstance(config, Anneal):
            model.set_latent(p=config.curriculum.p_end, question_visibility=config.curriculum.visibility_end)
        return save_stage(run, recipe, model, tokenizer, config, config.model, result, config.train.seed)
