"""GRPO on TRL's trainer, set to the published algorithm, for models that reason in words and for latent ones."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig

from latent_gemma.data.example import Example
from latent_gemma.engines.trl.rollouts import FramedGrpoTrainer, RewardCallback
from latent_gemma.errors import ConfigError
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.text.rewards import Reward
from latent_gemma.training.batches import OnBad
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.grpo_questions import groups_of, sound_questions
from latent_gemma.training.lora import lora_config
from latent_gemma.training.reward_watch import RewardWatch, SampleTable
from latent_gemma.training.rewarding import RewardBook
from latent_gemma.training.run import FitResult, Run, trainer_arguments
from latent_gemma.training.run_log import describe_rewards
from latent_gemma.training.settings import GrpoSettings, LoraSettings, TrainSettings


def grpo_arguments(settings: TrainSettings, grpo: GrpoSettings, beta: float, run: Path) -> GRPOConfig:
    """TRL's configuration of the published algorithm.

    Args:
        settings: the optimisation; `batch_size` counts completions.
        grpo: what is particular to GRPO.
        beta: weight of the KL divergence to the model the run started from.
        run: the run folder.

    Returns:
        The configuration.

    Raises:
        ConfigError: if the batch does not hold whole groups, or is to be grouped by length.

    Source: Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300), section 4.1, equations 3 and 4: the loss is a mean over
        each completion's tokens and then over completions (`loss_type="grpo"`), advantages are divided by the group's
        standard deviation, ratios are per token, and the KL estimate carries no importance weight.
    """
    groups_of(settings, grpo)
    if grpo.vllm != "off" and find_spec("vllm") is None:
        raise ConfigError(f"--vllm {grpo.vllm} needs vLLM", "pip install vllm on a CUDA machine, or --vllm off")
    return GRPOConfig(
        **trainer_arguments(settings, run),
        num_generations=grpo.num_generations,
        max_completion_length=grpo.max_new_tokens,
        temperature=grpo.temperature,
        top_p=1.0,
        top_k=0,
        beta=beta,
        epsilon=0.2,
        num_iterations=grpo.iterations,
        loss_type="grpo",
        scale_rewards="group",
        importance_sampling_level="token",
        use_bias_correction_kl=False,
        mask_truncated_completions=False,
        disable_dropout=True,
        use_vllm=grpo.vllm != "off",
        vllm_mode="server" if grpo.vllm == "server" else "colocate",
    )


def fit_grpo(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    examples: Sequence[Example],
    rewards: Sequence[Reward],
    mode: Mode,
    settings: TrainSettings,
    grpo: GrpoSettings,
    run: Path,
    lora: LoraSettings,
    beta: float = 0.04,
    title: str = "grpo",
    resume: bool = False,
    started_s: float | None = None,
    on_bad: OnBad | None = None,
    brief: bool = False,
) -> FitResult:
    """Improve a model by the rewards of its own completions.

    Args:
        model: trained in place.
        tokenizer: its tokenizer.
        examples: questions with their answers; steps are not read.
        rewards: functions of (question, completion, accepted).
        mode: "words", or "latent": the thoughts are in the prompt, and gradients of the completion's log-probabilities
            reach the latent steps.
        settings: the optimisation; `batch_size` counts completions.
        grpo: what is particular to GRPO.
        run: the run folder; metrics.jsonl, samples.jsonl and checkpoints go there.
        lora: with a rank, only a low-rank update trains, and the reference is the model without it.
        beta: weight of the KL divergence to the model the run started from; 0 drops it.
        title: shown on the progress bar.
        resume: go on from the newest checkpoint in `run`.
        started_s: see `fit`.
        on_bad: told of each question that leaves no room for a completion, which is then left out; None raises.
        brief: say no more than a line; the run is one of several.

    Returns:
        The trained model, what was logged, and notes on rewards that taught nothing.

    Raises:
        ConfigError: if nothing would train or the batch does not fit the groups.
        DataError: if a prompt leaves no room for a completion, or there are fewer questions than a batch has groups.
        RunError: if `resume` finds no checkpoint, or a step that should change weights changes none.
    """
    this = Run.begin(model, run, settings, title, resume, started_s, brief)
    frame, arguments = Frame(tokenizer, model.config.latent, remembers=True), grpo_arguments(settings, grpo, beta, run)
    most = model.config.max_position_embeddings
    examples = sound_questions(frame, examples, mode, settings, grpo, most, on_bad)
    ends = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = list(frame.end_ids)
    adapter = lora_config(model, lora) if lora.rank else None
    if adapter is None:
        model.freeze_phases()
    book, watch = RewardBook(rewards, frame, mode), RewardWatch()
    trainer = FramedGrpoTrainer(
        book=book,
        num_thoughts=model.config.latent.own_thoughts,
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {"prompt": [e.question for e in examples], "accepted": [list(e.answers) for e in examples]}
        ),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[
            *this.callbacks(describe_rewards, "num_tokens"),
            RewardCallback(book, SampleTable(grpo.sample_every, run), watch),
            CleanStop(this.started_s, settings.max_hours, settings.save_every is None),
        ],
    )
    with model.thinking(steps=FastSteps(model, packed=False)):
        result = this.train(trainer, trainer.model if adapter else model)
    result.model.__dict__.pop("forward", None)  # TRL's patched forward, which returns log-probabilities
    result.model.generation_config.eos_token_id = ends
    result.model.set_latent(trained_for=mode)
    return replace(result, notes=tuple(watch.notes))
