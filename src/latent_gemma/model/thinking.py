"""What can be asked of a rollout from outside: other thoughts, noise, a record of what was thought, a faster way."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache

from latent_gemma.errors import ConfigError


@dataclass
class ThoughtRecord:
    """Filled by a rollout; one entry per latent step, in order.

    A column holds the thought of a row only where `mask` is true (rows of a batch may think different numbers of
    steps). In the "sequence" recurrence an entry holds the last prompt position of that pass.

    Args:
        source: final hidden state that was fed back, [B, D] each; the model's head reads it as what the thought says.
            In "parallel" the one before the thought after the last pass, which fed back those of the pass before.
        inputs: what was fed back, bridged, scaled and mixed, [B, D] each.
        hidden: final hidden state at the thought's own position, [B, D] each.
        mask: rows that think at this step, [B] bool each.
        tokens: most probable token of the position before, [B] each; empty while p = 0 (the head is not run).
        prefix: "sequence" only: the whole input of the last pass, [B, T, D].
        grad_norms: Euclidean norm of the loss gradient with respect to each entry of `inputs`, filled in backward;
            step index -> 0-d tensor.
    """

    source: list[Tensor] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    mask: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    prefix: Tensor | None = None
    grad_norms: dict[int, Tensor] = field(default_factory=dict)

    def stacked_inputs(self) -> Tensor:
        """All inputs, [B, K, D]."""
        return torch.stack(self.inputs, dim=1)


class Step(Protocol):
    """Takes single positions through a decoder, one of each row a call, in place of its layers.

    Args:
        fixed: its batch has to stay as large as it is.
    """

    fixed: bool

    def __call__(self, embeds: Tensor, positions: Tensor, padding: Tensor | None, thinks: Tensor | None) -> Tensor:
        """The next position of each row.

        Args:
            embeds: what layer 0 sees, [B, 1, D].
            positions: [B, 1] or [1, 1].
            padding: of all columns up to this one, 0 on padding, [B, T_past + 1], or None.
            thinks: rows that adapters on thoughts act on, [B, 1, 1] bool, or None.

        Returns:
            Final hidden states, [B, 1, D].
        """
        ...

    def keys(self) -> list[tuple[Tensor, Tensor]] | None:
        """Per layer, keys and values of the positions taken; None where the cache has them already."""
        ...


class Steps(Protocol):
    """What takes positions that go through alone by a shorter way than the stock layers; results stay the same."""

    def cache(self, config: PreTrainedConfig, capacity: int) -> Cache:
        """An empty cache for work without gradients, with room for `capacity` positions."""
        ...

    def begin(self, decoder: Any, past: Cache, room: int) -> Step | None:
        """Begin to take positions behind `past`, at most `room`; None where only the stock layers can."""
        ...

    def head(self, model: Any) -> Callable[[Tensor], Tensor]:
        """Logits [B, V] of final hidden states [B, D], without gradients."""
        ...


@dataclass(frozen=True)
class Thinking:
    """Settings of the rollouts that run inside `model.thinking(...)`.

    Args:
        p: share of the token embedding, overriding the configuration; None leaves it.
        forced: inputs to put at the thought positions instead of the model's own, [B, K, D] (thought k of a row takes
            [:, k]; where that is not a number, its own: "append" alone) or [B, T, D] ("sequence", the input of the last
            pass, aligned at its end).
        noise_std: standard deviation of Gaussian noise added to each latent, in units of its RMS; drawn anew in each
            pass of "parallel".
        dropout: share of a latent's components set to zero (the rest scaled up).
        record: filled with what was thought.
        passes: make at least this many passes, further ones without a thought: what other processes' batches take,
            where all have to call the decoder equally often.
        columns: columns in which some row of the batch thinks, in order, where the caller knows them and that something
            stands before every thought; the host then asks the device for nothing ("append"). None looks.
        steps: takes positions that go through alone; None leaves them to the stock layers.
    """

    p: float | None = None
    forced: Tensor | None = None
    noise_std: float = 0.0
    dropout: float = 0.0
    record: ThoughtRecord | None = None
    passes: int = 0
    columns: tuple[int, ...] | None = None
    steps: Steps | None = None

    def __post_init__(self) -> None:
        if self.p is not None and not 0.0 <= self.p <= 1.0:
            raise ConfigError(f"p is {self.p!r}, outside [0, 1]", "give a share between 0 and 1")
        if not 0.0 <= self.noise_std < math.inf:
            raise ConfigError(f"noise_std is {self.noise_std!r}", "give 0 or more")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout is {self.dropout!r}, outside [0, 1)", "give a share below 1")
        if self.passes < 0:
            raise ConfigError(f"passes is {self.passes!r}", "give 0 or more")

    def empty_cache(self, config: PreTrainedConfig, capacity: int) -> Cache:
        """A cache for work without gradients, as the steps want it, with room for `capacity` positions."""
        return DynamicCache(config=config) if self.steps is None else self.steps.cache(config, capacity)

    def perturb(self, latent: Tensor, embed_rms: float) -> Tensor:
        """Add the noise and the dropout asked for to latents of shape [..., D]."""
        if self.noise_std > 0.0:
            latent = latent + torch.randn_like(latent) * (self.noise_std * embed_rms)
        if self.dropout > 0.0:
            latent = torch.nn.functional.dropout(latent, self.dropout, training=True)
        return latent
