"""Parts of a decoder layer for one position a row, each with its vector-Jacobian product written out.

Autograd would record every operation of a position, and give every weight a gradient of its size for every position. By
hand a part takes half the operations, and what a weight's gradient is a product of is put aside in a `Book`: K latent
steps then make one product of K times as many rows.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from latent_gemma.fast.anatomy import Norm, Normed
from latent_gemma.model.adapters import ThoughtLinear

Rule = Callable[[list[Tensor], list[Tensor]], Tensor]


def outer(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Gradient [out, in] of a weight from rows [B, out] and [B, in]."""
    return torch.cat(left).t() @ torch.cat(right)


def inner(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Gradient [D] of a norm's weight from rows [..., D] twice."""
    width = left[0].shape[-1]
    return (torch.cat(left) * torch.cat(right)).view(-1, width).sum(0)


def attended(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Gradient [B, heads, T, head_dim] of keys from that of scores [B, heads, N, T] and queries [B, heads, N, ...].

    That of values from weights and the gradient of what they add up to is the same product.
    """
    return torch.cat(left, dim=2).transpose(2, 3) @ torch.cat(right, dim=2)


class Book:
    """What the gradients of some tensors are products of, until backward has come past every position.

    Args:
        tensors: weights, keys and values; those that need no gradient are left out.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = [tensor for tensor in tensors if tensor.requires_grad]
        self._places = {id(tensor): place for place, tensor in enumerate(self.tensors)}
        self._rules: list[tuple[Rule, float]] = [(outer, 1.0)] * len(self.tensors)
        self._left: list[list[Tensor]] = [[] for _ in self.tensors]
        self._right: list[list[Tensor]] = [[] for _ in self.tensors]

    def clear(self) -> None:
        """Forget everything: another backward begins."""
        for part in (*self._left, *self._right):
            part.clear()

    def add(self, tensor: Tensor, left: Tensor, right: Tensor, rule: Rule = outer, factor: float = 1.0) -> None:
        """Note two factors of a tensor's gradient, where it needs one."""
        place = self._places.get(id(tensor))
        if place is not None:
            self._left[place].append(left)
            self._right[place].append(right)
            self._rules[place] = rule, factor

    def gradients(self) -> list[Tensor | None]:
        """The gradient of each tensor, in order; None where nothing was noted. What it is made of is forgotten."""
        found: list[Tensor | None] = []
        for place, (tensor, (rule, factor)) in enumerate(zip(self.tensors, self._rules, strict=True)):
            left, right = self._left[place], self._right[place]
            gradient = rule(left, right).to(tensor.dtype) if left else None
            found.append(gradient if gradient is None or factor == 1.0 else gradient.mul_(factor))
        self.clear()
        return found


def norm_vjp(norm: Norm, grad: Tensor, kept: Normed, book: Book) -> Tensor:
    """Gradient of a norm's input [..., D], float32, from that of its result."""
    grad, unit = grad.float(), kept.unit
    book.add(norm.weight, grad, unit, inner, norm.root)
    grad = grad * norm.scale
    return torch.addcmul(grad, unit, (unit * grad).sum(-1, keepdim=True), value=-1.0).div_(kept.size)


class Term:
    """What is added to a projection: B A x or D x, on all positions or on thoughts alone.

    Args:
        a: A [r, in], or D [out, in].
        b: B [out, r], or None.
        scale: of B A x.
        thinks: whether it acts on thoughts alone.
        dtype: of the computation.
    """

    def __init__(self, a: Tensor, b: Tensor | None, scale: float, thinks: bool, dtype: torch.dtype) -> None:
        self.a, self.b, self.scale, self.thinks = a, b, scale, thinks
        self.first = a.detach().to(dtype)
        self.second = None if b is None else (b.detach() * scale).to(dtype)

    def add(self, out: Tensor, x: Tensor, thinks: Tensor | None) -> tuple[Tensor, Tensor]:
        """`out` [B, out] with the term for `x` [B, in], and what is kept: A x, or x; both 0 where nobody thinks."""
        inner = x if self.second is None else x @ self.first.t()
        if self.thinks and thinks is not None:
            inner = inner * thinks
        return torch.addmm(out, inner, (self.first if self.second is None else self.second).t()), inner

    def vjp(self, into: Tensor, grad: Tensor, x: Tensor, thinks: Tensor | None, inner: Tensor, book: Book) -> Tensor:
        """`into` [B, in] with the term's gradient of `x`."""
        right = inner
        if self.b is not None and self.second is not None:
            book.add(self.b, grad, inner, factor=self.scale)
            grad, right = grad @ self.second, x
        if self.thinks and thinks is not None:
            grad = grad * thinks
        book.add(self.a, grad, right)
        return torch.addmm(into, grad, self.first)


def _is_lora(module: Any) -> bool:
    """Whether a module is PEFT's Linear with LoRA."""
    # importing PEFT takes seconds; where nobody has, no module is of its making
    peft = sys.modules.get("peft.tuners.lora.layer")
    return peft is not None and type(module) is peft.Linear


class Projection:
    """A Linear without bias, with its adapters.

    Args:
        module: see `fits`.
        dtype: of the computation.
    """

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        lora: Any = None
        if _is_lora(module):
            lora, module = module, module.base_layer
        self.base: Tensor = module.weight
        self.weight = self.base.detach().to(dtype)
        self.terms: list[Term] = []
        if isinstance(module, ThoughtLinear):
            a: Any = module.thought_delta if module.thought_a is None else module.thought_a
            b: Any = None if module.thought_a is None else module.thought_b
            self.terms.append(Term(a, b, module.scale, True, dtype))
        if lora is not None and not lora.disable_adapters:
            self.terms += [
                Term(lora.lora_A[name].weight, lora.lora_B[name].weight, lora.scaling[name], False, dtype)
                for name in lora.active_adapters
                if name in lora.lora_A
            ]

    @staticmethod
    def fits(module: Any) -> bool:
        """Whether a module is a plain Linear, with a thought adapter or LoRA in their plain forms or without."""
        if _is_lora(module):
            if module.merged or module.lora_variant or any(module.lora_bias.values()):
                return False
            if any(type(dropout) is not nn.Identity for dropout in module.lora_dropout.values()):
                return False
            module = module.base_layer
        return type(module) in (nn.Linear, ThoughtLinear) and module.bias is None

    def parameters(self) -> list[Tensor]:
        """The weight and those of the adapters."""
        return [self.base, *(part for term in self.terms for part in (term.a, term.b) if part is not None)]

    def __call__(self, x: Tensor, thinks: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Project one position of each row.

        Args:
            x: [B, in].
            thinks: 1 for rows that think, else 0, [B, 1]; None where none has adapters for it.

        Returns:
            [B, out], and what backward needs.
        """
        out, used = x @ self.weight.t(), [x]
        for term in self._acting(thinks):
            out, inner = term.add(out, x, thinks)
            used.append(inner)
        return out, used

    def vjp(self, into: Tensor | None, grad: Tensor, used: list[Tensor], thinks: Tensor | None, book: Book) -> Tensor:
        """`into` [B, in] (None: zero) with the gradient of the input from that of the result, [B, out]."""
        x, *inners = used
        book.add(self.base, grad, x)
        into = grad @ self.weight if into is None else torch.addmm(into, grad, self.weight)
        for term, inner in zip(self._acting(thinks), inners, strict=True):
            into = term.vjp(into, grad, x, thinks, inner, book)
        return into

    def _acting(self, thinks: Tensor | None) -> list[Term]:
        return self.terms if thinks is not None else [term for term in self.terms if not term.thinks]
