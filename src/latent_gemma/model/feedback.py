"""What is fed back: from the hidden state of one position to the input of the next."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latent_gemma.choices import BridgeKind
from latent_gemma.model.config import LatentConfig


class BridgeLinear(nn.Linear):
    """A Linear that no quantiser takes for one of the decoder's."""


class ZeroLinear(BridgeLinear):
    """A Linear that the model's weight initialisation starts at zero."""


class Bridge(nn.Module):
    """Map from the normalised hidden state to the latent, u + f(LayerNorm(u)), the identity at its start.

    Args:
        hidden_size: D.
        kind: "linear", f is one Linear; "mlp", f is Linear, GELU, Linear. The last Linear starts at zero.

    Source: the plan's LayerNorm -> Linear bridge. It differs in being residual: LayerNorm removes the mean and so
    cannot be passed through exactly for every input, while a residual with a zero last layer is the identity for
    every input and still gets a gradient in its first step.
    """

    def __init__(self, hidden_size: int, kind: BridgeKind) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.hidden = BridgeLinear(hidden_size, hidden_size) if kind == "mlp" else None
        self.out = ZeroLinear(hidden_size, hidden_size)

    def forward(self, u: Tensor) -> Tensor:
        """Bridge `u`, shape [..., D], in its precision, whatever that of the weights is."""
        f = nn.functional.layer_norm(u, self.norm.normalized_shape, *_as(u, self.norm), self.norm.eps)
        if self.hidden is not None:
            f = nn.functional.gelu(nn.functional.linear(f, *_as(u, self.hidden)))
        return u + nn.functional.linear(f, *_as(u, self.out))


def _as(u: Tensor, module: nn.Linear | nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias in the precision of `u`."""
    return module.weight.to(u.dtype), module.bias.to(u.dtype)


def unit_rms(hidden_states: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of one; zero stays zero."""
    return hidden_states * torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + 1e-12)


def latent_from_hidden(hidden_states: Tensor, bridge: nn.Module | None, embed_rms: float) -> Tensor:
    """Bring hidden states into the space that layer 0 sees.

    Args:
        hidden_states: final (normed) hidden states, [..., D], any float dtype.
        bridge: the bridge, None for the identity.
        embed_rms: root mean square of the scaled token embeddings.

    Returns:
        Latents, [..., D], in float32 (float64 for float64 input): half precision loses the small differences that
        K steps of recurrence multiply.
    """
    with torch.autocast(device_type=hidden_states.device.type, enabled=False):
        u = unit_rms(hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32)))
        return (u if bridge is None else bridge(u)) * embed_rms


def token_part(logits: Tensor, embed: Callable[[Tensor], Tensor], latent: LatentConfig) -> tuple[Tensor, Tensor]:
    """The token part of what is fed back: the most probable token, or "soft", the mean of the most probable ones.

    The mean is sum_v w_v e(v) with w = softmax((z + soft_gumbel g) / soft_temperature) over the `soft_top_k` largest
    z + soft_gumbel g, where z are the logits and g is Gumbel noise. The thought's id, which says nothing, and `eot`,
    which would say that thinking is over, are never part of either.

    Args:
        logits: [..., V].
        embed: from ids [...] to what layer 0 sees, [..., D].
        latent: which of the two, and the ids.

    Returns:
        The most probable token [...], and the embedding [..., D].

    Source: Zhang et al. 2025 (Soft Thinking, arXiv 2505.15778), section 3; the noise is the Gumbel-Softmax of Wu et al.
    2025 (arXiv 2508.03440). It differs in the noise coming before the choice of k tokens, and in the stop: the model's
    own preference for `eot`, not the entropy.
    """
    logits = logits.clone()
    logits[..., latent.thought_id] = logits[..., latent.eot_id] = float("-inf")
    tokens = logits.argmax(-1)
    if latent.token == "argmax":
        return tokens, embed(tokens)
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if latent.soft_gumbel > 0.0:
        scores = scores - latent.soft_gumbel * torch.empty_like(scores).exponential_().log()
    best = scores.topk(min(latent.soft_top_k, scores.shape[-1]), dim=-1)
    weights = (best.values / latent.soft_temperature).softmax(-1)
    return tokens, (weights[..., None] * embed(best.indices)).sum(-2)


def mix_inputs(token_embedding: Tensor, latent: Tensor, p: float) -> Tensor:
    """Combine the embedding of the greedy token with the latent, p * e + (1 - p) * l.

    Args:
        token_embedding: the token part, [..., D]; detached here.
        latent: [..., D], float32 or float64.
        p: share of the token embedding, 0 to 1.

    Returns:
        The input of the next position, [..., D], in the dtype of `latent`.
    """
    return p * token_embedding.detach().to(latent.dtype) + (1.0 - p) * latent
