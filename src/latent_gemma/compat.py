"""The usage of the earlier package of this name: `model.generate_answer(...)`, with its `DEFAULT_CONFIG`."""

from typing import Any

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError
from latent_gemma.generation.paths import AnswerPath, explore_paths
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Mode


def generate_answer(
    self: Any,
    model: Any = None,
    tokenizer: Any = None,
    question: str = "",
    k: int | None = None,
    max_length: int | None = None,
    return_paths: bool = False,
    num_thoughts: NumThoughts | None = None,
    mode: Mode | None = None,
    noise_std: float = 0.0,
    dropout: float = 0.0,
    temperature: float = 0.0,
) -> str | list[AnswerPath]:
    """Answer a question by exploring k first tokens and keeping the most confident path.

    Args:
        self: the model.
        model: ignored; the earlier package passed the model a second time.
        tokenizer: its tokenizer; None takes `model.tokenizer`.
        question: the question as a person would ask it.
        k: number of paths; None takes `DEFAULT_CONFIG["cot_decoding_k"]`.
        max_length: length of prompt and answer together, tokens; None takes `DEFAULT_CONFIG["max_length"]`.
        return_paths: return all paths, the most confident first.
        num_thoughts: see `explore_paths`, as the rest.
        mode: of the prompt.
        noise_std: on the thoughts.
        dropout: of the thoughts.
        temperature: behind the first token.

    Returns:
        The text of the most confident answer, or all paths.

    Raises:
        ConfigError: for k outside 1 .. vocabulary size, or a missing tokenizer.
        DataError: if the question is longer than the model allows.
    """
    tokenizer = tokenizer or self.tokenizer
    if tokenizer is None:
        raise ConfigError("generate_answer has no tokenizer", "pass tokenizer=, or set model.tokenizer")
    defaults = self.DEFAULT_CONFIG
    paths = explore_paths(
        self, tokenizer, question, defaults["cot_decoding_k"] if k is None else k,
        defaults["max_length"] if max_length is None else max_length, num_thoughts, mode, noise_std, dropout,
        temperature,
    )  # fmt: skip
    return paths if return_paths else paths[0].answer


def _default_latent() -> LatentConfig:
    """What is found on the class when a plain Gemma is loaded: users replace it there."""
    return LatentConfig(num_thoughts=_Earlier.DEFAULT_CONFIG["continuous_thoughts"])


_Earlier: Any = LatentReasoningGemmaForCausalLM
#: Update before loading, as the README of that package shows; `continuous_thoughts` becomes the latent configuration's
#: `num_thoughts` of a plain Gemma that is loaded.
_Earlier.DEFAULT_CONFIG = {
    "continuous_thoughts": 4,
    "stages": 4,
    "training_thoughts_sequence_length": 50,
    "fuzzy_matcher_threshold": 80,
    "cot_decoding_k": 5,
    "max_length": 256,
    "bot_id": "<bot>",
    "eot_id": "<eot>",
    "answer_id": "<answer>",
    "debug": False,
}
_Earlier._default_latent = staticmethod(_default_latent)
_Earlier.generate_answer = generate_answer
