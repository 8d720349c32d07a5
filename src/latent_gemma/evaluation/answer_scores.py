"""How probable the right answer is to a model, behind given thoughts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_gemma.generation.decode import SCORE_BYTES, SCORE_BYTES_ELSEWHERE, positions_of
from latent_gemma.generation.score import followed, score_continuations
from latent_gemma.model.adapters import thought_phase
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM


@torch.no_grad()
def score_answers(
    model: LatentReasoningGemmaForCausalLM,
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], thoughts: Sequence[Tensor],
    pad_id: int,
) -> list[float]:  # fmt: skip
    """Log-probability of an answer to each prompt, behind the thoughts that were taken.

    Thoughts that are known need no steps: all positions go through the decoder at once, laid out as by `followed`.

    Args:
        model: a latent Gemma in evaluation mode.
        prompts: ids of each, with as many thoughts in it as it has in `thoughts`.
        answers: ids of each answer with its end, at least one each.
        thoughts: what was fed back, [K, D] each; empty where no prompt has thoughts. In recurrence "sequence" [T, D],
            and the passes are taken again.
        pad_id: id of the padding.

    Returns:
        For each the sum of its tokens' log-probabilities, nats.
    """
    latent = model.config.latent
    if thoughts and latent.recurrence == "sequence":
        width = max(map(len, thoughts))
        forced = torch.stack([torch.nn.functional.pad(one, (0, 0, width - len(one), 0)) for one in thoughts])
        with model.thinking(forced=forced.to(model.device)):
            return [logprob for logprob, _ in score_continuations(model, prompts, answers, pad_id)]
    ids, mask, targets, asked = followed(prompts, answers, pad_id, model.device)
    first = ids.shape[1] - targets.shape[1]
    decoder = model.model
    embeds = decoder.embed_tokens(ids)
    thought = (ids == latent.thought_id) & mask.bool()
    thought[:, first + 1 :] = False
    if thoughts:
        embeds[thought] = torch.cat(list(thoughts)).to(embeds)
    with thought_phase(thought[:, :, None] if thoughts and latent.adapter != "none" else None):
        # not the decoder's own forward, which would think wherever an input equals the thought's embedding
        hidden = decoder.decoder_call(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions_of(mask), use_cache=False
        ).last_hidden_state
    states, wanted = hidden[:, first:][asked], targets[asked]
    size = SCORE_BYTES.get(states.device.type, SCORE_BYTES_ELSEWHERE) // (4 * model.config.vocab_size)
    parts = zip(states.split(max(1, size)), wanted.split(max(1, size)), strict=True)
    chosen = [model.project(rows).float().log_softmax(-1).gather(-1, named[:, None])[:, 0] for rows, named in parts]
    found = torch.cat(chosen)
    logprobs = found.new_zeros(asked.shape).masked_scatter(asked, found)
    return [float(row) for row in logprobs.sum(-1).tolist()]
