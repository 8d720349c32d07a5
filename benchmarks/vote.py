"""A vote of five traces in one generation call, against single passes and against five calls.

    python benchmarks/vote.py

Prints a table of ratios, each the median of interleaved rounds on one machine. The models have random weights in
Gemma 3 270M's dimensions, where decoding on a CPU is bound by reading the weights, and in a narrow one, where it is
bound by the time a step takes to launch. With 256k tokens in the vocabulary the end token is as good as never drawn, so
every pass writes as many tokens.
"""

import argparse

import torch
from rich.console import Console
from rich.table import Table
from timing import ratio, settings
from transformers import Gemma3TextConfig

from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.evaluation.voting import TEMPERATURES
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.config import as_latent_config
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.model.traces import sample_traces

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
        model = build(size)
        frame = Frame(build_tokenizer(), model.config.latent)
        questions = [f"{i:02d}" + "7" * (args.prompt - 4) for i in range(args.questions)]

        def vote(asked: list[str], temperatures: tuple[float, ...] = TEMPERATURES, m=model, f=frame) -> None:
            sample_traces(m, f, asked, temperatures, max_new_tokens=args.answer)

        def greedy(m=model, f=frame, q=questions) -> None:
            answer_batch(m, f, q[:1], "words", max_new_tokens=args.answer)

        def five_calls(q=questions, v=vote) -> None:
            for temperature in TEMPERATURES:
                v(q, (temperature,))

        one = ratio(lambda q=questions, v=vote: v(q[:1]), greedy, args.rounds)
        many = ratio(lambda q=questions, v=vote: v(q), five_calls, max(1, args.rounds // 2))
        print(f"{size}: one question {one[2]:.2f}, {args.questions} questions {many[2]:.2f}", flush=True)
        for count, what, bar, (a, b, share) in (
            (1, "one greedy pass", 1.6, one),
            (args.questions, "five calls, one a temperature", 0.6, many),
        ):
            table.add_row(size, str(count), f"{a:.2f}", what, f"{b:.2f}", f"{share:.2f}", f"<= {bar}")
    print(f"{settings()}; prompt {args.prompt}, answer {args.answer} tokens, {args.rounds} rounds")
    Console().print(table)


if __name__ == "__main__":
    main()
