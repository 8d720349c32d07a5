"""The one function that answers questions: by thoughts, by words or at once; greedily or by several traces each."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.generation.decode import Decoded, decode, positions_of
from latent_gemma.generation.prefix import read_prefix, shared_columns
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.halting import stop_margin
from latent_gemma.model.prompt import Frame, Mode, pad_left
from latent_gemma.model.thinking import ThoughtRecord
from latent_gemma.model.traces import Trace


@dataclass(frozen=True)
class Answers:
    """Answers to a batch of questions.

    Args:
        traces: of each question, in the order of the temperatures.
        thoughts: of each of them what was fed back, [K, D], float32 on the CPU; in recurrence "sequence" the input of
            the last pass, [T, D]. Empty where no row of the batch was to think.
        seconds: wall-clock time of the whole batch.
    """

    traces: list[list[Trace]]
    thoughts: list[list[Tensor]]
    seconds: float


def check_temperatures(temperatures: Sequence[float]) -> None:
    """Refuse an empty list of temperatures and negative ones with a `ConfigError`."""
    if not temperatures or min(temperatures) < 0.0:
        raise ConfigError(f"temperatures {list(temperatures)}", "give at least one, none below 0")


@torch.no_grad()
def answer(
    model: LatentReasoningGemmaForCausalLM,
    frame: Frame,
    questions: Sequence[str],
    mode: Mode = "latent",
    num_thoughts: NumThoughts | Sequence[int] = 0,
    p: float | None = None,
    forced: Sequence[Tensor] | None = None,
    temperatures: Sequence[float] = (0.0,),
    noise_std: float = 0.0,
    max_new_tokens: int = 256,
    seed: int | None = None,
    branches: bool = False,
    streamer: BaseStreamer | None = None,
) -> Answers:
    """Answer a batch of questions, each once or by several traces, in one generation call.

        question 0   prompt | cache x N | trace at t0, trace at t1, ..
        question 1   prompt | cache x N | trace at t0, trace at t1, ..

    Args:
        model: a latent Gemma in evaluation mode.
        frame: its frame.
        questions: the questions.
        mode: "latent" thinks `num_thoughts` steps and answers; "words" writes its steps first; "none" answers at once.
        num_thoughts: K, the same for all questions or one for each; "auto" thinks until the model's head prefers to
            stop, each row for itself (at a temperature: by a draw), or as many steps as thoughts are forced. In
            recurrence "parallel" it is chosen greedily first, see `choose_thoughts`.
        p: share of the token embedding; None as it is in force.
        forced: thoughts to use instead of the model's own, one tensor a question, as `Answers.thoughts` gives them.
        temperatures: one for each trace of a question, 0 or more; 0 decodes greedily.
        noise_std: noise on each trace's latents, in units of their RMS; its thoughts are then its own, and only the
            question is read once.
        max_new_tokens: bound on the generated tokens of a trace; thoughts do not count.
        seed: of what is drawn, the caller's random state is left as it was; None draws from that.
        branches: begin a question's i-th trace with the i-th most probable token, and say how sure the model is of it.
        streamer: is handed each token of the answer as it is chosen, as `generate` does it; of one question and one
            trace. Thoughts are none, and neither is the `eot` behind them.

    Returns:
        The traces, their thoughts and the time they took.

    Raises:
        ConfigError: for no temperature or a negative one, for negative noise, for K "auto" in recurrence "sequence", or
            for a streamer of several answers.
        DataError: if a prompt is longer than the model allows.
    """
    check_temperatures(temperatures)
    if noise_std < 0.0:
        raise ConfigError(f"noise of {noise_std:g} is negative", "give 0 or more")
    if streamer is not None and len(questions) * len(temperatures) > 1:
        raise ConfigError("a streamer of several answers", "ask one question, by one trace")
    times, latent = len(temperatures), frame.latent
    if num_thoughts == "auto" and forced is not None:
        num_thoughts = [len(thought) for thought in forced]
    started = time.perf_counter()
    if mode == "latent" and num_thoughts == "auto" and latent.recurrence != "append":
        begun = [frame.prompt(question, mode, "auto") for question in questions]
        with model.thinking() if p is None else model.thinking(p=p):
            num_thoughts = choose_thoughts(model, begun, frame.pad_id)
    counts: list[Any] = [num_thoughts] * len(questions) if isinstance(num_thoughts, int | str) else [*num_thoughts]
    grows = mode == "latent" and num_thoughts == "auto"
    prompts = [frame.prompt(question, mode, k) for question, k in zip(questions, counts, strict=True)]
    ids, mask, room = _padded(model, prompts, frame.pad_id, latent.most_thoughts + 1 if grows else 0)
    fixed = [0 if mode != "latent" or k == "auto" else k for k in counts for _ in range(times)]
    bound, most = min(max_new_tokens, room), latent.most_thoughts if grows else None
    cold = list(temperatures) * len(questions)
    ranks = torch.arange(times, device=model.device).repeat(len(questions)) if branches else None
    record = ThoughtRecord()
    settings: dict[str, Any] = {"record": record}
    if p is not None:
        settings["p"] = p
    if noise_std:
        settings["noise_std"] = noise_std
    if forced is not None:
        settings["forced"] = _stack(forced, latent.recurrence, times).to(model.device)
    with _seeded(model.device, seed), model.thinking(**settings) as force:
        columns = 0
        if times > 1 and forced is None:  # else there is nothing to share, or it is given row by row
            varied = force.noise_std > 0.0 or force.dropout > 0.0
            columns = shared_columns(latent.recurrence, ids.shape[1], max(fixed), varied)
        cache = read_prefix(model, ids, mask, columns, ids.shape[1] + bound, times)
        decoded = decode(
            model, ids.repeat_interleave(times, dim=0), mask.repeat_interleave(times, dim=0),
            torch.tensor(cold, dtype=torch.float32, device=model.device), frame.end_ids, bound, cache,
            most_thoughts=most, ranks=ranks, streamer=streamer,
        )  # fmt: skip
    if streamer is not None:
        streamer.end()
    seconds = time.perf_counter() - started
    taken = decoded.num_thoughts if grows else fixed
    traces = _traces(frame, mode, decoded, taken, cold)
    thoughts = _thoughts(record, mask, taken[::times], latent.recurrence)
    if grows and not thoughts:  # every row stopped at once
        thoughts = [torch.zeros(0, model.config.hidden_size)] * len(taken)
    if len(thoughts) == len(questions):  # read once for all traces of a question
        thoughts = [thought for thought in thoughts for _ in range(times)]
    return Answers(_grouped(traces, times), _grouped(thoughts, times), seconds)


@torch.no_grad()
def choose_thoughts(model: LatentReasoningGemmaForCausalLM, prompts: Sequence[Sequence[int]], pad_id: int) -> list[int]:
    """How many thoughts a model chooses, greedily.

    Args:
        model: a latent Gemma in evaluation mode.
        prompts: ids of each prompt, up to and with `bot`.
        pad_id: id of the padding.

    Returns:
        K of each.

    Raises:
        ConfigError: for recurrence "sequence", whose thoughts are the prompt's own positions: nothing says at them
            whether to stop.
        DataError: if a prompt is longer than the model allows.
    """
    latent = model.config.latent
    if latent.recurrence == "sequence":
        raise ConfigError('K "auto" in recurrence "sequence", whose thoughts do not say when to stop', "give a number")
    if latent.recurrence == "parallel":
        return _searched(model, prompts, pad_id)
    ids, mask, _ = _padded(model, prompts, pad_id, latent.most_thoughts + 1)
    cold = torch.zeros(len(ids), device=model.device)
    return decode(model, ids, mask, cold, (latent.eot_id,), 0, most_thoughts=latent.most_thoughts).num_thoughts


def _searched(model: LatentReasoningGemmaForCausalLM, prompts: Sequence[Sequence[int]], pad_id: int) -> list[int]:
    """K of each prompt where a thought more changes those before it: every number is tried, from 0 on."""
    latent, waiting = model.config.latent, [*range(len(prompts))]
    chosen = [latent.most_thoughts] * len(prompts)
    for k in range(latent.most_thoughts):
        ids, mask, _ = _padded(model, [[*prompts[row], *[latent.thought_id] * k] for row in waiting], pad_id, 1)
        hidden = model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions_of(mask), use_cache=False, project=model.project
        ).last_hidden_state[:, -1]
        stops = (stop_margin(model.project(hidden).float(), latent.eot_id) > 0.0).tolist()
        for row in (row for row, stop in zip(waiting, stops, strict=True) if stop):
            chosen[row] = k
        waiting = [row for row, stop in zip(waiting, stops, strict=True) if not stop]
        if not waiting:
            break
    return chosen


def _padded(
    model: LatentReasoningGemmaForCausalLM, prompts: Sequence[Sequence[int]], pad_id: int, thinking: int
) -> tuple[Tensor, Tensor, int]:
    """Prompts padded on the left, [B, T], their mask, and the columns left behind them and their own thoughts."""
    ids, mask = pad_left(prompts, pad_id)
    room = model.config.max_position_embeddings - ids.shape[1] - thinking
    if room <= 0:
        longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
        raise DataError(
            f"question {longest + 1} of this batch has {len(prompts[longest]) + thinking} tokens, and the model takes "
            f"{model.config.max_position_embeddings}",
            "shorten it, or think fewer steps",
        )
    return ids.to(model.device), mask.to(model.device), room


@contextmanager
def _seeded(device: torch.device, seed: int | None) -> Iterator[None]:
    """Draw from a seed inside a `with` block."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # noise in the thoughts is drawn on the model's device, tokens on the CPU
        yield


def _traces(
    frame: Frame, mode: Mode, decoded: Decoded, taken: Sequence[int], temperatures: Sequence[float]
) -> list[Trace]:
    written = [frame.read(row, mode) for row in decoded.tokens]
    means = [total / max(1, text.tokens) for total, text in zip(decoded.logprobs.tolist(), written, strict=True)]
    sure = [None] * len(written) if decoded.margins is None else decoded.margins.tolist()
    return [Trace(*parts) for parts in zip(written, means, temperatures, taken, sure, strict=True)]


def _thoughts(record: ThoughtRecord, mask: Tensor, counts: Sequence[int], recurrence: str) -> list[Tensor]:
    """What was fed back in each row of a batch; nothing where none was to think."""
    if recurrence == "sequence" and record.prefix is not None:
        # the prompt's own columns, without the padding before it and without `thought x K, eot` behind it
        times, ends = len(record.prefix) // len(mask), [mask.shape[1] - k - 1 for k in counts]
        spans = [(int(row.argmax()), end) for row, end in zip(mask, ends, strict=True) for _ in range(times)]
        return [row[first:end].float().cpu() for row, (first, end) in zip(record.prefix, spans, strict=True)]
    if not record.inputs:
        return []
    inputs, thinks = torch.stack(record.inputs, 1).float().cpu(), torch.stack(record.mask, 1).cpu()
    return [row[own] for row, own in zip(inputs, thinks, strict=True)]


def _stack(thoughts: Sequence[Tensor], recurrence: str, times: int) -> Tensor:
    """Thoughts of all rows, [B, K, D]: thought k of a row in column k; in "sequence" all end in the last column."""
    width = max(len(thought) for thought in thoughts)
    at_end = recurrence == "sequence"
    rooms = ((width - len(thought)) for thought in thoughts)
    padded = [
        torch.nn.functional.pad(thought, (0, 0, room, 0) if at_end else (0, 0, 0, room))
        for thought, room in zip(thoughts, rooms, strict=True)
    ]
    return torch.stack(padded).repeat_interleave(times, dim=0)


def _grouped(rows: Sequence[Any], times: int) -> list[list[Any]]:
    return [list(rows[start : start + times]) for start in range(0, len(rows), times)]
