"""A training step in the dimensions of Gemma 2 2B, and what `latent-gemma estimate` says it takes.

    python benchmarks/sizes.py             # Gemma 2 2B, bfloat16, on a GPU (under 10 minutes); scaled, on a CPU
    python benchmarks/sizes.py --logits    # logits of all positions against those of the labelled ones, 256k tokens

Random weights; a step of COCONUT as training takes it: forward, backward, clipping, AdamW. Each setting runs in a
process of its own. Memory is on top of libraries: on a GPU the allocator's peak, on a CPU that of the process.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import alone, batch_of, returns_memory_at_once, settings, timed
from transformers import Gemma2Config

from latent_gemma.evaluation.peak_memory import peak_gib, reset_peak
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.config import as_latent_config
from latent_gemma.recipes.estimate import dimensions_of
from latent_gemma.training.cost import GIB, Step, memory, step_flop
from latent_gemma.training.frozen import hold_in_bfloat16
from latent_gemma.training.lora import with_lora
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.settings import LoraSettings

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
RANK = 16
#: What is run on a CPU, in place of `GEMMA2_2B`.
SCALED = {
    "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "query_pre_attn_scalar": 64,
}  # fmt: skip
GEMMA2_2B = {name: getattr(dimensions_of("gemma-2-2b"), name) for name in SCALED}
NARROW = {**SCALED, "vocab_size": 256000, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
          "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
TINY = {**NARROW, "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 8,
        "head_dim": 32}  # fmt: skip


def gemma(dimensions: dict[str, int]) -> Gemma2Config:
    """A Gemma 2 of these dimensions."""
    return Gemma2Config(
        **dimensions, attn_implementation="eager", pad_token_id=0, eos_token_id=1, bos_token_id=2
    )  # fmt: skip


def build(dimensions: dict[str, int]) -> Any:
    """The model, with random weights, ready to train."""
    torch.manual_seed(0)
    with DEVICE:
        return LatentReasoningGemmaForCausalLM(as_latent_config(gemma(dimensions), LatentConfig())).train()


def prepared(dimensions: dict[str, int], rank: int, precision: str) -> tuple[Any, Any]:
    """The model, and what of it trains: itself, or its wrapper with adapters; as `fit` prepares them."""
    model = build(dimensions)
    trained = with_lora(model, LoraSettings(rank=rank)) if rank else model
    if precision == "bfloat16":
        hold_in_bfloat16(model)
    return model, trained


def take(step: Step, dimensions: dict[str, int], stock_logits: bool = False) -> Callable[[], None]:
    """A training step, ready to be taken again and again."""
    model, trained = prepared(dimensions, step.rank, step.precision)
    if step.checkpointing:
        model.activation_checkpointing_enable()
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    batch = batch_of(model, step.batch_size, step.prompt, step.k, step.answer)

    def loss_of() -> torch.Tensor:
        if not stock_logits:
            return latent_loss(trained, batch, 0.0).total
        return trained(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"],
            use_cache=False,
        ).loss  # fmt: skip

    def one() -> None:
        mixed = torch.autocast(DEVICE.type, torch.bfloat16, enabled=step.precision == "bfloat16")
        with mixed, model.thinking(steps=FastSteps(model, packed=False)):
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return one


def measure(step: Step, dimensions: dict[str, int], rounds: int, stock_logits: bool = False) -> dict[str, float]:
    """Peak GiB on top of libraries, and median seconds, of a step."""
    returns_memory_at_once(True)
    take(replace(step, k=1, prompt=2, answer=1), TINY)()  # what libraries keep
    reset_peak(DEVICE)
    before = 0.0 if CUDA else peak_gib(DEVICE) or 0.0
    one = take(step, dimensions, stock_logits)
    one()  # makes the moments
    reset_peak(DEVICE)
    one()
    peak = (peak_gib(DEVICE) or 0.0) - before
    returns_memory_at_once(False)
    one()
    return {"gib": peak, "seconds": statistics.median(timed(one) for _ in range(rounds))}


def best(work: Callable[[], object], count: int = 7) -> float:
    """Seconds of the fastest of some calls, behind a first one."""
    work()
    return min(timed(work) for _ in range(count))


def matrix_rate(step: Step) -> dict[str, float]:
    """FLOP/s of matrix products in the shapes of the first call's feed-forward layers."""
    d, i, layers = step.config.hidden_size, step.config.intermediate_size, step.config.num_hidden_layers
    dtype = torch.bfloat16 if step.precision == "bfloat16" else torch.float32
    # enough weights that no cache holds them
    weights = [torch.randn(i, d, device=DEVICE, dtype=dtype) for _ in range(max(layers, 2**28 // (4 * d * i)))]
    x = torch.randn(step.calls()[0][0], d, device=DEVICE, dtype=dtype)
    seconds = best(lambda: [torch.nn.functional.linear(x, weight) for weight in weights])
    return {"matmul": 2.0 * len(x) * sum(weight.numel() for weight in weights) / seconds}


def sizes_table(args: argparse.Namespace) -> None:
    """Memory measured and predicted, and the share of the matrix rate that each setting reaches."""
    dimensions = GEMMA2_2B if CUDA else SCALED
    shape = {"prompt": args.prompt, "answer": args.answer, "batch_size": args.batch, "precision": args.precision}
    steps = [
        Step(config=gemma(dimensions), rank=rank, k=k, checkpointing=checkpointing, **shape)
        for checkpointing in (False, True)
        for rank in (RANK, 0)
        for k in ((8,) if checkpointing else (0, 4, 8))
    ]
    rate = alone(matrix_rate, steps[0])["matmul"]
    table = Table("", "samples/s", "of matrix rate", "ms a layer and thought", "GiB", "predicted", "error", box=None)
    without: dict[tuple[int, bool], float] = {}  # seconds of a step without thoughts
    for step in steps:
        name = f"{'LoRA' if step.rank else 'full'}, K = {step.k}{', checkpointing' if step.checkpointing else ''}"
        try:
            got = alone(measure, step, dimensions, args.rounds)
        except (RuntimeError, MemoryError) as error:
            table.add_row(name, str(error).split(". ")[0][:60])
            continue
        kind, thoughts = (step.rank, step.checkpointing), step.k * step.config.num_hidden_layers
        if not step.k:
            without[kind] = got["seconds"]
        started = f"{(got['seconds'] - without[kind]) / thoughts * 1e3:.1f}" if step.k and kind in without else ""
        peak, said = got["gib"], memory(step)._replace(at_end=0.0).peak / GIB  # a step alone
        table.add_row(
            name, f"{step.batch_size / got['seconds']:.2f}", f"{step_flop(step) / got['seconds'] / rate:.0%}", started,
            f"{peak:.2f}", f"{said:.2f}", f"{said / peak - 1:+.0%}",
        )  # fmt: skip
        print(name, got, flush=True)
    print(
        f"{settings(args.precision)}; {torch.get_num_threads()} threads; "
        f"{'Gemma 2 2B' if CUDA else 'scaled Gemma 2'}: {dimensions}; batch {args.batch}, prompt {args.prompt}, "
        f"answer {args.answer} tokens, LoRA of rank {RANK}; matrix products reach {rate / 1e12:.3g} TFLOP/s"
    )
    Console(width=120).print(table)


def logits_table(args: argparse.Namespace) -> None:
    """Logits where the loss reads them against logits of every position."""
    step = Step(gemma(NARROW), 0, 4, args.prompt, args.answer, args.batch, args.precision, False)
    table = Table("logits of", "s/step", "GiB", box=None)
    found = [alone(measure, step, NARROW, args.rounds, stock) for stock in (False, True)]
    for name, got in zip(("labelled positions (ours)", "all positions (stock)"), found, strict=True):
        table.add_row(name, f"{got['seconds']:.2f}", f"{got['gib']:.2f}")
    print(
        f"{settings(args.precision)}; {torch.get_num_threads()} threads; Gemma 2: {NARROW}; full, "
        f"K = 4, batch {args.batch}, prompt {args.prompt}, answer {args.answer} tokens"
    )
    Console(width=120).print(table)
    time, memory = (found[1][key] / found[0][key] for key in ("seconds", "gib"))
    print(f"all positions: {time:.2f} x the time, {memory:.2f} x the memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompt", type=int, default=256 if CUDA else 64, help="tokens before the thoughts")
    parser.add_argument("--answer", type=int, default=32 if CUDA else 8, help="tokens after them")
    parser.add_argument("--batch", type=int, default=8 if CUDA else 4, help="examples in a step")
    parser.add_argument("--rounds", type=int, default=5, help="steps that are timed")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16" if CUDA else "float32")
    parser.add_argument("--logits", action="store_true", help="compare logits of all positions with ours")
    args = parser.parse_args()
    (logits_table if args.logits else sizes_table)(args)


if __name__ == "__main__":
    main()
