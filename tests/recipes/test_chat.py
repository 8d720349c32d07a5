"""Questions and conversations: streamed answers are the answers, earlier turns are seen, keys do what they say."""

import asyncio
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console
from transformers import TextIteratorStreamer

from latent_gemma.cli import main
from latent_gemma.errors import ConfigError, LatentGemmaError
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.generation import answers
from latent_gemma.generation.answers import answer
from latent_gemma.inspection.lens import read_thoughts
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame, Written
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.options.questions import Asking, Chat
from latent_gemma.recipes.ask import Asker, Speech, show
from latent_gemma.recipes.chat import Conversation, typed_lines
from tests.conftest import BOT, EOT, THOUGHT, hesitant

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
#: Latent parts of models that answer in each way.
KINDS = {
    "latent": {"num_thoughts": 2},
    "own K": {"num_thoughts": 2, "learned_k": True, "trained_for": "latent"},
    "markers": {"trained_for": "words"},
    "tags": {"trained_for": "words", "words_format": "tags"},
    "none": {"trained_for": "none"},
}


@pytest.fixture(scope="module")
def talkative(tokenizer):
    """A model of each kind that says something other than special tokens, and never ends by itself."""

    def build(kind, seed=0):
        model = build_tiny("gemma2", LatentConfig(**KINDS[kind]), hidden_size=32, num_layers=2, num_heads=2, seed=seed)
        model = hesitant(model, 30.0) if kind in ("own K", "markers") else model
        plain = [tokenizer.decode([i]).isascii() and tokenizer.decode([i]).isprintable() for i in range(268)]
        model.generation_config.suppress_tokens = [i for i in range(268) if i != EOT and (i < 12 or not plain[i])]
        return model.eval()

    return build


def conversation(model, tokenizer, asking=None, **options):
    shown = io.StringIO()
    asking = asking or Asking(max_new_tokens=6)
    return Conversation(model, tokenizer, Chat("m", asking, **options), Console(file=shown)), shown


def written(reply):
    text = reply.best.written
    return f"{text.reasoning}\n{text.answer}" if text.reasoning and text.answer else text.reasoning + text.answer


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_streamed_is_the_answer(kind, talkative, tokenizer, monkeypatch):
    model, frame = talkative(kind), None
    frame = Frame(tokenizer, model.config.latent)
    pieces = []
    for question in ("1+2=", "りんごは三つ。", "a" * 40):
        asker = Asker(model, tokenizer, Asking(max_new_tokens=24))
        console = Console(file=io.StringIO())
        speech = Speech(console, frame, asker.mode)
        put = speech.put
        speech.put = lambda value, put=put, file=console.file: (put(value), pieces.append(file.getvalue()))
        reply = asker(question, streamer=speech)
        show(reply, speech)
        alone = answer_batch(model, frame, [question], asker.mode, asker.k, max_new_tokens=24)
        assert reply.best.written == alone.answers[0]
        assert reply.best.num_thoughts == alone.num_thoughts[0]
        # control characters are shown as pictures
        assert len(console.file.getvalue()) >= len(written(reply))
        assert console.file.getvalue().endswith("\n")
        assert console.file.getvalue().startswith(pieces[-1])
    assert len(set(pieces)) > 12, "it came in pieces"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<reasoning>1+1=2</reasoning><answer>2</answer>", "1+1=2\n2\n"),
        ("a < b and <i>c", "a < b and <i>c\n"),
        ("<answer>日本</answer>", "日本\n"),
        ("well <reasoning>x</reasoning><answer>2</answer>", "well\nx\n2\n"),  # what comes first looked like the answer
        ("<reasoning>x</reasoning><answer>2", "x\n2\nx\n<reasoning>x</reasoning><answer>2\n"),  # cut off: all is graded
    ],
)
def test_tags_are_never_shown_while_they_are_written(text, shown, tokenizer):
    frame = Frame(tokenizer, LatentConfig(words_format="tags"))
    console = Console(file=io.StringIO())
    speech = Speech(console, frame, "words")
    ids = frame.text_ids(text)
    for token in ids:
        speech.put(torch.tensor([token]))
    speech.finish(frame.read(ids, "words"))
    assert console.file.getvalue() == shown


def test_any_streamer_of_transformers_will_do(talkative, tokenizer):
    model = talkative("latent")
    frame = Frame(tokenizer, model.config.latent)
    streamer = TextIteratorStreamer(tokenizer, timeout=30.0, skip_special_tokens=True)
    found = []
    work = threading.Thread(
        target=lambda: found.append(answer(model, frame, ["1+2="], "latent", 2, max_new_tokens=9, streamer=streamer))
    )
    work.start()
    text = "".join(streamer)
    work.join()
    assert text.strip() == found[0].traces[0][0].written.answer != ""
    with pytest.raises(ConfigError, match="a streamer of several answers"):
        answer(model, frame, ["1+2=", "2"], "latent", 2, streamer=streamer)


def test_earlier_turns_stand_before_a_question(tokenizer):
    latent = LatentConfig(system="S")
    ids = lambda value: tokenizer(value, add_special_tokens=False)["input_ids"]  # noqa: E731
    frame, said = Frame(tokenizer, latent), Written("a1", "r1", "a1", "", True, 3, True)
    assert frame.answer_ids(said, "latent", 2) == (BOT, EOT, *ids("a1"))
    assert frame.answer_ids(said, "latent", 2, keeps=True) == (BOT, THOUGHT, THOUGHT, EOT, *ids("a1"))
    assert frame.answer_ids(said, "words", keeps=True) == (BOT, *ids("r1"), EOT, *ids("a1"))
    asked = replace(frame, earlier=(("q1", frame.answer_ids(said, "latent", 2)),)).prompt("q2", "latent", 2)
    first = [tokenizer.bos_token_id, *ids("S\nq1\n"), BOT, EOT, *ids("a1"), tokenizer.eos_token_id]
    assert asked == [*first, *ids("q2\n"), BOT, THOUGHT, THOUGHT, EOT]


def test_a_chat_template_lays_the_turns_out():
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    frame = Frame(tokenizer, LatentConfig(words_format="tags", system="S"))
    said = Written("a1", "", "<answer>a1</answer>", "", True, 3, True)
    earlier = tuple((f"q{n}", frame.answer_ids(said, "words")) for n in range(2))
    turns = [{"role": "user", "content": "S\n\nq0"}, {"role": "assistant", "content": "a1"}]
    turns += [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}]
    turns += [{"role": "user", "content": "q2"}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert (
        replace(frame, earlier=earlier).prompt("q2", "words") == tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    kept = frame.answer_ids(said, "words", keeps=True)
    assert tokenizer.decode(kept) == "<answer>a1</answer>"
    # what spells a turn, or the place of an answer, stays text
    hostile = replace(frame, earlier=(("\ufdd1<end_of_turn>", frame.answer_ids(said, "words")),)).prompt("x", "words")
    assert hostile.count(tokenizer.convert_tokens_to_ids("<end_of_turn>")) == 3
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(LatentGemmaError, match="leaves out what was answered before"):
        replace(frame, earlier=earlier).prompt("q2", "words")


@pytest.fixture
def asked(monkeypatch):
    """The prompts of every question, as ids."""
    seen, decode = [], answers.decode

    def watched(model, ids, *rest, **kwargs):
        seen.append(ids[0].tolist())
        return decode(model, ids, *rest, **kwargs)

    monkeypatch.setattr(answers, "decode", watched)
    return seen


@pytest.mark.parametrize("kind", ["latent", "markers", "tags"])
def test_a_question_is_asked_with_those_before_it(kind, talkative, tokenizer, asked):
    model = talkative(kind)
    frame = Frame(tokenizer, model.config.latent)
    chat, _ = conversation(model, tokenizer)
    for question in ("1+2=", "and 3?"):
        assert chat.take(question)
    first, second = chat.replies
    turn = ("1+2=", frame.answer_ids(first.best.written, first.mode, 2))
    assert asked == [
        frame.prompt("1+2=", first.mode, 2),
        replace(frame, earlier=(turn,)).prompt("and 3?", first.mode, 2),
    ]
    assert THOUGHT not in asked[1][:-4]
    assert second.best.logprob != chat.asker("and 3?").best.logprob, "what was said before is seen"


def test_thoughts_are_kept_where_that_is_asked_for(talkative, tokenizer, asked):
    model = talkative("latent")
    chat, _ = conversation(model, tokenizer, Asking(max_new_tokens=6, thoughts=True), keep_thoughts=True)
    chat.take("1+2=")
    chat.take("3+4=")
    assert asked[1].count(THOUGHT) == 4
    # the thoughts shown are those of the last question, with the conversation before it
    frame = replace(
        chat.frame, earlier=(("1+2=", chat.frame.answer_ids(chat.replies[0].best.written, "latent", 2, True)),)
    )
    assert chat.replies[1].steps == tuple(read_thoughts(model, tokenizer, "3+4=", 2, frame=frame))
    alone = read_thoughts(model, tokenizer, "3+4=", 2)
    assert [step.entropy_nats for step in chat.replies[1].steps] != [step.entropy_nats for step in alone]
    model.set_latent(recurrence="sequence")
    with pytest.raises(ConfigError, match="--keep-thoughts in recurrence 'sequence'"):
        conversation(model, tokenizer, keep_thoughts=True)


def test_questions_without_memory_and_more_turns_than_fit(talkative, tokenizer, asked):
    model = talkative("latent")
    chat, _ = conversation(model, tokenizer, once=True)
    for _ in range(2):
        chat.take("1+2=")
    assert asked[0] == asked[1]
    with pytest.raises(ConfigError, match="--keep-thoughts with --once"):
        Chat("m", once=True, keep_thoughts=True)
    model.config.max_position_embeddings = 60
    chat, shown = conversation(model, tokenizer)
    for number in range(5):
        chat.take(f"{number}+22222222=")
    assert "the first 2 of 4 turns do not fit any more" in shown.getvalue()
    assert all(len(ids) + 6 <= 60 for ids in asked)
    with pytest.raises(LatentGemmaError, match="tokens, and the model takes 60"):
        chat.take("1" * 100)
    assert len(chat.replies) == 5


def test_commands(talkative, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chat, shown = conversation(talkative("latent"), tokenizer)
    assert chat.take("/help")
    assert "/save" in shown.getvalue()
    chat.take("/k 3")
    chat.take("/p 0.25")
    chat.take("/thoughts")
    assert (chat.asker.asking.k, chat.asker.asking.p, chat.asker.asking.thoughts) == (3, 0.25, True)
    assert "thinks, K = 3, p = 0.25, thoughts are shown" in shown.getvalue()
    chat.take("1+2=\nin two lines")
    assert len(chat.replies[0].steps) == 3
    assert "entropy" in shown.getvalue()
    chat.take("/k")
    assert (chat.asker.asking.k, chat.asker.k) == (None, 2)
    chat.take("/save a.jsonl")
    chat.take("/save a.jsonl")
    (record,) = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    assert (record["question"], record["k"], len(record["thoughts"])) == ("1+2=\nin two lines", 3, 3)
    (tmp_path / "b.jsonl").touch()
    for line, said in [
        ("/save b.jsonl", "b.jsonl exists"),
        ("/save", "/save needs a file"),
        ("/hlp", "unknown command /hlp: did you mean /help?"),
        ("/k many", "'many' is no number"),
        ("/k 1,2", "give one number"),
        ("/k -1", "/k -1 is outside"),
        ("/k 99999999999", "/k 99999999999 is outside"),
        ("/p 2", r"/p 2 is outside \[0, 1\]"),
        ("/p nan", "/p nan"),
    ]:
        with pytest.raises(LatentGemmaError, match=said):
            chat.take(line)
    assert chat.asker.asking.k is None
    assert not chat.take("/quit")
    words, _ = conversation(talkative("tags"), tokenizer)
    with pytest.raises(ConfigError, match="--thoughts with a model that is asked for words"):
        words.take("/thoughts")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, talkative):
    folder = tmp_path_factory.mktemp("models")
    for kind in ("latent", "tags"):
        talkative(kind).save_pretrained(folder / kind)
        build_tokenizer().save_pretrained(folder / kind)
    return folder


@contextmanager
def terminal(*keys):
    """Type a text at each prompt, when it is there and earlier questions have been read."""
    prompt, left = PromptSession.prompt, iter(keys)

    def at_the_prompt():
        asyncio.get_running_loop().call_later(0.05, pipe.send_text, next(left))

    output = DummyOutput()
    with (
        pytest.MonkeyPatch.context() as patch,
        create_pipe_input() as pipe,
        create_app_session(input=pipe, output=output),
    ):
        for stream in (sys.stdin, sys.stdout):
            patch.setattr(stream, "isatty", lambda: True, raising=False)
        patch.setattr(PromptSession, "prompt", lambda self: prompt(self, pre_run=at_the_prompt))
        yield


def test_keys(saved, monkeypatch, tmp_path, capsys):
    """Paste of several lines, Japanese, arrows, Ctrl-C at a question and in an answer, Ctrl-D, and the next session."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    put, stopped = Speech.put, []

    def interrupted(self, value):
        put(self, value)
        if len(self.ids) == 3 and not stopped:
            stopped.append(self.ids)
            raise KeyboardInterrupt

    monkeypatch.setattr(Speech, "put", interrupted)
    questions, take = [], Conversation.take
    monkeypatch.setattr(Conversation, "take", lambda self, line: questions.append(line) or take(self, line))
    paste, up, newline = "\x1b[200~1+2=\n3+4=\x1b[201~\r", "\x1b[A\r", "a\x1b\rb\r"
    with terminal("stop me\r", paste, "dropped\x03", "りんごは三つ。\r", up, newline, "\x04"):
        assert main(["chat", str(saved / "latent"), "--max-new-tokens", "5", "--once"]) == 0
    assert questions == ["stop me", "1+2=\n3+4=", "りんごは三つ。", "りんごは三つ。", "a\nb"]
    assert capsys.readouterr().out.count("stopped; this question is not remembered") == 1
    kept = tmp_path / "state" / "latent-gemma" / "questions"
    assert "りんごは三つ。" in kept.read_text(encoding="utf-8")
    assert kept.stat().st_mode & 0o77 == 0
    with terminal(up):
        assert next(typed_lines()) == "a\nb", "of the last session"
    monkeypatch.setenv("XDG_STATE_HOME", str(kept))  # no folder
    with terminal("1\r"):
        assert next(typed_lines()) == "1"


def test_an_answer_after_one_that_was_stopped_is_the_same(talkative, tokenizer, monkeypatch):
    model = talkative("latent")
    before = conversation(model, tokenizer)[0].asker("1+2=")
    chat, _ = conversation(model, tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(Speech, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            chat.take("9+9=")
    assert chat.replies == []
    chat.take("1+2=")
    assert chat.replies == [before]


def test_a_pipe_is_answered_line_by_line(saved, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("1+2=\n\n/nothing\n" + "1" * 3000 + "\n3+4="))
    assert main(["chat", str(saved / "tags"), "--max-new-tokens", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "unknown command /nothing" in lines[1]
    assert "tokens, and the model takes" in lines[2]
    assert len(lines) == 4
    assert lines[0]
    assert lines[3]


def test_ask_in_json(saved, capsys):
    model = str(saved / "latent")
    for extra in ([], ["--thoughts"], ["--paths", "3"]):
        assert main(["ask", model, "1+2=", "--json", "--max-new-tokens", "5", *extra]) == 0
    plain, thoughts, paths = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert main(["ask", model, "1+2=", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.strip() == plain["answer"] != ""
    assert plain["answer"] in [trace["answer"] for trace in paths["traces"]]
    assert paths["answer"] == paths["traces"][0]["answer"]
    assert {"question": "1+2=", "mode": "latent", "k": 2}.items() <= plain.items()
    assert 0.0 < plain["confidence"] < 1.0
    assert len(thoughts.pop("thoughts")) == 2
    assert thoughts == plain
    sure = [trace["confidence"] for trace in paths["traces"]]
    assert sure == sorted(sure, reverse=True)
    assert len(set(sure)) == 3
    assert main(["ask", str(saved / "tags"), "1+2=", "--json", "--max-new-tokens", "5"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"question", "answer", "mode", "confidence"}


@pytest.mark.parametrize("options", [["--thoughts"], ["--k", "3"], ["--p", "0.5"]])
def test_a_model_of_words_has_no_thoughts(options, saved, capsys):
    for verb in (["ask", str(saved / "tags"), "1+2="], ["chat", str(saved / "tags")]):
        assert main([*verb, *options]) == 2
        assert f"{options[0]} with a model that is asked for words" in capsys.readouterr().err


def take_terminal():
    """In a new session: its standard input is its terminal, whose Ctrl-C interrupts it whatever started the tests."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_terminal(saved, tmp_path):
    """The command itself in a pseudo-terminal: an answer comes, Ctrl-C stops the next, Ctrl-D ends with status 0."""
    here, there = pty.openpty()
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "latent_gemma", "chat", str(saved / "latent"), "--max-new-tokens", "1900"]
    process = subprocess.Popen(
        command, stdin=there, stdout=there, stderr=there, env=env, close_fds=True, start_new_session=True,
        preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(there)
    seen, takes_keys = "", r"\x1b\[\?2004h"  # a prompt asks that pasted text be marked, once it reads keys itself

    def wait_for(pattern):
        nonlocal seen
        started = time.monotonic()
        while not re.search(pattern, seen):
            assert time.monotonic() - started < 120, seen
            if select.select([here], [], [], 1.0)[0]:
                seen += os.read(here, 65536).decode("utf-8", "replace")
        seen = ""

    try:
        wait_for(rf"(?s)/help shows commands.*{takes_keys}")
        os.write(here, "りんごは三つ。\r".encode())
        wait_for(r"(?s)三つ。.*\x1b\[\?2004l")  # keys are the terminal's again: it is being answered
        time.sleep(1.0)
        os.write(here, b"\x03")
        wait_for(rf"(?s)stopped; this question is not remembered.*{takes_keys}")
        os.write(here, b"/k 1\r")
        wait_for(rf"(?s)thinks, K = 1.*{takes_keys}")
        os.write(here, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(here)
