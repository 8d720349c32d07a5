"""Backpropagation through K latent steps, three ways, in turn on the same model and batch.

    python benchmarks/backward.py

stock: every latent step through transformers' layers. ours: as training takes it, backward by hand
(`model/unrolled.py`). parallel: roll out without gradients (by our steps), then all thoughts as one call with their
inputs given; the gradient through their chain comes from K - 1 vector-Jacobian products, after which it is exact. All
three give the same loss and gradients, which is checked in float32. Forward and backward, no optimiser. On a GPU:
--widths 2b --precision bfloat16 --prompt 256 --answer 32.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from sizes import DEVICE, GEMMA2_2B, RANK, SCALED, TINY, prepared
from timing import batch_of, settings, timed

from latent_gemma.fast.steps import FastSteps
from latent_gemma.fast.unrolled import Unrolled
from latent_gemma.model.cache import SegmentCache
from latent_gemma.model.feedback import latent_from_hidden
from latent_gemma.model.stock import cache_field
from latent_gemma.training.batches import IGNORE
from latent_gemma.training.losses import latent_loss

WIDTHS = {"small": TINY, "scaled": SCALED, "2b": GEMMA2_2B}


def in_parallel(model: Any, batch: dict[str, torch.Tensor], k: int) -> torch.Tensor:
    """Loss of a batch without padding (recurrence "append", p = 0); its gradients are added to the parameters'."""
    decoder, ids = model.model, batch["input_ids"]
    rms, first = decoder.config.latent.embed_rms, int((ids[0] == decoder.config.latent.thought_id).nonzero()[0])

    def call(embeds: torch.Tensor, start: int, cache: SegmentCache) -> torch.Tensor:
        positions = torch.arange(start, start + embeds.shape[1], device=ids.device)[None]
        hidden: torch.Tensor = decoder.decoder_call(
            inputs_embeds=embeds, position_ids=positions, use_cache=False, **cache_field(cache)
        ).last_hidden_state
        return hidden

    def fed(hidden: torch.Tensor) -> torch.Tensor:
        return latent_from_hidden(hidden, decoder.bridge, rms).to(hidden.dtype)

    cache = SegmentCache.empty(decoder.config)
    before = call(decoder.embed_tokens(ids[:, :first]), 0, cache)[:, -1:]
    cache = cache.following()
    with torch.no_grad():
        thoughts, steps = [fed(before)], Unrolled(decoder, [pieces[0] for pieces in cache.past], k, replays=False)
        for step in range(k - 1):
            position = torch.full((1, 1), first + step, device=ids.device)
            thoughts.append(fed(steps(thoughts[-1], position, None, None)))
    inputs = torch.cat(thoughts, dim=1).requires_grad_()
    hidden = call(inputs, first, cache)
    answer = call(decoder.embed_tokens(ids[:, first + k :]), first + k, cache.following())
    labels = batch["labels"][:, first + k + 1 :]
    wanted = labels != IGNORE
    loss = torch.nn.functional.cross_entropy(model.project(answer[:, :-1][wanted]).float(), labels[wanted])
    sources = torch.cat([before, hidden[:, :-1]], dim=1)
    chained = fed(sources)
    (direct,) = torch.autograd.grad(loss, inputs, retain_graph=True)
    total = direct
    for _ in range(k - 1):
        (through,) = torch.autograd.grad(chained, inputs, total, retain_graph=True, allow_unused=True)
        total = direct + through
    torch.autograd.backward([loss, chained], [torch.ones_like(loss), total])
    return loss.detach()


def ways(dimensions: dict[str, int], rank: int, args: argparse.Namespace) -> dict[str, Callable[[], torch.Tensor]]:
    """The three ways, each forward and backward from gradients of zero."""
    model, trained = prepared(dimensions, rank, args.precision)
    batch = batch_of(model, args.batch, args.prompt, args.k, args.answer)

    def usual(steps: FastSteps | None) -> torch.Tensor:
        with model.thinking(steps=steps):
            loss = latent_loss(trained, batch, 0.0).total
        loss.backward()
        return loss.detach()

    def fresh(way: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            trained.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=args.precision == "bfloat16"):
                return way()

        return run

    found = {
        "stock": fresh(lambda: usual(None)),
        "ours": fresh(lambda: usual(FastSteps(model, packed=False))),
        "parallel": fresh(lambda: in_parallel(model, batch, args.k)),
    }
    if args.precision == "float32":
        check(trained, found)
    return found


def check(trained: Any, found: dict[str, Callable[[], torch.Tensor]]) -> None:
    """That all ways give the same loss and gradients."""
    expected: list[Any] = []
    for name, way in found.items():
        loss = way()
        gradients = [loss, *(part.grad for part in trained.parameters() if part.grad is not None)]
        expected = expected or [part.clone() for part in gradients]
        scale = max(part.abs().max() for part in expected)
        off = max(float((a - b).abs().max() / scale) for a, b in zip(gradients, expected, strict=True))
        assert off < 1e-4, f"{name} differs by {off}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--widths", nargs="+", choices=sorted(WIDTHS), default=["small", "scaled"])
    parser.add_argument("--k", type=int, default=8, help="latent steps")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--answer", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    table = Table("width", "trains", "stock", "ours", "parallel", "stock / ours", "parallel / ours", box=None)
    for width in args.widths:
        for rank, name in ((RANK, "LoRA"), (0, "all")):
            found = ways(WIDTHS[width], rank, args)
            rounds = [[timed(way) for way in found.values()] for _ in range(args.rounds + 1)][1:]
            stock, ours, parallel = (statistics.median(side) for side in zip(*rounds, strict=True))
            table.add_row(
                width, name, *(f"{seconds * 1e3:.0f} ms" for seconds in (stock, ours, parallel)),
                f"{statistics.median(row[0] / row[1] for row in rounds):.2f}",
                f"{statistics.median(row[2] / row[1] for row in rounds):.2f}",
            )  # fmt: skip
    print(
        f"{settings()}; {torch.get_num_threads()} threads; K = {args.k}, batch {args.batch}, prompt {args.prompt}, "
        f"answer {args.answer}, computed in {args.precision}, {args.rounds} rounds"
    )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
