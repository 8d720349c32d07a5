"""A vote of five traces in one generation call, against single passes and against five calls.

    python benchmarks/vote.py

Prints a table of ratios, each the median of interleaved rounds on one machine. The models have random weights in
Gemma 3 270M's dimensions, where decoding on a CPU is bound by reading the weights, and in a narrow one, where it is
bound by the time a step takes to launch. With 256k tokens in the vocabulary the end token is as good as never drawn, so
every pass writes as many tokens.
"""

import argparse
import functools
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from timing import ratio, settings
from transformers import Gemma3TextConfig

from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.evaluation.voting import TEMPERATURES, Voter
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.config import as_latent_config
from latent_gemma.model.prompt import Frame, pad_left
from latent_gemma.model.tiny import build_tokenizer

SIZES = {
    "Gemma 3 270M": {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18},
    "narrow": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6},
}


def build(size: str) -> LatentReasoningGemmaForCausalLM:
    """A Gemma 3 with random weights."""
    config = Gemma3TextConfig(
        vocab_size=262_144, num_attention_heads=4, num_key_value_heads=1, head_dim=256, sliding_window=512,
        attn_implementation="eager", pad_token_id=0, eos_token_id=1, bos_token_id=2, **SIZES[size],
    )  # fmt: skip
    torch.manual_seed(0)
    model = LatentReasoningGemmaForCausalLM(as_latent_config(config, LatentConfig(num_thoughts=0, words_format="tags")))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def stock_call(model: LatentReasoningGemmaForCausalLM, frame: Frame, asked: list[str], temperature: float, answer: int):
    """One call of transformers' `generate` for one temperature, as voting is done without this package."""
    ids, mask = (part.to(model.device) for part in pad_left([frame.prompt(q, "words") for q in asked], frame.pad_id))
    model.generate(
        ids, attention_mask=mask, max_new_tokens=answer, do_sample=True, temperature=temperature, top_k=0,
        eos_token_id=list(frame.end_ids), pad_token_id=frame.pad_id,
    )  # fmt: skip


def measure(size: str, table: Table, args: argparse.Namespace) -> None:
    """Add the rows of one model."""
    model, tokenizer = build(size), build_tokenizer()
    frame = Frame(tokenizer, model.config.latent)
    many = [f"{i:02d}" + "7" * (args.prompt - 4) for i in range(args.questions)]
    voter = Voter(model, tokenizer, max_new_tokens=args.answer)
    singles = [Voter(model, tokenizer, [t], max_new_tokens=args.answer, steps=voter.steps) for t in TEMPERATURES]

    def greedy() -> None:
        answer_batch(model, frame, many[:1], "words", max_new_tokens=args.answer)

    def own_calls() -> None:
        for single in singles:
            single.answer(many)

    def stock_calls() -> None:
        for temperature in TEMPERATURES:
            stock_call(model, frame, many, temperature, args.answer)

    cases: list[tuple[list[str], str, str, Callable[[], None]]] = [
        (many[:1], "one greedy pass", "<= 1.6", greedy),
        (many, "five calls, one a temperature", "<= 0.6", own_calls),
        (many, "five calls of transformers' generate", "<= 0.6", stock_calls),
    ]
    for asked, against, bar, other in cases:
        mine, theirs, share = ratio(functools.partial(voter.answer, asked), other, args.rounds)
        print(f"{size}, {len(asked)} questions against {against}: {share:.2f}", flush=True)
        table.add_row(size, str(len(asked)), f"{mine:.2f}", against, f"{theirs:.2f}", f"{share:.2f}", bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a question")
    parser.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--size", choices=SIZES, help="this model only")
    args = parser.parse_args()
    table = Table("model", "questions", "one vote, s", "against", "s", "ratio", "bar", box=None)
    for size in [args.size] if args.size else SIZES:
        measure(size, table, args)
    print(f"{settings()}; prompt {args.prompt}, answer {args.answer} tokens, {args.rounds} rounds")
    Console().print(table)


if __name__ == "__main__":
    main()
