"""Prompts as token ids, and what a model wrote after them: question, reasoning or thoughts, answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latent_gemma.choices import Mode, NumThoughts
from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.model.config import LatentConfig
from latent_gemma.text.tags import parse_open, parse_tagged

#: Where literal text is cut before it is tokenised. Unicode reserves this character for uses inside of a program.
_FENCE = "\ufdd0"
#: Where a chat template puts the answer of an earlier turn; likewise.
_ANSWER = "\ufdd1"


def own_mode(latent: LatentConfig) -> Mode:
    """What a model was trained to do before it answers; every verb asks it so, unless the user says otherwise.

    Args:
        latent: its latent configuration.

    Returns:
        "latent" if it thinks, "words" if it writes its reasoning, "none" if it answers at once. Of a model that no
        stage has been run on, "latent" where thoughts are configured, and "words" otherwise.
    """
    if latent.trained_for != "unknown":
        return latent.trained_for
    return "latent" if latent.num_thoughts and latent.words_format == "markers" else "words"


@dataclass(frozen=True)
class Written:
    """What a model wrote after its prompt.

    Args:
        answer: the answer alone; all of the text where no answer can be told from reasoning.
        reasoning: the written steps before it; empty in the other modes.
        graded: the text an answer is looked for in: with tags everything, else the answer alone.
        tagged: everything, with tags around reasoning and answer; what rewards read.
        complete: reasoning and answer each once, in order and closed; in the other modes, an answer that is not empty.
        tokens: generated tokens, the end token included.
        finished: whether it ended by itself.
    """

    answer: str
    reasoning: str
    graded: str
    tagged: str
    complete: bool
    tokens: int
    finished: bool


@dataclass(frozen=True)
class Frame:
    """How one model's prompts look, in ids; the same for the written and the latent stage.

        <bos> question newline  bot  step step step  eot  answer end      reasoning in words
        <bos> question newline  bot  t    t    step  eot  answer end      two steps in latent space
        <bos> question newline  bot                                       thinks until its head prefers eot
        <bos> question newline  bot                  eot  answer end      no reasoning
        <bos> question newline  <reasoning>step step</reasoning><answer>answer</answer> end      words between tags

    Every piece is tokenised on its own, so the first token of a step or an answer is never merged with the text
    before it. Questions, steps and answers are literal: what spells a marker, a turn or an end in them stays letters.

    Args:
        tokenizer: the model's tokenizer; with a chat template the question is its user turn.
        latent: the model's latent configuration.
        remembers: keep the ids of questions, for where the same ones are asked again and again.
        earlier: turns of the conversation before every question: what was asked, and the ids of the answer to it, see
            `answer_ids`.
    """

    tokenizer: Any
    latent: LatentConfig
    remembers: bool = False
    earlier: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def is_chat(self) -> bool:
        """Whether questions are put into the tokenizer's chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """The first character of what the tokenizer reads as one special token or marker."""
        latent = self.latent
        names = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        # Gemma's own tokenizer does not count its unused tokens among the special ones.
        names += self.tokenizer.convert_ids_to_tokens([latent.bot_id, latent.thought_id, latent.eot_id])
        return re.compile(f"(?={'|'.join(re.escape(name) for name in names if len(name) > 1)})(.)", re.DOTALL)

    def fenced(self, text: str) -> str:
        """Text whose ids, see `template_ids`, hold no special token whatever it spells."""
        return self._special.sub(rf"\1{_FENCE}", text.replace(_FENCE, "").replace(_ANSWER, ""))

    def template_ids(self, text: str) -> list[int]:
        """Ids of a chat template's text: special tokens count, but for those in parts that were `fenced`."""
        return [i for piece in text.split(_FENCE) for i in self.tokenizer(piece, add_special_tokens=False)["input_ids"]]

    def text_ids(self, text: str) -> list[int]:
        """Ids of a piece of literal text, none of them special."""
        return self.template_ids(self.fenced(text))

    @cached_property
    def _asked(self) -> dict[str, list[int]]:
        """Ids of the questions so far."""
        return {}

    def question_ids(self, question: str) -> list[int]:
        """Ids of everything before `bot`; a system text stands in the user's turn, for Gemma has no role for it."""
        if not self.remembers:
            return self._tokenised(question)
        if question not in self._asked:
            self._asked[question] = self._tokenised(question)
        return list(self._asked[question])

    def _tokenised(self, question: str) -> list[int]:
        asked, system = [*(turn for turn, _ in self.earlier), question], self.latent.system
        if self.is_chat:
            asked[0] = f"{system}\n\n{asked[0]}" if system else asked[0]
            turns = [
                {"role": role, "content": content}
                for text in asked
                for role, content in (("user", self.fenced(text)), ("assistant", _ANSWER))
            ]
            try:
                text = self.tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, tokenize=False)
                if text.count(_ANSWER) != len(self.earlier):
                    raise ValueError("it leaves out what was answered before")
            except Exception as error:  # a template is a program of its author, and may fail in any way
                raise ModelError(f"the tokenizer's chat template fails, {error}", "mend chat_template.jinja") from error
            pieces = [self.template_ids(piece) for piece in text.split(_ANSWER)]
            ends: list[int] = []  # are the template's
        else:
            asked[0] = f"{system}\n{asked[0]}" if system else asked[0]
            bos = self.tokenizer.bos_token_id
            pieces = [self.text_ids(f"{text}\n") for text in asked]
            pieces[0] = [*([] if bos is None else [bos]), *pieces[0]]
            ends = [self.end_id] if self.earlier else []
        answers = [[*ids, *ends] for _, ids in self.earlier]
        return [i for piece, answer in zip(pieces, [*answers, []], strict=True) for i in (*piece, *answer)]

    @property
    def end_id(self) -> int:
        """The id that is learnt as an answer's end: the end of the turn in a chat, the end of the text otherwise."""
        if self.is_chat:
            end = self.tokenizer.convert_tokens_to_ids("<end_of_turn>")
            if isinstance(end, int) and end not in (None, self.tokenizer.unk_token_id):
                return end
        if self.tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end-of-sequence token", "set tokenizer.eos_token")
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end an answer, `end_id` first: a chat model may end the text instead of its turn."""
        eos = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([self.end_id, *([] if eos is None else [int(eos)])]))

    @property
    def pad_id(self) -> int:
        """The id of padding; a tokenizer without one pads with the end (padding is masked either way)."""
        pad = self.tokenizer.pad_token_id
        return self.end_id if pad is None else int(pad)

    def tail_ids(self, mode: Mode, num_thoughts: NumThoughts = 0) -> list[int]:
        """Ids between the question and what the model goes on with; `num_thoughts` counts in latent mode only.

        With K "auto" the thoughts, and the `eot` behind them, are what it goes on with.
        """
        latent = self.latent
        if num_thoughts == "auto":
            if mode == "latent":
                return [latent.bot_id]
            num_thoughts = 0
        if num_thoughts < 0:
            raise ConfigError(f"num_thoughts is {num_thoughts}", "give 0 or more")
        if mode != "words":
            thoughts = num_thoughts if mode == "latent" else 0
            return [latent.bot_id, *[latent.thought_id] * thoughts, latent.eot_id]
        return [] if latent.words_format == "tags" else [latent.bot_id]

    def latent_prompt(self, question: str, num_thoughts: int) -> list[int]:
        """Prompt that takes K latent steps and then answers; K = 0 answers at once."""
        return self.prompt(question, "latent", num_thoughts)

    def prompt(self, question: str, mode: Mode, num_thoughts: NumThoughts = 0) -> list[int]:
        """Prompt of a mode; `num_thoughts` counts in latent mode only."""
        return [*self.question_ids(question), *self.tail_ids(mode, num_thoughts)]

    def answer_ids(self, written: "Written", mode: Mode, num_thoughts: int = 0, keeps: bool = False) -> tuple[int, ...]:
        """Ids of an answer as a later turn of the conversation sees it.

        Args:
            written: the answer.
            mode: it was given in.
            num_thoughts: K that it took.
            keeps: with its thoughts, or with its reasoning; otherwise as an answer that was given at once.

        Returns:
            The ids, without an end.
        """
        latent = self.latent
        if mode == "words" and latent.words_format == "tags":
            return tuple(self.text_ids(written.graded if keeps else written.answer))
        before = self.tail_ids(mode if keeps else "none", num_thoughts)
        if keeps and mode == "words":
            before += [*self.text_ids(written.reasoning), latent.eot_id]
        return (*before, *self.text_ids(written.answer))

    def read(self, generated: Sequence[int], mode: Mode) -> Written:
        """Take apart what a model generated.

        Args:
            generated: ids after the prompt, up to and with the end token, or padding behind it.
            mode: of the prompt.

        Returns:
            Reasoning and answer.
        """
        ids = list(generated)
        length = next((place for place, token in enumerate(ids) if token in self.end_ids), len(ids))
        finished, ids = length < len(ids), ids[:length]
        tokens = len(ids) + finished
        if mode != "words":
            text = self._decode(ids)
            return Written(text, "", text, text, bool(text), tokens, finished)
        if self.latent.words_format == "tags":
            text = self._decode(ids)
            parsed = parse_tagged(text)
            answer = text if parsed.answer is None else parsed.answer
            return Written(answer, parsed.reasoning, text, text, parsed.shape == "complete", tokens, finished)
        closed = self.latent.eot_id in ids
        cut = ids.index(self.latent.eot_id) if closed else len(ids)
        reasoning, answer = self._decode(ids[:cut]), self._decode(ids[cut + 1 :])
        tagged = f"<reasoning>{reasoning}"
        if closed:
            tagged += f"</reasoning><answer>{answer}" + ("</answer>" if finished else "")
        complete = closed and finished and ids.count(self.latent.eot_id) == 1
        return Written(answer, reasoning, answer, tagged, complete, tokens, finished)

    def read_open(self, generated: Sequence[int], mode: Mode) -> Written:
        """As `read`, of what is still being written: without tags that are open, or have only begun."""
        written = self.read(generated, mode)
        if written.finished or mode != "words" or self.latent.words_format != "tags":
            return written
        reasoning, answer = parse_open(written.graded)
        return replace(written, reasoning=reasoning, answer=answer)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()


@dataclass(frozen=True)
class Appended:
    """A batch of prompts that end in `bot, thought x K, eot`, or in `bot` for K "auto".

    Args:
        input_ids: [B, W].
        attention_mask: [B, W].
        added: which columns of a row hold a frame that was not in it, [B, W] bool.
    """

    input_ids: Tensor
    attention_mask: Tensor
    added: Tensor


def append_thoughts(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    latent: LatentConfig,
    num_thoughts: NumThoughts,
    pad_id: int | None,
) -> Appended:
    """End each prompt of a batch in `bot, thought x K, eot`; one that ends in a marker already is left alone.

        pad  q   q   bot  t   t  eot
         q   q   q   bot  t   t  eot
        pad pad pad  pad  q  bot eot       was left alone

    Args:
        input_ids: [B, T], padded on either side.
        attention_mask: [B, T]; None takes padding for what it is where that cannot be anything else, as `generate`.
        latent: the marker ids.
        num_thoughts: K; "auto" ends a prompt in `bot`.
        pad_id: id of the padding, None if it is not known or also ends a text.

    Returns:
        The prompts, padded on the left.
    """
    batch, length = input_ids.shape
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids) if pad_id is None else (input_ids != pad_id).to(input_ids.dtype)
    behind = attention_mask.flip(-1).cumsum(-1).eq(0).sum(-1, keepdim=True)
    columns = (torch.arange(length, device=input_ids.device)[None] - behind) % length
    ids, mask = input_ids.gather(1, columns), attention_mask.gather(1, columns)
    markers = torch.tensor([latent.bot_id, latent.thought_id, latent.eot_id], device=ids.device)
    ends = torch.isin(ids[:, -1:], markers).any(-1, keepdim=True)  # none where there is no id
    if bool(ends.all()):
        return Appended(ids, mask, torch.zeros_like(ids, dtype=torch.bool))
    frame = [latent.bot_id]
    if num_thoughts != "auto":
        frame += [*[latent.thought_id] * num_thoughts, latent.eot_id]
    tail = torch.tensor(frame, device=ids.device).expand(batch, -1)
    none, all_of = torch.zeros_like(tail), torch.ones_like(tail)
    return Appended(
        torch.where(ends, torch.cat([none if pad_id is None else none + pad_id, ids], 1), torch.cat([ids, tail], 1)),
        torch.where(ends, torch.cat([none, mask], 1), torch.cat([mask, all_of], 1)),
        ~ends & (torch.arange(length + len(frame), device=ids.device) >= length),
    )


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Stack prompts of different length, padded on the left.

    Args:
        rows: ids of each prompt.
        pad_id: id of the padding.

    Returns:
        `input_ids` and `attention_mask`, [B, T] int64 each.
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids, mask
