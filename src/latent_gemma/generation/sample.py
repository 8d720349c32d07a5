"""The choice of the next token from scores over the vocabulary, each row at its own temperature."""

import math

import torch
from torch import Tensor


def _search(weights: Tensor, uniform: Tensor) -> Tensor:
    """Index [N] at which the running sum of weights [N, V] passes the share `uniform` [N] of its end.

    First among sums of blocks, then inside one block: a running sum over 256k tokens is the dearest pass of all.
    """
    blocks = weights.view(len(weights), -1, math.gcd(weights.shape[1], 512))
    sums = blocks.sum(-1)
    running = sums.cumsum(-1)
    target = (uniform * running[:, -1])[:, None]
    block = torch.searchsorted(running, target, right=True).clamp_(max=running.shape[1] - 1)
    rest = target - running.gather(1, block) + sums.gather(1, block)
    inside = blocks[torch.arange(len(blocks), device=blocks.device), block[:, 0]].cumsum(-1)
    index = torch.searchsorted(inside, rest, right=True).clamp_(max=inside.shape[1] - 1)
    return (block * blocks.shape[2] + index)[:, 0]


def choose(scores: Tensor, temperatures: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Choose one token a row: the best at temperature 0, else a draw from softmax(scores / temperature).

    With Gemma's 256k tokens every pass over the scores counts, and a multinomial draw costs more than the model's own
    step on a CPU; here no pass is dearer than an exponential.

    Args:
        scores: [N, V] float32, -inf for what must not be chosen; overwritten.
        temperatures: [N], 0 or more.
        uniform: [N], uniform on [0, 1), what the draws are made of.

    Returns:
        The tokens [N], int64, and their log-probabilities at temperature 1 [N], nats.

    Source: inverse transform sampling (Devroye 1986, Non-Uniform Random Variate Generation, section III.2).
    """
    shifted = scores.sub_(scores.amax(-1, keepdim=True))
    log_total = shifted.exp().sum(-1).log()
    unsettled = temperatures == 0.0
    tokens = torch.zeros_like(unsettled, dtype=torch.long)
    if not bool(unsettled.all()):
        weights = shifted.div(torch.where(unsettled, 1.0, temperatures)[:, None]).exp_()
        tokens = _search(weights, uniform)
        # rounding of the running sums must never choose what has no probability
        unsettled |= weights.gather(1, tokens[:, None])[:, 0] == 0.0
    if bool(unsettled.any()):
        tokens = torch.where(unsettled, shifted.argmax(-1), tokens)
    return tokens, shifted.gather(1, tokens[:, None])[:, 0] - log_total
