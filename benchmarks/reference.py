"""The latent forward against the published code of COCONUT, on the same transformer, weights, data and machine.

    git clone https://github.com/facebookresearch/coconut
    python benchmarks/reference.py coconut

Checks first that both give the same losses, gradients and greedy answers, and then times a training step (forward and
backward), the generation of answers, and a latent forward against a plain one. The two run in turn, and each ratio is
the median of the rounds. The checkout is imported as it is; what it needs under today's transformers is `TupleCaches`.

Our latent is rescaled to the embeddings, the reference's is not: the scale is set to that of the final norm's output
at its initialisation, so that both feed back the same numbers.
"""

import argparse
import importlib.util
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import ratio, settings
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM
from transformers.cache_utils import DynamicCache, DynamicLayer

from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.decode import decode
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.config import update_latent
from latent_gemma.training.batches import IGNORE
from latent_gemma.training.losses import latent_loss

LATENT = LatentConfig()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class TupleCaches(nn.Module):
    """A causal LM that takes and returns caches as pairs of key and value, as transformers did in the reference's time.

    Args:
        model: a causal LM of today's transformers. No tensor of a cache is copied.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, scaled as the decoder expects its inputs."""
        return self.model.get_input_embeddings()

    def forward(self, past_key_values: Any = None, **kwargs: Any) -> Any:
        cache = DynamicCache()
        for keys, values in past_key_values or ():
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        output = self.model(past_key_values=cache, **kwargs)
        output.past_key_values = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
        return output


def build(args: argparse.Namespace) -> tuple[Any, Any]:
    """The reference's model and ours, the weights shared."""
    spec = importlib.util.spec_from_file_location("coconut_reference", Path(args.checkout) / "coconut.py")
    if spec is None or spec.loader is None or not (Path(args.checkout) / "coconut.py").is_file():
        sys.exit(f"{args.checkout} holds no coconut.py: give a checkout of facebookresearch/coconut")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = Gemma2Config(
        vocab_size=args.vocabulary, hidden_size=args.width, intermediate_size=4 * args.width,
        num_hidden_layers=args.layers, num_attention_heads=4, num_key_value_heads=2, head_dim=args.width // 4,
        query_pre_attn_scalar=args.width // 4, attn_implementation="eager", initializer_range=args.width**-0.5,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    base = Gemma2ForCausalLM(config).to(DEVICE)
    ours = LatentReasoningGemmaForCausalLM.from_base(base, LATENT)
    update_latent(ours.config, embed_rms=1.0)
    # an end beyond the vocabulary is never generated: every answer has the same length
    theirs = module.Coconut(TupleCaches(base), LATENT.thought_id, LATENT.bot_id, LATENT.eot_id, args.vocabulary)
    assert ours.get_input_embeddings().weight.data_ptr() == base.get_input_embeddings().weight.data_ptr()
    return theirs, ours


def draw(args: argparse.Namespace, rows: int, k: int, answer: int) -> Tensor:
    """Random questions that end in `bot, thought x K, eot`, and answers, [rows, prompt + K + 1 + answer]."""
    generator = torch.Generator().manual_seed(k)
    text = torch.randint(12, args.vocabulary, (rows, args.prompt + answer), generator=generator)
    tail = torch.tensor([LATENT.bot_id, *[LATENT.thought_id] * k, LATENT.eot_id]).expand(rows, -1)
    return torch.cat([text[:, : args.prompt - 1], tail, text[:, args.prompt - 1 : args.prompt - 1 + answer]], 1).to(
        DEVICE
    )


def steps(
    theirs: Any, ours: Any, args: argparse.Namespace, k: int
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """One training step of each, its gradients left in the weights; returns the losses."""
    ids = draw(args, args.batch, k, args.answer)
    labels = ids.clone()
    labels[:, : -args.answer] = IGNORE
    mask, positions = torch.ones_like(ids), torch.arange(ids.shape[1], device=DEVICE).expand_as(ids)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, "anchors": torch.full_like(ids, IGNORE)}

    def reference() -> Tensor:
        theirs.base_causallm.zero_grad()
        loss = theirs(ids, mask, labels, positions).loss
        loss.backward()
        return loss.detach()

    def own() -> Tensor:
        ours.zero_grad()
        with ours.thinking(steps=FastSteps(ours, packed=False)):
            loss = latent_loss(ours, batch, 0.0).total
        loss.backward()
        return loss.detach()

    return reference, own


def answers(theirs: Any, ours: Any, args: argparse.Namespace, rows: int) -> tuple[Callable[[], Tensor], ...]:
    """Greedy answers [rows, tokens] to that many questions: by the reference one at a time, which is all it does."""
    ids = draw(args, rows, args.k, 0)

    @torch.no_grad()
    def reference() -> Tensor:
        found = [theirs.generate(row[None], None, max_new_tokens=args.tokens) for row in ids]
        return torch.cat(found)[:, ids.shape[1] :].cpu()

    def own() -> Tensor:
        cold = torch.zeros(rows, device=DEVICE)
        with ours.thinking(steps=FastSteps(ours, packed=False)):
            return torch.tensor(decode(ours, ids, torch.ones_like(ids), cold, (args.vocabulary,), args.tokens).tokens)

    return reference, own


def forwards(ours: Any, args: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A latent forward of 16 x 256 positions, 8 of them thoughts, and a plain one of as many."""
    sizes = argparse.Namespace(**{**vars(args), "prompt": 128})
    ids = draw(sizes, 16, 8, 256 - 128 - 8 - 1)
    plain = torch.where(ids == LATENT.thought_id, 12, ids)
    mask = torch.ones_like(ids)

    def run(given: Tensor) -> Callable[[], Any]:
        @torch.no_grad()
        def forward() -> Any:
            with ours.thinking(steps=FastSteps(ours, packed=False)):
                return ours.model(given, attention_mask=mask, project=ours.project, use_cache=False)

        return forward

    return run(ids), run(plain)


def check(theirs: Any, ours: Any, args: argparse.Namespace, k: int) -> str:
    """Raise unless losses and gradients agree; returns how closely."""
    reference, own = steps(theirs, ours, args, k)
    loss = reference()
    expected = {name: p.grad.clone() for name, p in theirs.base_causallm.model.named_parameters()}
    difference = (loss - own()).abs().item()
    found = {name: p.grad for name, p in ours.named_parameters()}
    # its gradient through a thought changes the thought's length alone, which ours does not feed back
    del expected["model.norm.weight"], found["model.norm.weight"]
    worst = max(((found[name] - grad).norm() / grad.norm()).item() for name, grad in expected.items())
    assert difference < 1e-5 * loss.item(), f"K = {k}: losses differ by {difference}"
    assert found.keys() == expected.keys(), f"K = {k}: other parameters have gradients"
    assert worst < 1e-4, f"K = {k}: gradients differ by {worst}"
    return f"K = {k}: loss {loss.item():.6f}, difference {difference:.1e}; gradients within {worst:.1e}"


def peak_mib(args: argparse.Namespace, side: str) -> float:
    """Memory of two training steps at the largest K on top of what the process held before, in MiB.

    A process of its own for each side: pages that one has touched would be at hand for the other.
    """
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(args: argparse.Namespace) -> None:
    """What the process started by `peak_mib` does."""
    theirs, ours = build(args)
    step = steps(theirs, ours, args, max(args.ks))[args.memory_of == "ours"]
    if DEVICE == "cuda":
        before = torch.cuda.memory_allocated()
        step(), step()
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    step(), step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", help="folder of facebookresearch/coconut")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a question")
    parser.add_argument("--answer", type=int, default=24, help="tokens of an answer in training")
    parser.add_argument("--ks", type=int, nargs="+", default=[2, 4, 6, 8])
    parser.add_argument("--k", type=int, default=6, help="latent steps in generation")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a generated answer")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--memory-of", choices=("reference", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print_peak(args)
        return
    theirs, ours = build(args)
    table = Table("what", "reference", "ours", "ratio", "bar", box=None)

    def row(what: str, a: float, b: float, share: float, bar: str, unit: str = "s") -> None:
        print(f"{what}: {share:.2f} ({bar})", flush=True)
        table.add_row(what, f"{a:.3g} {unit}", f"{b:.3g} {unit}", f"{share:.2f}", bar)

    for k in args.ks:
        print(check(theirs, ours, args, k), flush=True)
        bar = {2: ">= 1.8", 6: ">= 3.2"}.get(k, "")
        row(f"training step, K = {k}", *ratio(*steps(theirs, ours, args, k), args.rounds), bar)
    theirs.eval(), ours.eval()
    for count, bar in ((args.questions, ">= 20"), (1, ">= 3")):
        reference, own = answers(theirs, ours, args, count)
        same = (reference() == own()).all(1).sum().item()
        print(f"{same} of {count} greedy answers are equal", flush=True)
        assert same == count, "greedy answers differ"
        row(f"{args.tokens} tokens for {count} questions", *ratio(reference, own, args.rounds), bar)
    memory = [peak_mib(args, side) for side in ("reference", "ours")]
    row(f"peak memory, K = {max(args.ks)}", *memory, memory[0] / memory[1], ">= 1", "MiB")
    latent, plain, share = ratio(*forwards(ours, args), args.rounds)
    print(
        f"{settings()}; Gemma 2, width {args.width}, {args.layers} layers, vocabulary {args.vocabulary}; batch "
        f"{args.batch}, prompt {args.prompt}, answer {args.answer} tokens, K = {args.k} in generation, {args.rounds} "
        "rounds"
    )
    Console().print(table)
    print(
        f"latent forward, K = 8, batch 16, 256 positions: {latent:.3g} s, a plain forward of as many {plain:.3g} s; "
        f"ratio {share:.2f}, bar <= 1.3"
    )


if __name__ == "__main__":
    main()
