"""Several ways to answer one question, explored in one batch; the most confident one wins."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from latent_gemma.errors import ConfigError, DataError
from latent_gemma.generation.prefix import read_prefix, shared_columns
from latent_gemma.model.prompt import Frame, Mode, own_mode
from latent_gemma.model.stock import cache_field


@dataclass(frozen=True)
class AnswerPath:
    """One explored answer.

    Args:
        answer: its text.
        confidence: mean margin between the two most probable tokens over the answer's tokens, 0 to 1.
    """

    answer: str
    confidence: float


class _BranchFirst(LogitsProcessor):
    """Make row i of the batch begin with the i-th most probable first token of its own distribution."""

    def __init__(self, prompt_length: int) -> None:
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] != self.prompt_length:
            return scores
        ranked = scores.topk(len(scores), dim=-1).indices
        chosen = ranked.diagonal()[:, None]
        return torch.full_like(scores, float("-inf")).scatter(1, chosen, 0.0)


@torch.no_grad()
def explore_paths(
    model: Any,
    tokenizer: Any,
    question: str,
    k: int,
    max_length: int,
    num_thoughts: int | None = None,
    mode: Mode | None = None,
    noise_std: float = 0.0,
    dropout: float = 0.0,
    temperature: float = 0.0,
) -> list[AnswerPath]:
    """Answer a question k times, each time beginning with another first token.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        question: the question as a person would ask it.
        k: number of paths.
        max_length: length of prompt and answer together, tokens.
        num_thoughts: K; None takes the configured one.
        mode: None takes what the model was trained for; in "words" a path begins with its reasoning, and its confidence
            is that of reasoning and answer.
        noise_std: Gaussian noise on each path's latents, in units of their RMS.
        dropout: share of each path's latent components set to zero.
        temperature: 0 decodes each path greedily after its first token, more samples.

    Returns:
        The paths, the most confident first.

    Raises:
        ConfigError: for k outside 1 .. vocabulary size.
        DataError: if the question is longer than the model allows.

    Source: Wang and Zhou 2024 (chain-of-thought decoding, arXiv 2402.10200), section 2.2, equation 1.
    """
    if not 1 <= k <= model.config.vocab_size:
        raise ConfigError(f"k is {k}", f"explore between 1 and {model.config.vocab_size} first tokens")
    frame = Frame(tokenizer, model.config.latent)
    mode = mode or own_mode(model.config.latent)
    thoughts = model.config.latent.num_thoughts if num_thoughts is None else num_thoughts
    thoughts = thoughts if mode == "latent" else 0
    prompt = frame.prompt(question, mode, thoughts)
    limit = model.config.max_position_embeddings
    if len(prompt) >= limit:
        raise DataError(f"the question has {len(prompt)} tokens, and the model takes {limit}", "shorten it")
    length = min(limit, max(max_length, len(prompt) + 1))
    once = torch.tensor([prompt], device=model.device)
    input_ids = once.expand(k, -1)
    varied = noise_std > 0.0 or dropout > 0.0
    columns = shared_columns(model.config.latent.recurrence, len(prompt), thoughts, varied)
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0.0 else {"do_sample": False}
    with model.thinking(noise_std=noise_std, dropout=dropout):
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_length=length,
            logits_processor=LogitsProcessorList([_BranchFirst(len(prompt))]),
            eos_token_id=list(frame.end_ids),
            pad_token_id=frame.pad_id,
            return_dict_in_generate=True,
            output_logits=True,
            **cache_field(read_prefix(model, once, torch.ones_like(once), columns, length, k)),
            **sampling,
        )
    answers = output.sequences[:, len(prompt) :]
    best = torch.stack(output.logits, dim=1).float().softmax(-1).topk(2, dim=-1).values
    ends = torch.isin(answers, torch.tensor(frame.end_ids, device=answers.device)).cumsum(-1)
    # The answer span: up to the end token, which itself says nothing about the answer unless it is all there is.
    span = (ends == 0).to(best.dtype)
    span[:, 0] = 1.0
    confidence = ((best[..., 0] - best[..., 1]) * span).sum(-1) / span.sum(-1)
    paths = [
        AnswerPath(
            frame.read(row[end == 0].tolist(), mode).answer,
            value,
        )
        for row, end, value in zip(answers, ends, confidence.tolist(), strict=True)
    ]
    return sorted(paths, key=lambda path: -path.confidence)
