"""What padding costs a training step: batches as they are drawn, packed rows, steps of like length.

    python benchmarks/batching.py train.jsonl
    python benchmarks/batching.py "arithmetic:ops=add,sub,mul,div;digits=2"
    python benchmarks/batching.py gsm8k/train.jsonl --limit 400 --batch 8 --layers 1   # long rows, in characters

Every way goes through the same examples once, the ways in turn step by step. "wait" is the share of a step in which
rows are laid out; tokenising is done before training.
"""

import argparse
import random
import time

import torch
from rich.console import Console
from rich.table import Table
from timing import settings, timed

from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.training.batches import build_row, encode_examples
from latent_gemma.training.curriculum import ALL_STEPS, Stage
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.step_batches import grouped_by_length, lay_out

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STAGES = {"words": Stage(), "thoughts": Stage(latent_steps=ALL_STEPS, max_thought_steps=3, pad_thoughts=True)}
#: name -> whether steps are grouped by length, whether rows are packed
WAYS = {
    "as drawn": (False, False),
    "packed": (False, True),
    "grouped": (True, False),
    "grouped and packed": (True, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    for name, default in (("limit", 512), ("batch", 16), ("width", 64), ("layers", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    tokenizer = build_tokenizer()
    frame = Frame(tokenizer, LatentConfig())
    items = encode_examples(frame, load_examples(DataSpec(source=args.data, split="train", limit=args.limit, seed=0)))
    sizes = {"hidden_size": args.width, "num_layers": args.layers, "num_heads": max(1, args.width // 32)}
    model = build_tiny("gemma2", LatentConfig(), **sizes).to(DEVICE).train()
    table = Table("stage", "way", "padding", "samples/s", "ratio", "wait", box=None)
    for stage_name, stage in STAGES.items():
        rows = [build_row(item, stage, frame, random.Random(0)) for item in items]
        lengths = [len(row.ids) for row in rows]
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
        orders = {False: drawn, True: grouped_by_length(lengths, args.batch, 0)}
        ways = {name: way for name, way in WAYS.items() if not (stage.thinks and way[1])}
        seconds, waits, positions = (dict.fromkeys(ways, 0.0) for _ in range(3))
        for start in range(-args.batch, len(rows), args.batch):
            for name, (groups, packs) in ways.items():
                indices = orders[groups][max(0, start) :][: args.batch]
                began = time.perf_counter()
                laid = [build_row(items[index], stage, frame, random.Random(f"0-{index}")) for index in indices]
                batch = lay_out(laid, frame.pad_id, packs)
                wait = time.perf_counter() - began
                batch = {key: part.to(DEVICE) for key, part in batch.items()}
                took = timed(lambda batch=batch: latent_loss(model, batch, 0.0).total.backward())
                if start >= 0:  # the first round warms up
                    seconds[name] += wait + took
                    waits[name] += wait
                    positions[name] += batch["input_ids"].numel()
        for name in ways:
            table.add_row(
                stage_name, name, f"{1 - sum(lengths) / positions[name]:.1%}",
                f"{len(rows) / seconds[name]:.1f}", f"{seconds['as drawn'] / seconds[name]:.2f}",
                f"{waits[name] / seconds[name]:.1%}",
            )  # fmt: skip
    print(
        f"{settings()}; {args.data}, {len(items)} examples, Gemma 2 of width {args.width}, {args.layers} layers, "
        f"batch {args.batch}"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
