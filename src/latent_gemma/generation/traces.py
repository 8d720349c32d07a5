"""Several sampled answers to each question of a batch, in one generation call, its prompts read once."""

from collections.abc import Sequence
from typing import Any

import torch

from latent_gemma.errors import ConfigError, DataError
from latent_gemma.generation.decode import decode
from latent_gemma.generation.prefix import read_prefix, shared_columns
from latent_gemma.model.prompt import Frame, Mode, pad_left
from latent_gemma.model.traces import Trace


def check_temperatures(temperatures: Sequence[float]) -> None:
    """Refuse an empty list of temperatures and negative ones with a `ConfigError`."""
    if not temperatures or min(temperatures) < 0.0:
        raise ConfigError(f"temperatures {list(temperatures)}", "give at least one, none below 0")


@torch.no_grad()
def sample_traces(
    model: Any,
    frame: Frame,
    questions: Sequence[str],
    temperatures: Sequence[float],
    mode: Mode = "words",
    num_thoughts: int = 0,
    noise_std: float = 0.0,
    max_new_tokens: int = 256,
    seed: int = 0,
) -> list[list[Trace]]:
    """Sample N answers to each question in one generation call.

        question 0   prompt | cache x N | trace at t0, trace at t1, ..
        question 1   prompt | cache x N | trace at t0, trace at t1, ..

    Args:
        model: a latent Gemma in evaluation mode.
        frame: its frame.
        questions: the questions.
        temperatures: one for each trace of a question, 0 or more; 0 decodes greedily.
        mode: "words", or "latent" to think `num_thoughts` steps first.
        num_thoughts: K.
        noise_std: noise on each trace's latents, in units of their RMS; its thoughts are then its own, and only the
            question is read once.
        max_new_tokens: bound on generated tokens of a trace.
        seed: of the sampling; the caller's random state is left as it was.

    Returns:
        The traces of each question, in the order of `temperatures`.

    Raises:
        ConfigError: for no temperature or a negative one.
        DataError: if a prompt is longer than the model allows.
    """
    check_temperatures(temperatures)
    if noise_std < 0.0:
        raise ConfigError(f"noise of {noise_std:g} is negative", "give 0 or more")
    times = len(temperatures)
    ids, mask = pad_left([frame.prompt(question, mode, num_thoughts) for question in questions], frame.pad_id)
    ids, mask = ids.to(model.device), mask.to(model.device)
    limit = model.config.max_position_embeddings
    if ids.shape[1] >= limit:
        raise DataError(
            f"a question of this batch has {ids.shape[1]} tokens, and the model takes {limit}", "shorten it"
        )
    bound = min(max_new_tokens, limit - ids.shape[1])
    thinks = mode == "latent" and num_thoughts > 0
    columns = shared_columns(
        frame.latent.recurrence, ids.shape[1], num_thoughts if thinks else 0, varied=noise_std > 0.0
    )
    rows = torch.tensor(list(temperatures) * len(questions), dtype=torch.float32, device=model.device)
    wide_ids, wide_mask = ids.repeat_interleave(times, dim=0), mask.repeat_interleave(times, dim=0)
    devices = [model.device.index or 0] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)  # noise in the thoughts is drawn on the model's device, tokens on the CPU
        cache = read_prefix(model, ids, mask, columns, ids.shape[1] + bound, times)
        with model.thinking(noise_std=noise_std):
            decoded = decode(model, wide_ids, wide_mask, rows, frame.end_ids, bound, cache)
    written = [frame.read(row, mode) for row in decoded.tokens]
    totals = decoded.logprobs.tolist()
    traces = [
        Trace(text, total / max(1, text.tokens), temperature)
        for text, total, temperature in zip(written, totals, list(temperatures) * len(questions), strict=True)
    ]
    return [traces[start : start + times] for start in range(0, len(traces), times)]
