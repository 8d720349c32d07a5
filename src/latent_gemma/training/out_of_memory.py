"""What to lower, and by how much, when a training step does not fit into memory."""

from typing import Any

from accelerate.utils.memory import should_reduce_batch_size

from latent_gemma.errors import RunError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the machine."""
    return isinstance(error, MemoryError) or (isinstance(error, Exception) and should_reduce_batch_size(error))


def out_of_memory(arguments: Any, step: int, error: BaseException) -> RunError:
    """The error of a step that did not fit.

    Args:
        arguments: `transformers.TrainingArguments`, or TRL's.
        step: number of the step.
        error: what was raised; its first sentence says how much was asked for.

    Returns:
        An error whose remedy names options and values.
    """
    batch, accumulate = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    remedies = []
    smaller = next((size for size in range(batch // 2, 0, -1) if batch % size == 0), None)
    if smaller is not None:
        parts = batch // smaller
        remedies.append(f"--batch-size {smaller} --accumulate {accumulate * parts} takes a step in {parts} parts")
    if not arguments.activation_checkpointing:
        remedies.append("--checkpointing keeps fewer activations")
    completion = getattr(arguments, "max_completion_length", None)
    if completion:
        remedies.append(f"--max-new-tokens {max(1, completion // 2)} in another --out halves the rollouts")
    if not remedies:
        remedies.append("leave the longest examples out, or train an adapter (--rank 16)")
    asked = (str(error) or type(error).__name__).split(". ")[0][:200]
    return RunError(
        f"out of memory in step {step} with --batch-size {batch} ({asked})",
        f"{'; '.join(remedies)}. Checkpoints stay as they are",
    )
