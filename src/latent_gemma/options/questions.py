"""What a model is asked: the options of `ask`, `chat` and `vote`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from latent_gemma.choices import AskedMode, WordsFormat
from latent_gemma.errors import ConfigError
from latent_gemma.ranges import Advanced, Amount, Count, Range, Seed, Share, Thoughts, check_ranges
from latent_gemma.text.language import AnswerLanguage, Asked


@dataclass(frozen=True)
class Asking:
    """How to answer.

    Args:
        mode: "auto" does what the model was trained for; "latent" thinks, "words" writes its steps, "none" answers at
            once.
        k: latent steps; "auto" leaves their number to the model, None takes the model's own way.
        p: share of the token embedding in what is fed back; None takes the model's own.
        answer_language: "same" as the question's, or "ja" or "en": a question in the other language is then asked with
            an instruction to answer in this one.
        translate: into this language, instead of answering.
        thoughts: show what each latent step says.
        paths: explore this many first tokens in one batch and show each answer with its confidence, the most confident
            first; 1 decodes greedily.
        max_new_tokens: bound on generated tokens.
    """

    mode: AskedMode = "auto"
    k: Thoughts | None = None
    p: Share | None = None
    answer_language: Advanced[AnswerLanguage] = "same"
    translate: Asked | None = None
    thoughts: bool = False
    paths: Advanced[Annotated[int, Range(1, 50_000)]] = 1
    max_new_tokens: Count = 256

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.translate and self.answer_language != "same":
            raise ConfigError("--translate says the language already", "leave --answer-language out")


@dataclass(frozen=True)
class Ask:
    """Ask a trained model one question.

    Args:
        model: a run folder, model directory, GGUF file or hub name.
        question: the question.
        asking: how to answer.
        json: print one JSON object: question, answer, reasoning, mode, k, confidence, and with --thoughts and --paths
            what each latent step says and every answer.
    """

    model: Positional[str]
    question: Positional[str]
    asking: Asking = Asking()
    json: bool = False


@dataclass(frozen=True)
class Chat:
    """Talk with a trained model, or ask it one question a line where the input is no terminal; /help shows commands.

    Args:
        model: a run folder, model directory, GGUF file or hub name.
        asking: how to answer.
        once: questions without memory: none knows of those before it.
        keep_thoughts: earlier turns stay in the conversation with their thoughts or their reasoning, and not as
            question and answer alone.
    """

    model: Positional[str]
    asking: Asking = Asking()
    once: bool = False
    keep_thoughts: Advanced[bool] = False

    def __post_init__(self) -> None:
        if self.once and self.keep_thoughts:
            raise ConfigError("--keep-thoughts with --once, which keeps nothing", "leave one of them out")


@dataclass(frozen=True)
class Vote:
    """Answer a question by a vote of several traces.

    Args:
        model: a run folder, model directory, GGUF file or hub name.
        question: the question to answer.
        temperatures: of the traces.
        traces: traces in a vote, the temperatures taken in turn; None takes one each.
        mode: "auto" does what the model was trained for; "latent" thinks, "words" writes its steps, "none" answers at
            once.
        k: latent steps in latent mode; "auto" leaves their number to the model, None takes the model's own way.
        noise: noise on each trace's thoughts in latent mode, in units of their RMS.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        show_traces: print every trace.
        max_new_tokens: bound on generated tokens of a trace.
        compile: compile the steps of thinking and decoding on a CPU, which takes half a minute or more at first.
        seed: of the sampling.
    """

    model: Positional[str]
    question: Positional[str] = ""
    temperatures: str = "0.2,0.4,0.6,0.8,1.0"
    traces: Annotated[int, Range(1, 50_000)] | None = None
    mode: AskedMode = "auto"
    k: Thoughts | None = None
    noise: Advanced[Amount] = 0.0
    format: Advanced[WordsFormat | None] = None
    system: Advanced[str | None] = None
    show_traces: bool = False
    max_new_tokens: Count = 256
    compile: Advanced[bool] = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)
