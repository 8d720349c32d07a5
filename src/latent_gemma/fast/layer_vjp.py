"""One decoder layer for one position a row, forward and backward by hand; see `latent_gemma.fast.unrolled`."""

from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latent_gemma.fast.anatomy import Anatomy, Norm, Normed, Rotation, norm_of
from latent_gemma.fast.vjp import Book, Projection, attended, norm_vjp
from latent_gemma.model.cache import KeyValue

aten = torch.ops.aten


class Kept(NamedTuple):
    """What a layer keeps of a position for backward.

    Args:
        norms: as `Anatomy.norms`.
        used: as `Anatomy.projections`: the input [B, in], and what its adapters keep.
        query: turned, [B, H_kv, groups, head_dim].
        capped: scores behind the softcap's tanh, [B, H_kv, groups, T], or None.
        weights: of attention, likewise.
        gate: [B, intermediate].
        act: activation of `gate`.
        up: what it is multiplied by.
    """

    norms: list[Normed | None]
    used: list[list[Tensor]]
    query: Tensor
    capped: Tensor | None
    weights: Tensor
    gate: Tensor
    act: Tensor
    up: Tensor

    def flat(self) -> tuple[list[Tensor | None], list[int]]:
        """All tensors, and how many each projection keeps."""
        norms = chain.from_iterable((None, None) if norm is None else norm for norm in self.norms)
        return [*norms, *self[2:], *chain(*self.used)], [len(part) for part in self.used]

    @classmethod
    def of(cls, flat: tuple[Any, ...], counts: list[int]) -> "Kept":
        """What `flat` made flat."""
        parts = iter(flat)
        norms = [
            None if unit is None else Normed(unit, size) for unit, size in zip(*[islice(parts, 12)] * 2, strict=True)
        ]
        rest = list(islice(parts, 6))
        return cls(norms, [list(islice(parts, count)) for count in counts], *rest)


class UnrolledLayer:
    """One decoder layer for the single positions of one rollout.

    Args:
        layer: a stock Gemma layer; see `Unrolled.fits`.
        past: keys and values of the positions before, [B, H_kv, T, head_dim] each.
        room: number of single positions.
        dtype: of the computation.
    """

    def __init__(self, layer: Any, past: KeyValue, room: int, dtype: torch.dtype) -> None:
        anatomy = Anatomy.of(layer)
        self.dtype, self.head_dim, self.groups = dtype, anatomy.head_dim, anatomy.groups
        self.scaling, self.softcap = anatomy.scaling, anatomy.softcap
        self.layer_type, self.window = anatomy.layer_type, anatomy.window
        self.projections = [Projection(module, dtype) for module in anatomy.projections]
        self.norms = [norm_of(module) for module in anatomy.norms]
        self.past = past
        self.past_keys, self.past_values = (part.detach().to(dtype) for part in past)
        batch, heads, self.length, head_dim = past[0].shape
        self.keys, self.values = self.past_keys.new_empty(2, batch, heads, room, head_dim)
        self.book = Book(
            [
                *past,
                *chain.from_iterable(projection.parameters() for projection in self.projections),
                *(norm.weight for norm in self.norms if norm is not None),
            ]
        )
        self._task, self.key_grads, self.value_grads = -1, self.keys, self.values

    def begin(self) -> None:
        """Make room for gradients where a backward begins; called by every node of this layer."""
        task = torch._C._current_graph_task_id()
        if task != self._task:
            self._task = task
            self.book.clear()  # an earlier backward need not have come past all nodes
            self.key_grads, self.value_grads = (
                torch.zeros_like(part, dtype=torch.promote_types(self.dtype, torch.float32))
                for part in (self.keys, self.values)
            )

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, thinks: Tensor | None, slot: int, again: bool = False
    ) -> tuple[Tensor, Kept]:
        """One position.

        Args:
            x: hidden states [B, D].
            rotation: of queries and keys.
            mask: added to the scores of all keys, [B, 1, 1, T], or None.
            thinks: see `Projection`.
            slot: the position's place behind the past.
            again: its keys and values are there already.

        Returns:
            Hidden states [B, D] behind this layer, and what backward needs.
        """
        q, k, v, o, to_gate, to_up, to_down = self.projections
        before, of_query, of_key, behind, middle, last = self.norms
        batch, (cos, sin) = len(x), rotation
        normed_in, inner = self._norm(before, x)
        query, used_q = q(inner, thinks)
        key, used_k = k(inner, thinks)
        value, used_v = v(inner, thinks)
        normed_q, query = self._norm(of_query, query.view(batch, -1, self.head_dim))
        normed_k, key = self._norm(of_key, key.view(batch, -1, self.head_dim))
        heads, both = query.shape[1], torch.cat([query, key], dim=1)
        both = torch.addcmul(both * cos, both.roll(self.head_dim // 2, -1), sin).to(self.dtype)
        if not again:
            self.keys[:, :, slot], self.values[:, :, slot] = both[:, heads:], value.view(batch, -1, self.head_dim)
        query = both[:, :heads].reshape(batch, -1, self.groups, self.head_dim)
        capped, weights = self._weights(query, mask, slot + 1)
        seen = weights[..., : self.length] @ self.past_values
        seen += weights[..., self.length :] @ self.values[:, :, : slot + 1]
        out, used_o = o(seen.view(batch, -1), thinks)
        normed_behind, x = self._add(behind, x, out)
        normed_middle, inner = self._norm(middle, x)
        gate, used_gate = to_gate(inner, thinks)
        up, used_up = to_up(inner, thinks)
        act = torch.nn.functional.gelu(gate, approximate="tanh")
        out, used_down = to_down(act * up, thinks)
        normed_last, x = self._add(last, x, out)
        return x, Kept(
            [normed_in, normed_q, normed_k, normed_behind, normed_middle, normed_last],
            [used_q, used_k, used_v, used_o, used_gate, used_up, used_down],
            query, capped, weights, gate, act, up,
        )  # fmt: skip

    def _norm(self, norm: Norm | None, x: Tensor) -> tuple[Normed | None, Tensor]:
        if norm is None:
            return None, x
        normed = norm.normed(x)
        return normed, norm.scaled(normed).to(self.dtype)

    @staticmethod
    def _add(norm: Norm | None, residual: Tensor, x: Tensor) -> tuple[Normed | None, Tensor]:
        if norm is None:
            return None, residual + x
        normed = norm.normed(x)
        return normed, norm.add_to(residual, normed)

    def _weights(self, query: Tensor, mask: Tensor | None, end: int) -> tuple[Tensor | None, Tensor]:
        """Scores behind the softcap's tanh, and the weights of attention."""
        parts = [query @ keys.transpose(2, 3) for keys in (self.past_keys, self.keys[:, :, :end])]
        scores, capped = torch.cat(parts, dim=-1), None
        if self.softcap is None:
            scores = scores * self.scaling
        else:
            capped = torch.tanh(scores * (self.scaling / self.softcap))
            scores = capped * self.softcap
        if mask is not None:
            scores = scores + mask
        return capped, torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(self.dtype)

    def backward(self, grad: Tensor, kept: Kept, rotation: Rotation, thinks: Tensor | None, slot: int) -> Tensor:
        """Gradient [B, D] of the input from that of the result; the rest goes into the book and the buffers."""
        q, k, v, o, to_gate, to_up, to_down = self.projections
        before, of_query, of_key, behind, middle, last = self.norms
        normed_in, normed_q, normed_k, normed_behind, normed_middle, normed_last = kept.norms
        used_q, used_k, used_v, used_o, used_gate, used_up, used_down = kept.used
        book, batch = self.book, len(grad)
        inner = self._norm_vjp(last, grad, normed_last).to(self.dtype)
        inner = to_down.vjp(None, inner, used_down, thinks, book)
        gate = aten.gelu_backward(inner * kept.up, kept.gate, approximate="tanh")
        into = to_gate.vjp(None, gate, used_gate, thinks, book)
        into = to_up.vjp(into, inner * kept.act, used_up, thinks, book)
        grad = grad + self._norm_vjp(middle, into, normed_middle).to(grad.dtype)
        inner = self._norm_vjp(behind, grad, normed_behind).to(self.dtype)
        inner = o.vjp(None, inner, used_o, thinks, book)
        query, key, value = self._attention_vjp(inner.view(kept.query.shape), kept, slot)
        query, key = self._turn_back(query, key, rotation)
        query = self._norm_vjp(of_query, query, normed_q).to(self.dtype)
        key = self._norm_vjp(of_key, key, normed_k).to(self.dtype)
        into = q.vjp(None, query.reshape(batch, -1), used_q, thinks, book)
        into = k.vjp(into, key.reshape(batch, -1), used_k, thinks, book)
        into = v.vjp(into, value.reshape(batch, -1).to(self.dtype), used_v, thinks, book)
        return grad + self._norm_vjp(before, into, normed_in).to(grad.dtype)

    def _norm_vjp(self, norm: Norm | None, grad: Tensor, normed: Normed | None) -> Tensor:
        return grad if norm is None or normed is None else norm_vjp(norm, grad, normed, self.book)

    def _attention_vjp(self, grad: Tensor, kept: Kept, slot: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of this position's turned query and key, and of its value, [B, heads, head_dim] each."""
        weights, query, past, end = kept.weights, kept.query, self.length, slot + 1
        self.book.add(self.past[1], weights[..., :past], grad, attended)
        self.value_grads[:, :, :end] += weights[..., past:].transpose(2, 3) @ grad
        parts = [grad @ values.transpose(2, 3) for values in (self.past_values, self.values[:, :, :end])]
        scores, exact = torch.cat(parts, dim=-1).float(), weights.float()
        scores = aten._softmax_backward_data(scores, exact, -1, exact.dtype)
        if kept.capped is not None:
            scores = aten.tanh_backward(scores, kept.capped.float())
        scores = (scores * self.scaling).to(self.dtype)
        self.book.add(self.past[0], scores[..., :past], query, attended)
        self.key_grads[:, :, :end] += scores[..., past:].transpose(2, 3) @ query
        query = scores[..., :past] @ self.past_keys
        query += scores[..., past:] @ self.keys[:, :, :end]
        return query.view(len(query), -1, self.head_dim), self.key_grads[:, :, slot], self.value_grads[:, :, slot]

    def _turn_back(self, query: Tensor, key: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        both, (cos, sin) = torch.cat([query, key], dim=1), rotation
        # by half the width, so that rolling back is rolling on
        both = (both * cos + (both * sin).roll(self.head_dim // 2, -1)).to(self.dtype)
        return both[:, : query.shape[1]], both[:, query.shape[1] :]
