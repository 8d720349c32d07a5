"""Backpropagation through K latent steps, several ways, in turn on the same model and batch.

    python benchmarks/backward.py

stock: every latent step through transformers' layers. ours: as training takes it, backward by hand
(`fast/unrolled.py`). parallel: roll out without gradients (by our steps), then all thoughts as one call with their
inputs given; the gradient through their chain comes from K - 1 vector-Jacobian products, after which it is exact.
graphed, on a GPU under LoRA: the stock layers of each position as one recorded graph, for one shape alone.
All give the same loss and gradients, which is checked in float32. Forward and backward, no optimiser. On a GPU:
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


class Position(torch.nn.Module):
    """One position through the stock layers: inputs [B, 1, D], keys and values of every layer -> states, new ones."""

    def __init__(self, decoder: Any, position: int) -> None:
        super().__init__()
        self.layers, self.norm = decoder.layers, decoder.norm
        weight = decoder.embed_tokens.weight
        self.turns = decoder.rotary_emb(weight[:1, None], torch.tensor([[position]], device=weight.device))

    def forward(self, x: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = SegmentCache([[pair] for pair in zip(past[::2], past[1::2], strict=True)])
        for layer in self.layers:
            x = layer(x, position_embeddings=self.turns, attention_mask=None, **cache_field(cache))
        return self.norm(x), *(part for pair in cache.new if pair is not None for part in pair)


def graphed(model: Any, batch: dict[str, torch.Tensor], k: int, precision: str) -> Callable[[], torch.Tensor]:
    """Loss of a batch without padding (recurrence "append", p = 0), each of its thoughts a recorded graph."""
    decoder, ids = model.model, batch["input_ids"]
    first = int((ids[0] == decoder.config.latent.thought_id).nonzero()[0])
    positions: Any = tuple(Position(decoder, first + step) for step in range(k))
    config, rows = decoder.config, len(ids)
    heads, width = config.num_key_value_heads, config.head_dim
    like = {"device": ids.device, "dtype": getattr(torch, precision), "requires_grad": True}
    samples = tuple(
        (
            torch.randn(rows, 1, config.hidden_size, **like),
            *(torch.randn(rows, heads, first + step, width, **like) for _ in range(2 * len(decoder.layers))),
        )
        for step in range(k)
    )
    if DEVICE.type == "cuda":
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            positions = torch.cuda.make_graphed_callables(positions, samples, allow_unused_input=True)

    def run() -> torch.Tensor:
        cache, rms = SegmentCache.empty(config), config.latent.embed_rms

        def call(tokens: torch.Tensor, start: int) -> torch.Tensor:
            at = torch.arange(start, start + tokens.shape[1], device=ids.device)[None]
            return decoder.decoder_call(
                inputs_embeds=decoder.embed_tokens(tokens), position_ids=at, use_cache=False, **cache_field(cache)
            ).last_hidden_state

        hidden = call(ids[:, :first], 0)[:, -1:]
        cache = cache.following()
        past = [part for pair in cache.joined() for part in pair]
        for position in positions:
            x = latent_from_hidden(hidden, decoder.bridge, rms).to(samples[0][0].dtype)
            hidden, *new = position(x, *past)
            past = [torch.cat(pair, 2) for pair in zip(past, new, strict=True)]
        cache.past = [[pair] for pair in zip(past[::2], past[1::2], strict=True)]
        answer = call(ids[:, first + k :], first + k)
        labels = batch["labels"][:, first + k + 1 :]
        wanted = labels != IGNORE
        loss = torch.nn.functional.cross_entropy(model.project(answer[:, :-1][wanted]).float(), labels[wanted])
        loss.backward()
        return loss.detach()

    return run


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
    if rank and DEVICE.type == "cuda":  # a graph keeps gradients of its own for all that trains
        found["graphed"] = fresh(graphed(model, batch, args.k, args.precision))
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
    table = Table(
        "width", "trains", "stock", "ours", "parallel", "graphed", "stock / ours", "parallel / ours", "graphed / ours",
        box=None,
    )  # fmt: skip
    for width in args.widths:
        for rank, name in ((RANK, "LoRA"), (0, "all")):
            found = ways(WIDTHS[width], rank, args)
            rounds = [[timed(way) for way in found.values()] for _ in range(args.rounds + 1)][1:]
            medians = [statistics.median(side) for side in zip(*rounds, strict=True)]
            shares = [statistics.median(row[i] / row[1] for row in rounds) for i in range(len(found)) if i != 1]
            missing = [""] * (4 - len(found))
            table.add_row(
                width, name, *(f"{seconds * 1e3:.0f} ms" for seconds in medians), *missing,
                *(f"{share:.2f}" for share in shares), *missing,
            )  # fmt: skip
    print(
        f"{settings(args.precision)}; {torch.get_num_threads()} threads; K = {args.k}, batch {args.batch}, prompt "
        f"{args.prompt}, answer {args.answer}, {args.rounds} rounds"
    )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
