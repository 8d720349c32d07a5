"""What is fed back: from the hidden state of one position to the input of the next."""

import torch
from torch import Tensor, nn

from latent_gemma.choices import BridgeKind


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


def mix_inputs(token_embedding: Tensor, latent: Tensor, p: float) -> Tensor:
    """Combine the embedding of the greedy token with the latent, p * e + (1 - p) * l.

    Args:
        token_embedding: scaled embedding of the argmax token, [..., D]; detached here.
        latent: [..., D], float32 or float64.
        p: share of the token embedding, 0 to 1.

    Returns:
        The input of the next position, [..., D], in the dtype of `latent`.
    """
    return p * token_embedding.detach().to(latent.dtype) + (1.0 - p) * latent
