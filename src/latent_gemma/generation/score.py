"""Log-probabilities of given texts after given prompts, in one forward a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_gemma.generation.decode import positions_of
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import pad_left


def followed(
    prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lay prompts and what follows them out in one batch.

        prompt 0   pad pad  q  bot  t  eot |  a   a   a
        prompt 1    q   q   q  bot  t  eot |  a  pad pad

    Args:
        prompts: ids of each, at least one each.
        continuations: ids of what follows it, at least one each.
        pad_id: id of the padding.
        device: where the tensors go.

    Returns:
        Ids [B, T + W - 1], without the last token, which predicts nothing that is asked for, and their mask; the
        targets [B, W], which the last W positions predict, and which of them are none of the padding, bool.
    """
    width = max(map(len, continuations))
    ids, mask = pad_left(prompts, pad_id)
    targets = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in continuations])
    real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in continuations])
    ids, mask = torch.cat([ids, targets[:, :-1]], dim=1), torch.cat([mask, real[:, :-1]], dim=1)
    return ids.to(device), mask.to(device), targets.to(device), real.to(device).bool()


@torch.no_grad()
def score_continuations(
    model: LatentReasoningGemmaForCausalLM,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    pad_id: int,
) -> list[tuple[float, bool]]:
    """Score what follows each prompt, laid out as by `followed`; the thoughts of all prompts stay in the same columns.

    Args:
        model: a latent Gemma in evaluation mode.
        prompts: ids of each prompt, at least one each.
        continuations: ids of what follows it, at least one each.
        pad_id: id of the padding.

    Returns:
        For each the sum of its tokens' log-probabilities (nats), and whether greedy decoding would write it.
    """
    ids, mask, targets, real = followed(prompts, continuations, pad_id, model.device)
    hidden = model.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask),
        use_cache=False,
        project=model.project,
    ).last_hidden_state
    scores = model.project(hidden[:, -targets.shape[1] :]).float().log_softmax(-1)
    chosen = scores.gather(-1, targets[..., None])[..., 0]
    scores[..., model.never_generated] = float("-inf")
    greedy = (scores.argmax(-1) == targets) | ~real
    return list(zip(chosen.masked_fill(~real, 0.0).sum(-1).tolist(), greedy.all(-1).tolist(), strict=True))
