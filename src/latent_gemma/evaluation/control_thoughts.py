"""What each control puts into the thought positions, made of the model's own thoughts."""

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latent_gemma.evaluation.results import DOSE, KEEP, STOP, strength


def find_donors(lengths: Sequence[int]) -> list[int]:
    """Whose thoughts each question is given when they are swapped.

    Args:
        lengths: thoughts of each question.

    Returns:
        For each the next question, behind the last the first, that has as many thoughts; where no other has, the next
        that has any, and where none has, the next.
    """
    count = len(lengths)
    alike: dict[int, list[int]] = {}
    donors = [(index + 1) % count for index in range(count)]
    thinking = [index for index, length in enumerate(lengths) if length]
    for index, length in enumerate(lengths):
        alike.setdefault(length, []).append(index)
    for index, length in enumerate(lengths):
        for group in (alike[length], thinking):
            if [index] != group and group:
                donors[index] = group[bisect_right(group, index) % len(group)]
                break
    return donors


def deranged(count: int, rng: random.Random) -> list[int]:
    """A random order of 0 .. count - 1 that leaves none in its place, all such orders equally likely; [0] of one."""
    order = list(range(count))
    while count > 1 and any(place == index for place, index in enumerate(order)):
        rng.shuffle(order)
    return order


class ControlThoughts:
    """The thoughts of every control.

    Args:
        own: the model's own, one tensor [K, D] a question.
        pause: the embedding of the thought token, [1, D].
        seed: of noise and order.
        aligned: thought k of one question stands where thought k of another does; False in recurrence "sequence", where
            the thoughts are the positions of the prompt, [T, D], and are laid over each other from the end.
    """

    def __init__(self, own: Sequence[Tensor], pause: Tensor, seed: int, aligned: bool = True) -> None:
        self.own, self.pause, self.seed, self.aligned = list(own), pause, seed, aligned
        self.donors = find_donors([len(one) if aligned else 0 for one in own])

    def of(self, control: str) -> list[Tensor]:
        """What a control puts into the thought positions.

        Args:
            control: "zero": zeros. "noise": Gaussian noise of the same norm, position by position. "swap": the thoughts
                of another question, see `find_donors`; where it has others than as many, its first ones, or all again
                from the start. "permute": the same in another order. "pause": the plain embedding of the thought
                token. "noise_X": with noise added, of X times the RMS of each thought. "keep_M": the first M kept, the
                others swapped. "stop_M": no more than the first M.

        Returns:
            One tensor a question.
        """
        made: dict[str, Callable[[], list[Tensor]]] = {
            "zero": lambda: [torch.zeros_like(one) for one in self.own],
            "noise": self._noise,
            "swap": self._swapped,
            "permute": self._permuted,
            "pause": lambda: [self.pause.expand(len(one), -1) for one in self.own],
        }
        if control in made:
            return made[control]()
        if (dose := strength(control, DOSE)) is not None:
            noise = zip(self.own, self._noise(free=True), strict=True)
            return [one + dose * one.pow(2).mean(-1, keepdim=True).sqrt() * drawn for one, drawn in noise]
        if (kept := strength(control, KEEP)) is not None:
            swapped = zip(self.own, self._swapped(), strict=True)
            return [torch.cat([one[: int(kept)], other[int(kept) :]]) for one, other in swapped]
        most = strength(control, STOP)
        if most is None:
            raise ValueError(f"there is no control {control!r}")
        return [one[: int(most)] for one in self.own]

    def _noise(self, free: bool = False) -> list[Tensor]:
        """Standard normal noise in the shape of the thoughts, of their norm unless it is `free`."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = [torch.randn(one.shape, generator=generator) for one in self.own]
        if free:
            return drawn
        norms = (one.norm(dim=-1, keepdim=True) for one in self.own)
        return [noise / noise.norm(dim=-1, keepdim=True) * norm for noise, norm in zip(drawn, norms, strict=True)]

    def _swapped(self) -> list[Tensor]:
        given = [self.own[donor] for donor in self.donors]
        if not self.aligned:
            return given
        return [
            other[torch.arange(len(one)) % len(other)] if len(other) else torch.zeros_like(one)
            for one, other in zip(self.own, given, strict=True)
        ]

    def _permuted(self) -> list[Tensor]:
        rng = random.Random(self.seed)
        return [one[torch.tensor(deranged(len(one), rng), dtype=torch.long)] for one in self.own]
