"""One backward pass of a latent model under FSDP2, each process with its own batch; run as a script by torchrun.

    torchrun --nproc-per-node 2 sharded.py OUT

Process 0 thinks three steps, process 1 one: all have to call every layer equally often, or they wait for each other
for ever. The gathered gradients are written to `OUT/RECURRENCE.safetensors`.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed
from torch.distributed.fsdp import fully_shard

from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny
from latent_gemma.training.batches import IGNORE
from latent_gemma.training.losses import latent_loss

RECURRENCES = ("append", "sequence", "parallel")
#: Latent steps of each process's rows.
STEPS = ((3, 2), (1, 1))


def build(recurrence: str):
    latent = LatentConfig(recurrence=recurrence, bridge="linear", adapter="lora")
    return build_tiny("gemma2", latent, hidden_size=32, num_layers=2, num_heads=2).double()


def batch_of(steps: tuple[int, ...], latent: LatentConfig) -> dict[str, Tensor]:
    """Rows of a question of five tokens, that many thoughts and an answer of three, thoughts in line."""
    width = 5 + 2 + max(steps) + 3
    ids = torch.zeros(len(steps), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE)
    for row, count in enumerate(steps):
        generator = torch.Generator().manual_seed(count)
        question, answer = torch.randint(20, 200, (8,), generator=generator).split([5, 3])
        tail = torch.tensor([latent.bot_id, *[latent.thought_id] * count, latent.eot_id])
        whole = torch.cat([question, tail, answer])
        ids[row, : len(whole)], mask[row, : len(whole)] = whole, 1
        labels[row, len(whole) - 3 : len(whole)] = answer
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "anchors": torch.full_like(ids, IGNORE)}


def main() -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    for recurrence in RECURRENCES:
        model = build(recurrence)
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
        count = torch.tensor(3 * sum(map(len, STEPS)))
        with model.thinking(passes=max(map(max, STEPS))):
            loss = latent_loss(model, batch_of(STEPS[rank], model.config.latent), 0.0, (count, count))
        (loss.total * len(STEPS)).backward()
        gradients = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
        if rank == 0:
            save_file({name: grad.contiguous() for name, grad in gradients.items()},
                      Path(sys.argv[1]) / f"{recurrence}.safetensors")  # fmt: skip
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
