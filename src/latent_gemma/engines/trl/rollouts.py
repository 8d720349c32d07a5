"""TRL's GRPO trainer for our prompts, its progress kept in checkpoints."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer
from trl.models import prepare_fsdp
from trl.trainer.utils import RepeatSampler, add_fused_lm_head, disable_dropout_in_model

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError
from latent_gemma.generation.answers import choose_thoughts
from latent_gemma.training.finite_steps import FiniteSteps
from latent_gemma.training.frozen import hold_in_bfloat16
from latent_gemma.training.reward_watch import RewardWatch, SampleTable
from latent_gemma.training.rewarding import RewardBook, Sample


class EpochSampler(RepeatSampler):
    """TRL's sampler, which draws one order after the other, told which: a run that goes on begins in a later epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Name the pass over the data that comes next, from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed((self.seed or 0) + self.epoch)  # as `epoch_order`
        return super().__iter__()


def reward_functions(book: RewardBook) -> list[Callable[..., list[float]]]:
    """One function for TRL per reward, named after it; TRL asks them in their order, all for the same completions."""
    scores: list[list[float]] = []

    def function(index: int) -> Callable[..., list[float]]:
        def score(
            prompts: list[str], completion_ids: list[list[int]], accepted: list[list[str]], **_: Any
        ) -> list[float]:
            if index == 0:
                scores[:] = book.score(zip(prompts, accepted, strict=True), map(book.read, completion_ids))
            return scores[index]

        score.__name__ = book.names[index]
        return score

    return [function(index) for index in range(len(book.names))]


class RewardCallback(TrainerCallback):
    """Hands what Trainer tells to the table of samples, in the first process alone, and to the watch.

    Args:
        book: scores completions.
        table: of samples.
        watch: of the rewards.
    """

    def __init__(self, book: RewardBook, table: SampleTable, watch: RewardWatch) -> None:
        self.book, self.table, self.watch = book, table, watch

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.watch.begin(state.log_history)
        if state.is_world_process_zero:
            self.table.begin(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if state.is_world_process_zero:
            self.table.step_ended(state.global_step, self.book.last)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs: Any):
        self.watch.write(logs or {})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.watch.end()


class FramedGrpoTrainer(FiniteSteps, GRPOTrainer):
    """TRL's trainer with our prompts: a question becomes ids through the model's frame, thoughts and all.

    Args:
        book: scores completions; has the model's frame, and the mode: "words", or "latent" for prompts that end in
            `bot, thought x K, eot`.
        num_thoughts: K; with "auto" each prompt has as many as the model, as it is now, chooses greedily.
        model: the model; without `peft_config` a copy of it is the reference of the KL term.
        args: TRL's configuration.
        **kwargs: as TRL's trainer and `FiniteSteps`.
    """

    def __init__(
        self, book: RewardBook, num_thoughts: NumThoughts, model: Any, args: GRPOConfig, **kwargs: Any
    ) -> None:
        self.book, self.num_thoughts = book, num_thoughts
        # TRL loads its reference from disk and by the classes transformers ships, ours not among them: build it here.
        copies = args.beta > 0.0 and kwargs.get("peft_config") is None
        reference = copy.deepcopy(model).requires_grad_(False) if copies else None
        beta = args.beta
        if copies:
            args.beta = 0.0
        super().__init__(model=model, args=args, reward_funcs=reward_functions(book), **kwargs)
        if self.is_sharded and book.mode == "latent" and num_thoughts == "auto":
            raise ConfigError("a learnt K with sharded weights", "launch it without FSDP or DeepSpeed ZeRO-3")
        if reference is not None:
            if args.bf16 and not self.is_sharded:
                hold_in_bfloat16(reference)  # only read, and under autocast
            disable_dropout_in_model(reference)
            add_fused_lm_head(reference, temperature=self.temperature)
            self.beta = args.beta = beta
            self.ref_model: Any = (
                prepare_fsdp(reference, self.accelerator)
                if self.is_fsdp_enabled
                else self.accelerator.prepare_model(reference, evaluation_mode=True)
            )

    def _send_telemetry(self) -> None:
        """TRL tells the hub of every trainer that is made; ours does where the user has said that it may."""
        if "HF_HUB_DISABLE_TELEMETRY" in os.environ:  # which the hub's library reads itself: 0 allows it
            super()._send_telemetry()

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        book, latent = self.book, self.book.frame.latent
        asked = {prompt: book.frame.prompt(prompt, book.mode, self.num_thoughts) for prompt in prompts}
        if book.mode == "latent" and self.num_thoughts == "auto":
            model: Any = self.accelerator.unwrap_model(self.model)
            model = model.get_base_model() if hasattr(model, "get_base_model") else model
            training = model.training
            with self.accelerator.autocast():
                chosen = choose_thoughts(model.eval(), list(asked.values()), book.frame.pad_id)
            model.train(training)
            for ids, k in zip(asked.values(), chosen, strict=True):
                ids += [*[latent.thought_id] * k, latent.eot_id]
        return [list(asked[prompt]) for prompt in prompts], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        # TRL samples from a model with an adapter outside autocast, which wraps the outermost forward alone: in another
        # precision than that of training, and not at all on frozen weights in bfloat16.
        with nullcontext() if self.use_vllm else self.accelerator.autocast():
            return super()._generate_single_turn(*args, **kwargs)

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        theirs: Any = super()._get_train_sampler(dataset)
        return EpochSampler(
            theirs.data_source, theirs.mini_repeat_count, theirs.batch_size, theirs.repeat_count, theirs.shuffle,
            theirs.seed,
        )  # fmt: skip

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """TRL's loss of a batch of completions."""
        self.note_batch(inputs)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def progress(self) -> dict[str, Any]:
        arguments: Any = self.args
        midway = self._step % (arguments.steps_per_generation * self.num_iterations) != 0
        return super().progress() | {
            "step": self._step,
            "metrics": {name: list(values) for name, values in self._metrics["train"].items()},
            # rollouts that further steps will learn from
            "rollouts": self._buffered_inputs if midway else None,
            "samples": [vars(sample) for sample in self.book.last] if midway else [],
        }

    def restore(self, progress: dict[str, Any]) -> None:
        super().restore(progress)
        self._step = progress["step"]
        self._metrics["train"].update(progress["metrics"])
        self.book.last = [Sample(**sample) for sample in progress["samples"]]
        if progress["rollouts"] is not None:
            self._buffered_inputs: Any = [self._on_device(part) for part in progress["rollouts"]]

    def _on_device(self, part: dict[str, Any]) -> dict[str, Any]:
        return {key: value.to(self.args.device) if isinstance(value, Tensor) else value for key, value in part.items()}
