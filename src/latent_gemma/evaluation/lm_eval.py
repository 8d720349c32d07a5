"""Our models in EleutherAI's lm-evaluation-harness, which brings tasks and metrics of its own.

Importing this module makes the harness know `--model latent-gemma`; it needs the extra `harness`.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, cast, get_args

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm
from transformers import StoppingCriteriaList

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.answers import choose_thoughts
from latent_gemma.generation.score import score_continuations
from latent_gemma.generation.stops import StopStrings
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Frame, Mode, own_mode, pad_left
from latent_gemma.ranges import MOST, SHARES, THOUGHTS, Range, check_number
from latent_gemma.text.tags import TAGS, answer_start, open_answer

NAME = "latent-gemma"


@register_model(NAME)
class LatentGemmaLM(LM):
    """A latent Gemma as the harness sees a model.

    A task's context stands where a question stands in our frame, so that the model is asked as it was trained: it
    takes its latent steps behind the context, or writes its reasoning there, and what the harness reads is the answer.
    Stop strings apply to the answer alone, as they cannot cut thoughts. A continuation is scored as the answer: after
    the thoughts, or after the reasoning that the model writes greedily.

    Args:
        pretrained: a run folder, model directory, GGUF file or hub name.
        num_thoughts: K, latent steps; "auto" as many as the model chooses greedily, None takes the model's own way.
        p: share of the token embedding in what is fed back; None takes the model's own.
        mode: "latent", "words", "none", or "auto" for what the model was trained to do.
        system: text before every context, in the user's turn; None keeps the model's own.
        batch_size: contexts at once.
        max_gen_toks: bound on generated tokens where a task sets none, and on reasoning before a scored answer.
        device: as PyTorch names it; None takes the GPU if there is one.
        unknown: whatever else was given.

    Raises:
        ConfigError: for an unknown argument or a value out of range.
        ModelError: if the model cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str,
        num_thoughts: NumThoughts | None = None,
        p: float | None = None,
        mode: str = "auto",
        system: str | None = None,
        batch_size: int | str = 1,
        max_gen_toks: int = 256,
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            known = "pretrained, num_thoughts, p, mode, system, batch_size, max_gen_toks, device"
            raise ConfigError(f"unknown model argument {next(iter(unknown))!r}", f"known are {known}")
        if mode not in ("auto", *get_args(Mode)):
            raise ConfigError(f"mode={mode} is unknown", f"choose from auto, {', '.join(get_args(Mode))}")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ConfigError(f"--batch_size {batch_size} is no number of contexts", "give a whole number from 1")
        for name, value, allowed in (
            ("num_thoughts", num_thoughts, THOUGHTS), ("p", p, SHARES), ("max_gen_toks", max_gen_toks, Range(1, MOST)),
        ):  # fmt: skip
            if value is not None and (name, value) != ("num_thoughts", "auto"):
                if not isinstance(value, (int, float) if name == "p" else int):
                    raise ConfigError(f"{name}={value} is no number", f"give {allowed}")
                check_number(name, value, allowed)
        self.model: Any
        self.model, self.tokenizer = load_model(str(pretrained))
        # the harness says cuda:0 where nobody said anything
        if device is not None and (torch.cuda.is_available() or not device.startswith("cuda")):
            self.model.to(device)
        if system is not None:
            self.model.set_latent(system=system)
        self._device = self.model.device
        self.frame, self.p = Frame(self.tokenizer, self.model.config.latent), p
        self.mode: Mode = own_mode(self.frame.latent) if mode == "auto" else cast(Mode, mode)
        own = self.frame.latent.own_thoughts
        self.num_thoughts: NumThoughts = own if num_thoughts is None else num_thoughts
        self.steps = FastSteps(self.model)
        self.batch_size, self.max_gen_toks = int(batch_size), max_gen_toks
        self.limit = self.model.config.max_position_embeddings

    # -- what the harness asks -------------------------------------------------------------------------------------

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Answer contexts; see `LM.generate_until`."""
        answers: dict[int, str] = {}
        settings = [normalize_gen_kwargs(request.args[1], self.max_gen_toks) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: (repr(settings[i]), -len(requests[i].args[0])))
        with tqdm(total=len(requests), disable=disable_tqdm, desc="answers") as bar:
            for _, members in groupby(order, key=lambda i: repr(settings[i])):
                for batch in _batches(list(members), self.batch_size):
                    given: dict[str, Any] = dict(settings[batch[0]])
                    stops = [stop for stop in given.pop("until") if stop]
                    prompts = self._prompts([requests[i].args[0] for i in batch])
                    rows = self._generate(prompts, given.pop("max_gen_toks"), stops, self._answer_part, given)
                    for i, row in zip(batch, rows, strict=True):
                        answers[i] = self._cut(self.frame.read(row, self.mode).graded, stops)
                        self.cache_hook.add_partial("generate_until", requests[i].args, answers[i])
                    bar.update(len(batch))
        return [answers[i] for i in range(len(requests))]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score continuations as answers; see `LM.loglikelihood`."""
        pairs = [request.args for request in requests]
        prompts = self._reasoned(list(dict.fromkeys(context for context, _ in pairs)), disable_tqdm)
        # behind a marker or a tag no space separates words, and answers were trained without one
        ids = [self.frame.text_ids(text.lstrip() or text) for _, text in pairs]
        scores = self._score([prompts[context] for context, _ in pairs], ids, disable_tqdm)
        for pair, score in zip(pairs, scores, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, score)
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts without thoughts, as there is no question to think about; see the `LM` method."""
        totals = []
        prefix = self.tokenizer.bos_token_id
        for (text,) in (request.args for request in requests):
            ids = self.frame.text_ids(text)
            windows = get_rolling_token_windows(ids, self.frame.end_id if prefix is None else prefix, self.limit, 1)
            pairs = [make_disjoint_window(window) for window in windows]
            scores = self._score([a for a, _ in pairs], [b for _, b in pairs], disable_tqdm)
            totals.append(sum(score for score, _ in scores))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for the harness's request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's chat template, for the harness's log; see `LM.chat_template`."""
        return str(self.tokenizer.chat_template) if chat_template and self.frame.is_chat else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Turns as one context; a system text goes into the first user turn, for Gemma has no role for it."""
        if not self.frame.is_chat:
            raise ConfigError("the tokenizer has no chat template", "leave --apply_chat_template out")
        system = [turn["content"] for turn in chat_history if turn["role"] == "system"]
        turns = [dict(turn) for turn in chat_history if turn["role"] != "system"]
        turns[0]["content"] = "\n\n".join([*system, turns[0]["content"]])
        for turn in turns:
            turn["content"] = self.frame.fenced(turn["content"])
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )  # fmt: skip

    # -- how it is done --------------------------------------------------------------------------------------------

    def _prompts(self, contexts: Sequence[str]) -> list[list[int]]:
        """Contexts of a batch in our frame, with as many thoughts as the model chooses where it is asked to choose."""
        prompts = [self._prompt(context) for context in contexts]
        if self.mode != "latent" or self.num_thoughts != "auto":
            return prompts
        latent = self.frame.latent
        with self.model.thinking(p=self.p, steps=self.steps):
            chosen = choose_thoughts(self.model, prompts, self.frame.pad_id)
        return [[*prompt, *[latent.thought_id] * k, latent.eot_id] for prompt, k in zip(prompts, chosen, strict=True)]

    def _prompt(self, context: str) -> list[int]:
        """A context in our frame; one that holds the chat template's turns already gets only what follows them."""
        bos = self.tokenizer.bos_token
        if bos and self.frame.is_chat and context.startswith(bos):
            return [*self.frame.template_ids(context), *self.frame.tail_ids(self.mode, self.num_thoughts)]
        return self.frame.prompt(context, self.mode, self.num_thoughts)

    def _answer_part(self, ids: list[int]) -> str:
        """The part of what was generated that stop strings apply to."""
        if self.mode == "words" and self.frame.latent.words_format == "markers":
            eot = self.frame.latent.eot_id
            ids = ids[ids.index(eot) + 1 :] if eot in ids else []
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text[answer_start(text) :] if self.mode == "words" else text

    def _cut(self, text: str, stops: Sequence[str]) -> str:
        start = answer_start(text) if self.mode == "words" else 0
        ends = [at for stop in stops if (at := text.find(stop, start)) >= 0]
        return text[: min(ends)] if ends else text

    def _generate(
        self, prompts: list[list[int]], room: int, stops: Sequence[str], part: Any, settings: dict[str, Any],
        ends: Sequence[int] = (),
    ) -> list[list[int]]:  # fmt: skip
        ids, mask = pad_left(prompts, self.frame.pad_id)
        if ids.shape[1] >= self.limit:
            raise DataError(
                f"a context of {ids.shape[1]} tokens is longer than the {self.limit} the model takes",
                "lower --num_fewshot",
            )
        # a task that samples does so from the whole distribution, unless it says otherwise
        drawn = {"top_k": 0, "top_p": 1.0, **settings} if settings.get("do_sample") else {"do_sample": False}
        with self.model.thinking(p=self.p, steps=self.steps):
            output = self.model.generate(
                ids.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=min(room, self.limit - ids.shape[1]),
                eos_token_id=[*self.frame.end_ids, *ends],
                pad_token_id=self.frame.pad_id,
                stopping_criteria=StoppingCriteriaList([StopStrings(part, stops, ids.shape[1])] if stops else []),
                **drawn,
            )
        return output[:, ids.shape[1] :].tolist()

    def _reasoned(self, contexts: list[str], disable_tqdm: bool) -> dict[str, list[int]]:
        """Prompts at whose end the answer begins: behind the thoughts, or behind reasoning the model writes itself."""
        batches = list(_batches(sorted(contexts, key=len, reverse=True), self.batch_size))
        prompts = {one: ids for batch in batches for one, ids in zip(batch, self._prompts(batch), strict=True)}
        if self.mode != "words":
            return prompts
        latent = self.frame.latent
        tagged = latent.words_format == "tags"
        stops, ends = ([TAGS[1], TAGS[2]], []) if tagged else ([], [latent.eot_id])
        for batch in tqdm(batches, disable=disable_tqdm, desc="reasoning"):
            given = [prompts[context] for context in batch]
            rows = self._generate(given, self.max_gen_toks, stops, self.tokenizer.decode, {}, ends)
            for context, row in zip(batch, rows, strict=True):
                if tagged:
                    text = self.tokenizer.decode(row, skip_special_tokens=True)
                    prompts[context] += self.frame.text_ids(open_answer(text))
                else:
                    closing = (*self.frame.end_ids, latent.eot_id)
                    length = next((i for i, token in enumerate(row) if token in closing), len(row))
                    prompts[context] += [*row[:length], latent.eot_id]
        return prompts

    def _score(
        self, prompts: list[list[int]], continuations: list[list[int]], disable_tqdm: bool
    ) -> list[tuple[float, bool]]:
        scores: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]) - len(continuations[i]))
        for batch in tqdm(list(_batches(order, self.batch_size)), disable=disable_tqdm, desc="scores"):
            if len(prompts[batch[0]]) + len(continuations[batch[0]]) - 1 > self.limit:
                raise DataError(
                    f"a context and its continuation are longer than the {self.limit} tokens the model takes",
                    "lower --num_fewshot",
                )
            with self.model.thinking(p=self.p, steps=self.steps):
                found = score_continuations(
                    self.model, [prompts[i] for i in batch], [continuations[i] for i in batch], self.frame.pad_id
                )
            scores |= zip(batch, found, strict=True)
        return [scores[i] for i in range(len(prompts))]


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
