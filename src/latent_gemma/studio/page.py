"""The page: a chat beside its thoughts, which can be taken out and replaced; votes, sides, runs. No network."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr
from torch import Tensor

from latent_gemma.choices import NumThoughts
from latent_gemma.data.example import Example
from latent_gemma.errors import LatentGemmaError
from latent_gemma.evaluation.voting import Voter
from latent_gemma.inspection.edits import EditKind, Thinker, Thoughts
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Written
from latent_gemma.studio import drawing
from latent_gemma.studio.run_folders import RunFolder, find_runs, known_questions, report, table
from latent_gemma.text.display import displayable, escape, visible

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Hiragino Sans", "Noto Sans CJK JP", "sans-serif")
_MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
#: Characters of a question; a model takes far fewer tokens.
_MOST = 20_000
#: The buttons of the question, at rest and while it is answered.
_ASK, _STOP = gr.update(submit_btn="Ask", stop_btn=False), gr.update(submit_btn=False, stop_btn=True)
#: What a handler gives where there is nothing to do: session, board, donors, changes, heat map.
_SAME = (gr.skip(),) * 5


@dataclass(frozen=True)
class Opened:
    """A run that can be asked.

    Args:
        name: as it is shown.
        path: as the user gave it.
        thinker: its model.
        questions: of its data, to choose from.
    """

    name: str
    path: str
    thinker: Thinker
    questions: Sequence[Example] = ()


def open_runs(paths: Sequence[str], max_new_tokens: int = 256) -> list[Opened]:
    """Load runs.

    Args:
        paths: run folders, model directories, GGUF files or hub names.
        max_new_tokens: bound on an answer's tokens.

    Returns:
        The runs, named by their folders where that tells them apart.

    Raises:
        ModelError: see `load_model`.
    """
    short = [Path(path).name for path in paths]
    names = paths if len(set(short)) < len(short) else short
    return [
        Opened(displayable(name), path, Thinker(*load_model(path), max_new_tokens), known_questions(path))
        for name, path in zip(names, paths, strict=True)
    ]


@dataclass(frozen=True)
class Edit:
    """What was put in a thought's place: the input itself, its name in the cell, what was done in words."""

    put: Tensor
    name: str
    done: str


@dataclass
class Session:
    """What is on the page of one visitor.

    Args:
        run: whose thoughts they are.
        thoughts: of the question.
        answer: what they led to; None before its first token.
        other: the thoughts of the question beside it.
        picked: place of the thought that was pressed.
        edits: place -> what is put there.
    """

    run: str
    thoughts: Thoughts
    answer: Written | None = None
    other: Thoughts | None = None
    picked: int | None = None
    edits: dict[int, Edit] = field(default_factory=dict)


def _said(written: Written) -> str:
    """An answer in the chat; Gradio shows HTML there, with its Markdown switched off too."""
    return escape(f"{written.reasoning}\n\n{written.answer}" if written.reasoning else written.answer)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _whole(number: Any) -> int | None:
    """A number that a page sent."""
    return int(number) if isinstance(number, str) and number.isdecimal() else None


def _k(auto: bool, k: float) -> NumThoughts:
    return "auto" if auto else int(k)


def _drawing(name: str, value: str = "") -> gr.HTML:
    """A drawing whose buttons are heard; see `studio.js`."""
    script = files("latent_gemma.studio").joinpath("studio.js").read_text(encoding="utf-8")
    return gr.HTML(value, js_on_load=script, apply_default_css=False, elem_id=name, elem_classes="drawing")


class Page:
    """The page of some runs.

    Args:
        opened: the runs; the first is asked unless another is chosen.
        root: folder whose runs are listed.
    """

    def __init__(self, opened: Sequence[Opened], root: Path = Path("runs")) -> None:
        self.opened, self.root = list(opened), root
        self.thinkers = {one.name: one.thinker for one in opened}
        self.known = {displayable(example.question): example for one in opened for example in one.questions}

    def blocks(self) -> gr.Blocks:
        """The page as Gradio serves it; see `serve`."""
        first, several = self.opened[0], len(self.opened) > 1
        auto_first, k_first, p_first = self.settings(first.name)
        most = max(12, *(2 * thinker.latent.most_thoughts for thinker in self.thinkers.values()))
        with gr.Blocks(title="latent-gemma studio", analytics_enabled=False, fill_width=True) as blocks:
            session, shown = gr.State(None), gr.State(first.name)
            _drawing("title", "<h1>latent-gemma <span>studio</span></h1>")
            with gr.Row(elem_classes="studio"):
                with gr.Column(elem_classes="asking", min_width=0):
                    chat = gr.Chatbot(
                        render_markdown=False, height=270, show_label=False, buttons=[], feedback_options=None,
                        placeholder="Ask a question. Each stands for itself.", layout="bubble", elem_id="chat",
                    )  # fmt: skip
                    question = gr.Textbox(label="Question", lines=1, max_lines=6, max_length=_MOST, submit_btn="Ask",
                                          elem_id="question")  # fmt: skip
                    pick = gr.Dropdown(list(self.known), value=None, label="or one of its test questions",
                                       visible=bool(self.known), elem_id="known")  # fmt: skip
                    run = gr.Dropdown(list(self.thinkers), value=first.name, label="Run", visible=several,
                                      elem_id="run")  # fmt: skip
                with gr.Column(elem_classes="seeing", min_width=0), gr.Tabs():
                    with gr.Tab("Thoughts"):
                        board = _drawing("board", drawing.note("Ask, and see what it thinks."))
                        with gr.Row():
                            other = gr.Textbox(label="Another question, to take a thought from", max_length=_MOST,
                                               submit_btn="Think", elem_id="other", scale=2, min_width=220)  # fmt: skip
                            token = gr.Textbox(label="or a token to put there", max_length=40, submit_btn="Put",
                                               elem_id="token", min_width=150)  # fmt: skip
                            follow = gr.Radio([("follow", True), ("are kept", False)], value=True,
                                              label="Later thoughts", elem_id="follow", min_width=260)  # fmt: skip
                        donors, changes, heat = _drawing("donors"), _drawing("changes"), _drawing("heat")
                    with gr.Tab("Vote"):
                        with gr.Row():
                            count = gr.Slider(2, 40, 10, step=1, label="N traces", elem_id="count")
                            noise = gr.Slider(0.0, 1.0, 0.0, step=0.05, label="noise on their thoughts")
                        vote = gr.Button("Vote on the question", variant="primary", elem_id="vote")
                        ballots = _drawing("ballots")
                    with gr.Tab("Side by side", visible=several):
                        beside = gr.Button("Ask every run the question", variant="primary", elem_id="beside")
                        sides = _drawing("sides")
                    with gr.Tab("Runs"):
                        listed, curves, reported = _drawing("listed"), _drawing("curves"), _drawing("report")
                with gr.Column(elem_classes="setting", min_width=0):
                    auto = gr.Checkbox(auto_first, label="K auto: it ends its thinking itself", elem_id="auto")
                    k = gr.Slider(0, most, k_first, step=1, label="K, latent steps otherwise", elem_id="k")
                    p = gr.Slider(0.0, 1.0, p_first, step=0.05, label="p, share of the token", elem_id="p")
                    steps = gr.Textbox(label="Its written steps, one a line, where known", lines=2, max_lines=6,
                                       max_length=_MOST, elem_id="steps")  # fmt: skip
            # left to itself Gradio drops the event of a thing whose last one is not done: of choices the last counts,
            # and what is done to thoughts waits for its turn
            private: dict[str, Any] = {"api_visibility": "private"}
            quick = {**private, "show_progress": "hidden", "trigger_mode": "always_last"}
            model = {**private, "concurrency_limit": 1, "concurrency_id": "model"}
            silent = {**model, "show_progress": "hidden"}
            every = {**silent, "trigger_mode": "multiple"}
            how, drawn = [run, auto, k, p], [session, board, donors, changes, heat]
            asking = question.submit(
                self.ask, [question, chat, *how, steps, session], [question, chat, *drawn], **silent
            )
            question.stop(lambda: _ASK, None, question, cancels=[asking], **quick)
            pick.input(self.choose, pick, [question, steps], **quick)
            run.change(self.settings, run, [auto, k, p], **quick)
            board.act(self.act, [session, follow], drawn, **every)
            donors.act(self.act, [session, follow], drawn, **every)
            follow.input(self.again, [session, follow], drawn, **every)
            other.submit(self.beside, [other, auto, k, session], drawn, **every)
            token.submit(self.put, [token, session, follow], drawn, **every)
            vote.click(self.vote, [question, session, *how, count, noise], ballots, **model)
            beside.click(self.sides, [question, session, steps], sides, **model)
            listed.act(self.choose_run, None, [shown, listed, curves, reported], **quick)
            blocks.load(self.show, shown, [shown, listed, curves, reported], **quick)
            gr.Timer(2.0).tick(self.tick, shown, [listed, curves], **quick)
        return blocks

    def choose(self, question: str) -> tuple[str, str]:
        """A question of the data, with its steps."""
        example = self.known[question]
        return example.question, "\n".join(example.steps)

    def settings(self, run: str) -> tuple[bool, int, float]:
        """How a run thinks by itself: whether it chooses K, its largest K, p."""
        latent = self.thinkers[run].latent
        return latent.own_thoughts == "auto", latent.num_thoughts, latent.p

    def ask(
        self, question: str, chat: list[Any], run: str, auto: bool, k: float, p: float,
        steps: str, before: Session | None,
    ) -> Iterator[Any]:  # fmt: skip
        """Think, and write the answer token by token."""
        if not question.strip():
            yield gr.skip(), gr.skip(), *_SAME
            return
        thinker, other = self.thinkers[run], before.other if before is not None and before.run == run else None
        chat = [*chat, {"role": "user", "content": escape(question)}, {"role": "assistant", "content": "…"}]
        try:
            session = Session(run, thinker.think(question, _k(auto, k), p, _lines(steps)), other=other)
            yield _STOP, chat, *self._draw(session)
            for written in thinker.answer(session.thoughts):
                session.answer, chat[-1]["content"] = written, _said(written)
                yield gr.skip(), chat, session, *_SAME[1:]
        except LatentGemmaError as error:
            chat[-1]["content"] = escape(str(error))
            yield _ASK, chat, None, "", "", "", ""
            return
        yield _ASK, chat, *self._draw(session)

    def _draw(
        self, session: Session, edited: Thoughts | None = None, changed: Written | None = None, changes: str = ""
    ) -> tuple[Any, ...]:
        """The session, and its drawings."""
        board = drawing.strip(
            session.thoughts, session.answer, self.thinkers[session.run].latent.learned_k, session.picked,
            {place: edit.name for place, edit in session.edits.items()}, edited, changed,
        )  # fmt: skip
        board += drawing.tools(session.thoughts, session.picked, bool(session.edits))
        title = "What each layer says" + (", with that" if edited else "")
        return (
            session,
            board,
            drawing.donor(session.other),
            changes,
            drawing.heat_map(edited or session.thoughts, title),
        )

    def again(self, session: Session | None, follow: bool) -> Iterator[Any]:
        """Think and answer with the edits there are."""
        if session is None or session.answer is None or not session.edits:
            yield _SAME if session is None else self._draw(session)
            return
        thinker, answer = self.thinkers[session.run], session.answer
        edited = thinker.edit(session.thoughts, {place: edit.put for place, edit in session.edits.items()}, follow)
        done = ", ".join(edit.done for _, edit in sorted(session.edits.items()))
        done += ", later thoughts follow" if follow and thinker.thinks_on else ", all others kept"
        for changed in thinker.answer(edited):
            yield self._draw(session, edited, changed, drawing.change(answer, changed, done))
        odds = thinker.odds([session.thoughts, edited], [answer, changed])
        yield self._draw(session, edited, changed, drawing.change(answer, changed, done, odds))

    def act(self, session: Session | None, follow: bool, event: gr.EventData) -> Iterator[Any]:
        """What a press or a drag on a drawing asks for; see `studio.js`."""
        told: dict[str, Any] = event._data or {}
        act, place, source = told.get("act"), _whole(told.get("place")), _whole(told.get("from"))
        if session is None:
            yield _SAME
            return
        if act == "swap" and session.picked is None:
            session.picked = source
        session.picked = session.picked if place is None else place
        if act == "restore":
            session.edits = {}
        elif act == "token" and session.picked is not None:
            step, number = session.thoughts.steps[session.picked], _whole(told.get("token")) or 0
            yield from self._edit(session, follow, "token", None, step.ids[number], step.tokens[number])
            return
        elif act in ("zero", "noise", "swap"):
            yield from self._edit(session, follow, act, source)
            return
        yield from self.again(session, follow)

    def _edit(
        self, session: Session, follow: bool, kind: EditKind, source: int | None = None, token: str | int = "",
        text: str = "",
    ) -> Iterator[Any]:  # fmt: skip
        place, other = session.picked or 0, None
        name, done = {"zero": ("∅", "zeroed"), "noise": ("≈", "replaced by noise")}.get(
            kind, (visible(text), f"replaced by the token {visible(text)}")
        )
        if kind == "swap" and session.other is not None and source is not None and source < len(session.other.steps):
            other, name = session.other.inputs[source], f"⇄ {visible(session.other.steps[source].tokens[0])}"
            done = f"swapped for thought {source + 1} of {session.other.question}"
        try:
            put = self.thinkers[session.run].replacement(session.thoughts, place, kind, other, token)
        except LatentGemmaError as error:
            _, board, *rest = self._draw(session)
            yield session, board + drawing.note(str(error), "refused"), *rest
            return
        session.picked, session.edits[place] = place, Edit(put, name, f"thought {place + 1} {done}")
        yield from self.again(session, follow)

    def put(self, token: str, session: Session | None, follow: bool) -> Iterator[Any]:
        """Put a token that was typed in a thought's place."""
        if session is None:
            yield _SAME
            return
        yield from self._edit(session, follow, "token", None, token, token)

    def beside(self, question: str, auto: bool, k: float, session: Session | None) -> tuple[Any, ...]:
        """Think about another question, to take its thoughts."""
        if session is None or not question.strip():
            return _SAME
        try:
            session.other = self.thinkers[session.run].think(question, _k(auto, k), session.thoughts.p)
            donors = drawing.donor(session.other)
        except LatentGemmaError as error:
            donors = drawing.note(str(error), "refused")
        return session, gr.skip(), donors, gr.skip(), gr.skip()

    def vote(
        self, question: str, session: Session | None, run: str, auto: bool, k: float, p: float,
        count: float, noise: float,
    ) -> str:  # fmt: skip
        """A vote of several traces on the question."""
        thinker = self.thinkers[run]

        def cast(asked: str) -> str:
            voter = Voter(
                thinker.model, thinker.tokenizer, traces=int(count), mode=thinker.mode, num_thoughts=_k(auto, k), p=p,
                noise_std=noise, max_new_tokens=thinker.max_new_tokens, steps=thinker.steps,
            )  # fmt: skip
            return drawing.votes(voter(asked).traces)

        return self._of(question, session, cast)

    def sides(self, question: str, session: Session | None, steps: str) -> str:
        """Every run's answer to the question, each in its own way."""

        def answered(asked: str) -> str:
            found = []
            for name, thinker in self.thinkers.items():
                thoughts = thinker.think(asked, written=_lines(steps))
                *_, written = thinker.answer(thoughts)
                found.append((name, thinker.mode, thoughts, written))
            return drawing.sides(found)

        return self._of(question, session, answered)

    @staticmethod
    def _of(question: str, session: Session | None, draw: Any) -> str:
        """A drawing of the question that is typed, or else of the last."""
        asked = question if question.strip() else session.thoughts.question if session else ""
        try:
            return draw(asked) if asked else drawing.note("Type a question first.")
        except LatentGemmaError as error:
            return drawing.note(str(error), "refused")

    @property
    def runs(self) -> dict[str, RunFolder]:
        """Those that were opened, then the others under the folder: name -> run."""
        opened = [RunFolder(one.name, Path(one.path)) for one in self.opened if Path(one.path).is_dir()]
        seen = {run.path.resolve() for run in opened}
        others = [run for run in find_runs(self.root) if run.path.resolve() not in seen]
        return {run.name: run for run in [*opened, *others]}

    def choose_run(self, event: gr.EventData) -> tuple[str, str, str, str]:
        """A run that was pressed in the list."""
        return self.show(str((event._data or {}).get("run")))

    def show(self, name: str) -> tuple[str, str, str, str]:
        """The list of runs, and of one of them curves and report."""
        run = self.runs.get(name)
        return name, *self.tick(name), "" if run is None else report(run)

    def tick(self, name: str) -> tuple[str, str]:
        """The list of runs, and the curves of one of them, as they are now."""
        runs = self.runs
        return table(list(runs.values()), name), drawing.curves(runs[name].entries) if name in runs else ""


def serve(blocks: gr.Blocks, **settings: Any) -> Any:
    """Start the page.

    Args:
        blocks: of `Page.blocks`.
        **settings: of `gradio.Blocks.launch`: `server_name`, `server_port`, ...

    Returns:
        What `launch` does. Nothing is loaded from elsewhere, and nothing is sent there.
    """
    theme = gr.themes.Default(
        primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=_MONO
    )
    css = files("latent_gemma.studio").joinpath("studio.css").read_text(encoding="utf-8")
    return blocks.launch(
        share=False, theme=theme, css=css, footer_links=[], run_history=False, ssr_mode=False, enable_monitoring=False,
        **settings,
    )  # fmt: skip
