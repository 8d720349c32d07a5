"""Which questions GRPO can ask with its settings, whatever engine writes the completions."""

from collections.abc import Sequence

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.launch import process_count
from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.training.batches import OnBad, sound
from latent_gemma.training.settings import GrpoSettings, TrainSettings


def groups_of(settings: TrainSettings, grpo: GrpoSettings) -> int:
    """Groups of completions in an optimiser step, of all processes.

    Args:
        settings: the optimisation; `batch_size` counts completions.
        grpo: what is particular to GRPO.

    Returns:
        Their number.

    Raises:
        ConfigError: if a step does not hold whole groups, or is to be grouped by length.
    """
    processes = process_count()
    completions = settings.batch_size * settings.accumulate * processes
    if completions % grpo.num_generations:
        raise ConfigError(
            f"--batch-size {settings.batch_size} x --accumulate {settings.accumulate} x {processes} process(es) = "
            f"{completions} completions hold no whole number of groups of {grpo.num_generations}",
            "make it a multiple of --num-generations",
        )
    if settings.group_by_length:
        raise ConfigError("--group-by-length means nothing to GRPO, which writes its own completions", "leave it out")
    return completions // grpo.num_generations


def sound_questions(
    frame: Frame, examples: Sequence[Example], mode: Mode, settings: TrainSettings, grpo: GrpoSettings, most: int,
    on_bad: OnBad | None,
) -> list[Example]:  # fmt: skip
    """The examples whose prompts leave room for a completion.

    Args:
        frame: of the model.
        examples: questions with their answers.
        mode: of the prompts.
        settings: the optimisation.
        grpo: what is particular to GRPO.
        most: tokens in a prompt and its completion.
        on_bad: told of each question that is left out; None raises.

    Returns:
        Those that are left.

    Raises:
        ConfigError: see `groups_of`.
        DataError: if a prompt is too long, or fewer questions are left than a batch has groups.
    """
    latent, room, kept = frame.latent, most - grpo.max_new_tokens, []
    num_thoughts = latent.most_thoughts if latent.own_thoughts == "auto" else latent.own_thoughts
    for number, example in enumerate(examples, start=1):
        length = len(frame.prompt(example.question, mode, num_thoughts))
        long = f"has a prompt of {length} tokens, which leaves too little room for a completion"
        if sound(number, long if length > room else None, on_bad):
            kept.append(example)
    # Whole batches of different questions are drawn, and of fewer than that none at all.
    groups = groups_of(settings, grpo)
    if len(kept) < groups:
        raise DataError(
            f"{len(kept)} questions are fewer than the {groups} groups of a batch (--batch-size "
            f"{settings.batch_size} x --accumulate {settings.accumulate} x {process_count()} process(es) / "
            f"--num-generations {grpo.num_generations})",
            "give more questions, or a smaller batch",
        )
    return kept
