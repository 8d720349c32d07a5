"""Peak memory of a training step as K grows, for both recurrences, with and without gradient checkpointing.

    python benchmarks/memory.py

Each setting runs in a process of its own, so that no peak hides behind an earlier one; what stands before the step
(weights, libraries) is taken off. On a GPU it is the allocator's peak, on a CPU that of the process.
"""

import argparse
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import alone, batch_of, returns_memory_at_once, settings
from transformers import Gemma2Config

from latent_gemma.evaluation.peak_memory import peak_gib, reset_peak
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.config import as_latent_config
from latent_gemma.training.losses import latent_loss

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: recurrence, checkpointing, the last steps that gradients go through (None: all)
WAYS: dict[str, tuple[str, bool, int | None]] = {
    "append": ("append", False, None),
    "append, checkpointing": ("append", True, None),
    "append, gradient through 2 steps": ("append", False, 2),
    "sequence": ("sequence", False, None),
    "sequence, checkpointing": ("sequence", True, None),
}


def build(args: argparse.Namespace, way: str) -> Any:
    """A Gemma 2 with random weights, ready to train."""
    config = Gemma2Config(
        vocab_size=args.vocabulary, hidden_size=args.width, intermediate_size=4 * args.width,
        num_hidden_layers=args.layers, num_attention_heads=4, num_key_value_heads=2, head_dim=args.width // 4,
        query_pre_attn_scalar=args.width // 4, attn_implementation="eager",
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    recurrence, checkpointing, backprop_steps = WAYS[way]
    torch.manual_seed(0)
    latent = replace(LatentConfig(), recurrence=recurrence, backprop_steps=backprop_steps)
    model = LatentReasoningGemmaForCausalLM(as_latent_config(config, latent)).to(DEVICE).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    return model


def measure(args: argparse.Namespace, way: str, k: int) -> float:
    """MiB that one step takes on top of weights and gradients."""
    returns_memory_at_once(True)
    model = build(args, way)

    def step(prompt: int, k: int) -> None:
        latent_loss(model, batch_of(model, args.batch, prompt, k, args.answer), 0.0).total.backward()

    step(2, 1)  # makes the gradients, and what libraries keep
    reset_peak(DEVICE)
    before = peak_gib(DEVICE) or 0.0
    step(args.prompt, k)
    return ((peak_gib(DEVICE) or 0.0) - before) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("width", 256), ("layers", 6), ("vocabulary", 4096), ("prompt", 64), ("answer", 16),
                          ("batch", 8)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ks", type=int, nargs="+", default=[0, 1, 2, 4, 8, 16])
    args = parser.parse_args()
    table = Table("", *[f"K = {k}" for k in args.ks], title="MiB on top of weights and gradients", box=None)
    for way in WAYS:
        cells = [f"{alone(measure, args, way, k):.0f}" for k in args.ks]
        print(way, *cells, flush=True)
        table.add_row(way, *cells)
    print(
        f"{settings()}; Gemma 2 of width {args.width}, {args.layers} layers, batch {args.batch}, prompt {args.prompt}, "
        f"answer {args.answer} tokens"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
