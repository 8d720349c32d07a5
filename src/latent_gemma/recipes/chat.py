"""`latent-gemma chat`: a conversation with a trained model."""

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.data.writing import write_lines
from latent_gemma.errors import ConfigError, LatentGemmaError
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Frame
from latent_gemma.options.questions import Chat
from latent_gemma.ranges import SHARES, nearest, parse_numbers, parse_thoughts
from latent_gemma.recipes.ask import Asker, Reply, Speech, show
from latent_gemma.text.display import displayable

#: What can be typed in place of a question.
COMMANDS = {
    "/help": "show this",
    "/k": "latent steps: /k 4, /k auto; alone, the model's own",
    "/p": "share of the token embedding: /p 0.5; alone, the model's own",
    "/thoughts": "show what each latent step says, or no more",
    "/save": "the conversation as JSON Lines: /save chat.jsonl",
    "/quit": "end, as Ctrl-D does",
}
_KEYS = "Ctrl-C stops an answer, Alt-Enter begins another line, the arrows bring earlier questions back"


def _history() -> Any:
    """Earlier questions in the user's state folder; where that cannot be written, those of this session."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.local/state"
    path = Path(state).expanduser() / "latent-gemma" / "questions"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("a"):
            return FileHistory(path)
    except OSError:
        return InMemoryHistory()


def typed_lines() -> Iterator[str]:
    """Questions typed at a terminal, until Ctrl-D; Ctrl-C drops one that is not finished."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession("? ", history=_history(), key_bindings=keys)
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def piped_lines() -> Iterator[str]:
    """Lines of an input that is no terminal; bytes that are no UTF-8 spoil the line that they are in alone."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin


class Conversation:
    """Questions to a model, each with those before it.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        config: the options.
        console: where it is shown.

    Raises:
        ConfigError: for options that mean nothing to this model.
    """

    def __init__(self, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, config: Chat, console: Console) -> None:
        if config.keep_thoughts and model.config.latent.recurrence != "append":
            raise ConfigError(
                f"--keep-thoughts in recurrence {model.config.latent.recurrence!r}, whose thoughts are one block",
                "leave it out",
            )
        self.config, self.console = config, console
        self.asker = Asker(model, tokenizer, config.asking)
        self.frame = Frame(tokenizer, model.config.latent)
        self.replies: list[Reply] = []
        self.saved: Path | None = None

    def take(self, line: str) -> bool:
        """Answer a question, or carry a command out.

        Args:
            line: as it was typed, of one line or several.

        Returns:
            False where it ends the conversation.

        Raises:
            LatentGemmaError: for what cannot be done; the conversation is as it was.
        """
        line = line.strip()
        if line.startswith("/"):
            name, _, value = line.partition(" ")
            return self._command(name, value.strip())
        try:
            line.encode("utf-8")
        except UnicodeError:
            raise ConfigError("this question is no valid UTF-8", "write it once more") from None
        if line:
            self._answer(line)
        return True

    def _command(self, name: str, value: str) -> bool:
        asking, asker = self.asker.asking, self.asker
        if name == "/quit":
            return False
        if name == "/help":
            width = max(map(len, COMMANDS))
            said = [f"{command:<{width}}  {text}" for command, text in COMMANDS.items()]
            self.say("\n".join([*said, _KEYS]))
        elif name == "/save":
            self._save(Path(value).expanduser(), value)
        elif name in ("/k", "/p", "/thoughts"):
            if name == "/k":
                asking = replace(asking, k=_one(parse_thoughts(value, name), name, value))
            elif name == "/p":
                asking = replace(asking, p=_one(parse_numbers(value, float, name, SHARES), name, value))
            else:
                asking = replace(asking, thoughts=not asking.thoughts)
            self.asker = Asker(asker.model, asker.tokenizer, asking)
            self.say(self.settings())
        else:
            raise ConfigError(f"unknown command {name}", nearest(name, list(COMMANDS), "/help shows them"))
        return True

    def settings(self) -> str:
        """How questions are asked, in a line."""
        asker = self.asker
        if asker.mode != "latent":
            return "answers in words" if asker.mode == "words" else "answers at once"
        p = self.frame.latent.p if asker.asking.p is None else asker.asking.p
        return f"thinks, K = {asker.k}, p = {p:g}, thoughts are {'shown' if asker.asking.thoughts else 'not shown'}"

    def say(self, text: str) -> None:
        """Print what is no answer."""
        self.console.out(displayable(text), style="dim", highlight=False)

    def _answer(self, question: str) -> None:
        frame = self._with_earlier(question)
        speech = Speech(self.console, frame, self.asker.mode)
        reply = self.asker(question, frame, speech)
        show(reply, speech)
        self.replies.append(reply)

    def _with_earlier(self, question: str) -> Frame:
        """The frame with as many earlier turns as leave room for an answer, the newest of them."""
        if self.config.once:
            return self.frame
        asker, most = self.asker, self.asker.model.config.max_position_embeddings
        kept, asked = self.config.keep_thoughts, asker.as_asked(question)
        turns = [
            (reply.asked, self.frame.answer_ids(reply.best.written, reply.mode, reply.best.num_thoughts, kept))
            for reply in self.replies
        ]
        thinking = self.frame.latent.most_thoughts + 1 if asker.k == "auto" else 0
        for start in range(len(turns) + 1):
            frame = replace(self.frame, earlier=tuple(turns[start:]))
            length = len(frame.prompt(asked, asker.mode, asker.k)) + thinking
            if length + asker.asking.max_new_tokens <= most:
                break
        if start and length < most:
            self.say(f"the first {start} of {len(turns)} turns do not fit any more, and are left out")
        return frame

    def _save(self, path: Path, value: str) -> None:
        if not value:
            raise ConfigError("/save needs a file", "/save chat.jsonl")
        if path.exists() and path != self.saved:
            raise ConfigError(f"{path} exists", "give another name")
        write_lines((reply.record() for reply in self.replies), path)
        self.saved = path
        self.say(f"{len(self.replies)} turns in {path}")


def _one(numbers: tuple[Any, ...], name: str, value: str) -> Any:
    """The only number of a list; None of an empty one."""
    if len(numbers) > 1:
        raise ConfigError(f"{name} {value}", "give one number")
    return numbers[0] if numbers else None


def run_chat(config: Chat) -> None:
    """Answer questions until the end of input.

    Args:
        config: see `Chat`.

    Raises:
        LatentGemmaError: for anything in the configuration or the model that cannot be used; what is wrong with one
            question is said, and the conversation goes on.
    """
    model, tokenizer = load_model(config.model)
    console = Console()
    conversation = Conversation(model, tokenizer, config, console)
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    if typed:
        conversation.say(f"{conversation.settings()}; /help shows commands, Ctrl-D ends")
    for line in typed_lines() if typed else piped_lines():
        try:
            if not conversation.take(line):
                return
        except LatentGemmaError as error:
            conversation.say(str(error))
        except KeyboardInterrupt:
            if not typed:
                raise
            console.out("")
            conversation.say("stopped; this question is not remembered")
