"""An answer as it is being written."""

from collections.abc import Iterator
from queue import Queue
from threading import Thread
from typing import Any

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from latent_gemma.generation.answers import answer
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode, Written
from latent_gemma.model.thinking import Steps


class _Stopped(Exception):
    """Nobody reads on."""


class _Tokens(BaseStreamer):
    """Hands tokens from the thread that makes them to the one that shows them; None ends them."""

    def __init__(self) -> None:
        self.queue: Queue[list[int] | Exception | None] = Queue()
        self.stopped = False

    def put(self, value: Tensor) -> None:
        if self.stopped:
            raise _Stopped
        self.queue.put(value.tolist())

    def end(self) -> None:
        self.queue.put(None)


def streamed(
    model: LatentReasoningGemmaForCausalLM,
    frame: Frame, question: str, mode: Mode, num_thoughts: int = 0, steps: Steps | None = None, **settings: Any,
) -> Iterator[Written]:  # fmt: skip
    """Answer one question greedily, token by token.

    Args:
        model: a latent Gemma in evaluation mode.
        frame: its frame.
        question: the question.
        mode: see `answer`.
        num_thoughts: K; see `answer`.
        steps: takes single positions.
        **settings: of `answer`.

    Yields:
        What is written so far, after each token; what `answer` gives comes last. Who stops reading stops the model.

    Raises:
        LatentGemmaError: see `answer`.
    """
    tokens = _Tokens()

    def work() -> None:
        try:
            with model.thinking(steps=steps):
                answer(model, frame, [question], mode, num_thoughts, streamer=tokens, **settings)
        except _Stopped:
            pass
        except Exception as error:  # is the reader's to tell
            tokens.queue.put(error)

    thread, ids, so_far = Thread(target=work, daemon=True), list[int](), frame.read_open([], mode)
    thread.start()
    try:
        while (item := tokens.queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            ids += item
            so_far = frame.read_open(ids, mode)
            yield so_far
        whole = frame.read(ids, mode)
        if whole != so_far:  # cut off between its tags
            yield whole
    finally:
        tokens.stopped = True
        thread.join()
