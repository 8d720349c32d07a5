"""From examples to the tensors of one training step."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.model.alignment import aligned_tokens
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.text.tags import TAGS, write_tagged
from latent_gemma.training.curriculum import AnnealCurriculum, Curriculum, Stage, WrittenCurriculum

IGNORE = -100
#: Told of what cannot be trained on, which is then left out.
OnBad = Callable[[DataError], None]


@dataclass(frozen=True)
class Encoded:
    """One example in ids.

    Args:
        question: everything before `bot`.
        steps: each written step, without its separator; empty where the words stand between tags.
        separator: what follows each written step.
        answer: the answer and the end token; with tags, everything after the question.
        retold: the example itself, where each pass over the data tells it anew; see `Example.told_anew`.
    """

    question: list[int]
    steps: list[list[int]]
    separator: list[int]
    answer: list[int]
    retold: Example | None = None


def spelled_tag(text: str) -> str | None:
    """The first of our tags that a text spells, in either case: between tags it would end what it stands in."""
    return next((tag for tag in TAGS if tag in text.lower()), None)


def sound(number: int, problem: str | None, on_bad: OnBad | None) -> bool:
    """Whether an example can be trained on.

    Args:
        number: its place in the data, from 1.
        problem: what is wrong with it, or None.
        on_bad: told of it; None raises.

    Returns:
        True without a problem.

    Raises:
        DataError: for a problem, without `on_bad`.
    """
    if problem is None:
        return True
    error = DataError(f"example {number} {problem}", "leave it out with --skip-bad")
    if on_bad is None:
        raise error
    on_bad(error)
    return False


def encode_examples(
    frame: Frame,
    examples: Iterable[Example],
    max_length: int | None = None,
    on_bad: OnBad | None = None,
    most_thoughts: Callable[[int], int] = lambda steps: 0,
) -> list[Encoded]:
    """Tokenise examples once, before training.

    Args:
        frame: the model's frame.
        examples: what to encode.
        max_length: tokens an example may have in any stage.
        on_bad: told of each example that cannot be trained on, which is then left out; None raises at the first.
        most_thoughts: from an example's written steps to the steps' worth of thoughts it will take at most.

    Returns:
        One `Encoded` each.

    Raises:
        ConfigError: if what stands between steps spells a tag that they stand in.
        DataError: naming the first example that is longer than `max_length`, or spells such a tag.
    """
    tagged = frame.latent.words_format == "tags"
    if tagged and spelled_tag(frame.latent.step_separator):
        raise ConfigError(f"--step-separator {frame.latent.step_separator!r} spells a tag", "give another")
    known: dict[str, list[int]] = {}

    def ids(text: str) -> list[int]:
        if text not in known:
            known[text] = frame.text_ids(text)
        return known[text]

    encoded = []
    separator, end = ids(frame.latent.step_separator), frame.end_id
    for number, example in enumerate(examples, start=1):
        tag = next(filter(None, map(spelled_tag, (*example.steps, example.answer))), None) if tagged else None
        if not sound(number, tag and f"spells {tag} inside of a step or its answer", on_bad):
            continue
        question = frame.question_ids(example.question)
        if tagged:
            written = write_tagged(example.steps, example.answer, frame.latent.step_separator)
            item = Encoded(question, [], separator, [*frame.text_ids(written), end])
        else:
            item = Encoded(question, [ids(step) for step in example.steps], separator, [*ids(example.answer), end])
        if type(example).told_anew is not Example.told_anew:
            item = replace(item, retold=example)
        length = _longest_layout(item, most_thoughts(len(item.steps)), frame.latent)
        long = max_length is not None and length > max_length
        problem = f"has {length} tokens, more than the {max_length} the model allows" if long else None
        if sound(number, problem, on_bad):
            encoded.append(item)
    return encoded


def check_rows(encoded: Sequence[Encoded], frame: Frame, curriculum: Curriculum) -> None:
    """Refuse rows that teach nothing.

    Args:
        encoded: the examples.
        frame: the model's frame.
        curriculum: what is latent, and when.

    Raises:
        ConfigError: if none has written steps, and the curriculum is to learn from them.
        DataError: if there is none.
    """
    if not encoded:
        raise DataError("no example is left to train on", "give data with shorter ones")
    if frame.latent.words_format == "tags" or any(item.steps for item in encoded):
        return
    remedy = "use data with steps"
    if isinstance(curriculum, WrittenCurriculum):
        if curriculum.reasoning == "none":
            return
        remedy += ", or --reasoning none"
    if isinstance(curriculum, AnnealCurriculum):
        if curriculum.most_thoughts(0, 0):
            return
        remedy += ", or give every question the same thoughts: --no-learn-k --c-thought 1 --max-latent-steps 4"
    raise ConfigError("no example has written steps to learn from", remedy)


def _longest_layout(item: Encoded, steps: int, latent: LatentConfig) -> int:
    """Tokens of an example in the stage in which it has most, at most so many written steps giving way to thoughts."""
    rest = sum(map(len, item.steps)) + len(item.steps) * len(item.separator)
    longest, thoughts = rest, 0
    for place in range(steps):
        step = item.steps[place] if place < len(item.steps) else []
        rest -= len(step) + len(item.separator) if place < len(item.steps) else 0
        thoughts += len(aligned_tokens(step, item.separator, latent))
        longest = max(longest, thoughts + rest)
    return len(item.question) + longest + len(item.answer) + 2


def thoughts_of(item: Encoded, stage: Stage, latent: LatentConfig) -> list[int]:
    """What the thoughts of an example are anchored on in a stage, mixing left aside: a token each, or IGNORE."""
    return _anchors(item, stage, latent, stage.steps_thought(len(item.steps)), len(item.steps))


def _anchors(item: Encoded, stage: Stage, latent: LatentConfig, thinking: int, replaced: int) -> list[int]:
    """The anchors of so many steps' worth of thoughts, of which the first stand for written steps."""
    if stage.thoughts_per_token is not None:
        latent = replace(latent, thoughts_per_token=stage.thoughts_per_token)
    steps = item.steps[: min(thinking, replaced)]
    tokens = [token for step in steps for token in aligned_tokens(step, item.separator, latent)]
    missing = (thinking - len(steps)) * len(aligned_tokens([], item.separator, latent))
    return [IGNORE if token is None else token for token in tokens] + [IGNORE] * missing


@dataclass(frozen=True)
class Row:
    """One sequence before padding; `start` is the column behind the question, by which rows are aligned."""

    ids: list[int]
    labels: list[int]
    anchors: list[int]
    start: int
    halts: list[int]


def build_row(item: Encoded, stage: Stage, frame: Frame, rng: random.Random) -> Row:
    """Lay out one example for a stage.

    Two of three steps in latent form, c_thought = 2 (t a thought, . ignored; labels stand under the token they name,
    the model shifts them by one):

        ids      q  q  bot  t   t   t   t   s3  s3  eot  a   end
        labels   .  .  .    .   .   .   .   s3  s3  eot  a   end
        anchors  .  .  .    s1  s1' s2  s2' .   .   .    .   .
        halts    .  .  .    0   0   0   0   0   .   .    .   .

    All three steps in latent form, c_thought = "tokens" (| the separator):

        ids      q  q  bot  t   t   t   t   t   t   t   t   eot  a   end
        labels   .  .  .    .   .   .   .   .   .   .   .   .    a   end
        anchors  .  .  .    s1  s1' |   s2  |   s3  s3' |   .    .   .
        halts    .  .  .    0   0   0   0   0   0   0   0   1    .   .

    With `thoughts_per_token` 0.5, s1' s2 s3' remain. `halts` says whether thinking ends there: 1 under an `eot` that
    follows thoughts, or `bot`, at once, 0 under thoughts and under what is written behind the last.

    With `next_only` a row ends behind the step that follows its thoughts:

        ids      q  q  bot  t   t   s3
        labels   .  .  .    .   .   s3

    With words between tags there are no markers and the loss reads everything after the question:

        ids      q  q  <reasoning>  s1  s2  s3  </reasoning>  <answer>  a  </answer>  end
        labels   .  .  <reasoning>  s1  s2  s3  </reasoning>  <answer>  a  </answer>  end

    The anchors of a step are its last c_thought tokens, the separator left out (the first thoughts of a shorter step
    have none): a result stands at the end of its step. With c_thought = "tokens" see `aligned_tokens`.

    Args:
        item: the example.
        stage: what is latent.
        frame: the marker ids.
        rng: draws the stage of examples that mix.

    Returns:
        The row.
    """
    latent = frame.latent
    if latent.words_format == "tags":
        blank = [IGNORE] * len(item.question)
        return Row(
            ids=[*item.question, *item.answer],
            labels=[*blank, *item.answer],
            anchors=[*blank, *[IGNORE] * len(item.answer)],
            start=len(item.question),
            halts=[*blank, *[IGNORE] * len(item.answer)],
        )
    replaced = _steps_replaced(len(item.steps), stage, rng)
    thinking = replace(stage, latent_steps=replaced).steps_thought(len(item.steps))
    left = item.steps[replaced:] if stage.keeps_rest else []
    rest = [token for step in left[: 1 if stage.next_only else None] for token in (*step, *item.separator)]
    anchors = _anchors(item, stage, latent, thinking, replaced)
    count = len(anchors)
    written = rest if stage.next_only and rest else [*rest, latent.eot_id, *item.answer]
    # Without written steps `eot` is given by the prompt; it is a target only where the model itself ends its words.
    targets = written if rest else [IGNORE, *item.answer]
    head = [*item.question, latent.bot_id]
    return Row(
        ids=[*head, *[latent.thought_id] * count, *written],
        labels=[IGNORE] * (len(head) + count) + targets,
        anchors=[IGNORE] * len(head) + anchors + [IGNORE] * len(written),
        start=len(item.question),
        halts=[IGNORE] * len(head) + [0] * count + [0 if rest else 1] + [IGNORE] * (len(written) - 1),
    )


def _steps_replaced(steps: int, stage: Stage, rng: random.Random) -> int:
    """How many of an example's written steps are gone."""
    if stage.mix_prob > 0.0 and rng.random() < stage.mix_prob:
        return rng.randint(0, steps)
    if stage.draws_up_to is not None:
        stages = range(stage.draws_up_to + 1)
        (drawn,) = rng.choices(stages, weights=[i + 1 for i in stages])
        return min(steps, stage.latent_steps if drawn == stage.draws_up_to else drawn)
    return min(steps, stage.latent_steps)


def aligned(rows: Sequence[Row]) -> tuple[int, int]:
    """Column in which the `bot` of all rows stands when they are in line, and the width that takes."""
    left = max(row.start for row in rows)
    return left, left + max(len(row.ids) - row.start for row in rows)


def pad_rows(rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    """Stack rows so that their `bot` columns, and with them their thoughts, stand in line.

        row 0   pad  q   bot  t   t   eot  a   end
        row 1   q    q   bot  t   eot a    end pad

    Args:
        rows: the rows.
        pad_id: id of the padding.

    Returns:
        `input_ids`, `attention_mask`, `labels`, `anchors`, `halts`, [B, T] int64 each.
    """
    left, width = aligned(rows)
    begin = torch.tensor([left - row.start for row in rows])[:, None]
    end = begin + torch.tensor([len(row.ids) for row in rows])[:, None]
    columns = torch.arange(width)
    filled = (columns >= begin) & (columns < end)

    def laid(parts: Iterable[list[int]], blank: int) -> Tensor:
        out = torch.full(filled.shape, blank)
        out[filled] = torch.tensor(list(chain.from_iterable(parts)), dtype=torch.long)
        return out

    return {
        "input_ids": laid((row.ids for row in rows), pad_id),
        "attention_mask": filled.long(),
        "labels": laid((row.labels for row in rows), IGNORE),
        "anchors": laid((row.anchors for row in rows), IGNORE),
        "halts": laid((row.halts for row in rows), IGNORE),
    }
