"""The part of a prompt that several answers share: read once a question, its cache handed to every answer."""

from torch import Tensor
from transformers import DynamicCache

from latent_gemma.generation.decode import positions_of
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM


def shared_columns(recurrence: str, length: int, thoughts: int, varied: bool) -> int:
    """How many columns of prompts are the same for all answers to a question and can be read ahead.

    Args:
        recurrence: of the thoughts.
        length: columns of the prompts.
        thoughts: K; 0 in words.
        varied: whether each answer thinks for itself, by noise or dropout in its thoughts.

    Returns:
        The number of columns, at least one less than there are.
    """
    if thoughts and varied:
        # in "sequence" all of the prompt is thought, and its passes cannot continue a cache
        return 0 if recurrence == "sequence" else length - thoughts - 2
    return length - 1


def read_prefix(
    model: LatentReasoningGemmaForCausalLM, ids: Tensor, mask: Tensor, columns: int, total: int, times: int
) -> DynamicCache | None:
    """Read the first columns of each prompt, once a question.

    Args:
        model: a latent Gemma.
        ids: prompts padded on the left, one a question, [B, T].
        mask: [B, T], 0 on padding.
        columns: how many to read.
        total: columns that the cache shall have room for.
        times: answers to each question.

    Returns:
        The cache of B x `times` rows, those of a question side by side; None where there is nothing to read.
    """
    if columns <= 0:
        return None
    cache = model.model.thinking.empty_cache(model.config, total)
    # the decoder alone: nobody reads logits of a prompt
    model.model(
        input_ids=ids[:, :columns],
        attention_mask=mask[:, :columns],
        position_ids=positions_of(mask)[:, :columns],
        cache=cache,
        use_cache=True,
        project=model.project,
    )
    cache.batch_repeat_interleave(times)
    return cache
