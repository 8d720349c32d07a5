"""Tokens after a prompt: transformers' `generate`, our steps, and our steps compiled, in turn on the same model.

    python benchmarks/decoding.py

All give the same tokens, which is checked. Compiling happens once, before the rounds, and its time is told. On a GPU
"compiled" is recorded as a graph, once for each decoding, and "compiling" the first of them.
"""

import argparse
import statistics
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import settings, timed

from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.decode import decode
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def measure(model: Any, rows: int, args: argparse.Namespace) -> tuple[float, list[list[float]]]:
    """Seconds of the first compiled decoding, and of each way in each round, for a batch of that many rows."""
    ids = torch.randint(12, 260, (rows, args.prompt), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    mask, cold = torch.ones_like(ids), torch.zeros(rows, device=DEVICE)
    plain, compiled = FastSteps(model, recorded=False), FastSteps(model, compiled=True)

    def generate() -> list[list[int]]:
        found = model.generate(ids, attention_mask=mask, max_new_tokens=args.tokens, do_sample=False, eos_token_id=-1)
        return found[:, args.prompt :].tolist()

    def own(steps: FastSteps) -> list[list[int]]:
        with model.thinking(steps=steps):
            return decode(model, ids, mask, cold, (-1,), args.tokens).tokens

    assert generate() == own(plain), "our steps give other tokens than generate"
    first = timed(lambda: own(compiled))
    assert own(plain) == own(compiled), "compiled steps give other tokens"
    ways = (generate, lambda: own(plain), lambda: own(compiled))
    return first, [[timed(way) for way in ways] for _ in range(args.rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    args = parser.parse_args()
    model = build_tiny("gemma2", LatentConfig(), hidden_size=args.width, num_layers=args.layers, num_heads=4)
    model = model.to(DEVICE).eval()
    table = Table(
        "rows", "generate", "steps", "compiled", "compiling", "generate / steps", "steps / compiled", box=None
    )
    for rows in args.batches:
        compiling, times = measure(model, rows, args)
        seconds = (statistics.median(side) for side in zip(*times, strict=True))
        over = (statistics.median(row[i] / row[i + 1] for row in times) for i in (0, 1))
        table.add_row(str(rows), *(f"{t:.3g} s" for t in (*seconds, compiling)), *(f"{share:.2f}" for share in over))
    print(
        f"{settings()}; Gemma 2, width {args.width}, {args.layers} layers, prompt {args.prompt}, {args.tokens} tokens, "
        f"{args.rounds} rounds"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
