"""GRPO in Tunix: its `GRPOLearner` set to what TRL computes with `engines.trl`'s settings, in the same run folder."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import jax
import numpy as np
import torch
from trl.trainer.utils import nanstd
from tunix.rl.function_registry import register_advantage_estimator
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner, TrainExample
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig
from tunix.rl.utils import get_batch_slice

from latent_gemma.data.example import Example
from latent_gemma.engines.tunix.carried import Carried
from latent_gemma.engines.tunix.framed_rollout import FramedRollout, PromptIds
from latent_gemma.engines.tunix.guarded_steps import guarded_adamw
from latent_gemma.engines.tunix.session import LENGTH_STEP, Session
from latent_gemma.errors import ConfigError
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.text.rewards import Reward
from latent_gemma.training.batches import OnBad
from latent_gemma.training.data_order import planned_rollout_steps, rollout_questions
from latent_gemma.training.grpo_questions import groups_of, sound_questions
from latent_gemma.training.reward_watch import RewardWatch, SampleTable
from latent_gemma.training.rewarding import RewardBook, Sample
from latent_gemma.training.run import FitResult, Run
from latent_gemma.training.run_log import describe_rewards, read_metrics
from latent_gemma.training.settings import GrpoSettings, LoraSettings, TrainSettings

#: What Tunix measures of a batch -> TRL's name of it.
_MEASURED = {"kl": "kl", "entropy": "entropy", "pg_clipfrac": "clip_ratio/region_mean"}


@register_advantage_estimator("trl")
def trl_advantages(rewards: np.ndarray, num_generations: int) -> np.ndarray:
    """Advantages as TRL computes them; Tunix's own adds 1e-6 to the deviation and takes what has no score for 0.

    Args:
        rewards: [N] float32, groups one after the other; NaN where no reward gave a score.
        num_generations: completions in a group.

    Returns:
        [N] float32.
    """
    groups = torch.from_numpy(rewards).view(-1, num_generations)
    spread = nanstd(groups, dim=1)[:, None]
    return ((groups - groups.nanmean(dim=1, keepdim=True)) / (spread + 1e-4)).nan_to_num(nan=0.0).view(-1).numpy()


class Cluster(RLCluster):
    """Tunix's models and trainer, the trainer fed with batches of so many completions.

    Args:
        batch_size: completions in a batch.
    """

    def __init__(self, batch_size: int, **kwargs: Any) -> None:
        self.batch_size = batch_size
        super().__init__(**kwargs)

    def update_actor(self, train_ds: Sequence[TrainExample], eval_ds: Any, skip_jit: bool = False) -> None:
        size = self.batch_size
        starts = range(0, len(train_ds[0].completion_ids), size)
        parts = [get_batch_slice(train_ds[0], slice(start, start + size)) for start in starts]
        super().update_actor(parts, eval_ds, skip_jit)

    def buffer_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: JAX's listeners, to which Tunix would tell its metrics, are global."""

    def close(self) -> None:
        """Nothing: Tunix's takes all listeners off JAX, and writes a checkpoint that does not know its step."""


class _GrpoSession(Session):
    """See `Session`.

    Args:
        book: scores completions.
        table: of samples.
        watch: of the rewards.
        questions: of the run.
        groups: of a step.
        grpo: what is particular to GRPO.
    """

    def __init__(
        self, run: Run, trainer: Any, adapted: bool, planned: int, book: RewardBook, table: SampleTable,
        watch: RewardWatch, questions: Sequence[Example], groups: int, grpo: GrpoSettings,
    ) -> None:  # fmt: skip
        a_pass, log = len(questions) // groups * grpo.iterations, run.log(describe_rewards, "num_tokens")
        super().__init__(run, trainer, adapted, planned, a_pass, log)
        self.book, self.table, self.watch = book, table, watch
        self.questions, self.groups, self.grpo = questions, groups, grpo
        self.max_new_tokens = grpo.max_new_tokens
        #: beside what `Session` has: values since the last entry, rollouts that further steps learn from
        self.progress |= {"metrics": {}, "rollouts": None, "samples": []}

    def restore(self) -> None:
        super().restore()
        self.book.last = [Sample(**sample) for sample in self.progress["samples"]]

    def work(self, learner: "_Learner") -> None:
        """Have Tunix take the steps that are left."""
        self.watch.begin(read_metrics(self.log.path) if self.log.path.exists() else [])
        self.table.begin(self.done)
        steps = self.left()
        # Tunix cannot begin where there is nothing to do
        for first in steps:
            with learner.executor:
                learner.train({"prompts": self._asked()} for _ in chain([first], steps))
        self.watch.end()

    @property
    def has_rollouts(self) -> bool:
        """Whether the next step learns from rollouts that are there already."""
        return self.done % self.grpo.iterations > 0

    @property
    def batch(self) -> int:
        """Number of the batch of rollouts that the next step learns from, from 0."""
        return self.done // self.grpo.iterations

    def _asked(self) -> np.ndarray:
        count, seed = len(self.questions), self.run.settings.seed
        return np.array([str(i) for i in rollout_questions(self.batch, count, self.groups, seed)])

    def note(self, values: dict[str, Any]) -> None:
        """Have the next log entry hold the mean of these and all other values of their names."""
        for name, value in values.items():
            self.progress["metrics"].setdefault(name, []).append(float(value))

    def note_batch(self, metrics: dict[str, Any]) -> None:
        self.note({theirs: metrics[ours] for ours, theirs in _MEASURED.items() if ours in metrics})

    def step_ended(self) -> None:
        self.table.step_ended(self.done, self.book.last)
        if not self.has_rollouts:
            self.progress |= {"rollouts": None, "samples": []}

    def entry(self, loss: float) -> dict[str, Any]:
        metrics, self.progress["metrics"] = self.progress["metrics"], {}
        known = {name: [value for value in values if not math.isnan(value)] for name, values in metrics.items()}
        return {name: fmean(values) for name, values in known.items() if values}

    def write(self, logs: dict[str, Any]) -> None:
        super().write(logs)
        self.watch.write(logs)


class _Learner(GRPOLearner):
    """Tunix's learner, with rollouts, rewards and steps as TRL has them.

    One step of Tunix's loop is one step of the optimiser; with several iterations the rollouts stay for the next.

    Args:
        session: of the run.
        cluster: models, trainer and rollout.
        config: of the algorithm.
    """

    def __init__(self, session: _GrpoSession, cluster: RLCluster, config: GRPOConfig) -> None:
        self.session = session
        super().__init__(cluster, config, [_no_reward])
        share, loss_of = 1.0 / session.run.settings.accumulate, cluster.actor_trainer.loss_fn
        measured = [name for name in _MEASURED if name != "kl" or config.beta]

        def loss_share(model: Any, train_example: TrainExample, algo_config: GRPOConfig) -> tuple[Any, dict[str, Any]]:
            # all batches have as many completions, none of them empty: the mean of their means is the step's
            loss, aux = loss_of(model, train_example, algo_config)
            return share * loss, {name: aux[name] for name in measured}

        cluster.actor_trainer.with_loss_fn(loss_share, has_aux=True)
        cluster.actor_trainer.with_rl_metrics_to_log(dict.fromkeys(measured, np.mean))

    def _num_iterations(self) -> int:
        return 1

    def _prepare_data(self, *args: Any, **kwargs: Any) -> None:
        with self.session.precise():  # Tunix calls this in a thread of its own
            super()._prepare_data(*args, **kwargs)

    def _process_accumulated_batches(self, micro_batches: list[Any], *args: Any, **kwargs: Any) -> list[TrainExample]:
        session = self.session
        if not micro_batches:
            return []
        if not session.has_rollouts:
            self.rl_cluster.rollout.begin_batch(session.batch)
            (made,) = super()._process_accumulated_batches(micro_batches, *args, **kwargs)
            drawn = {field.name: getattr(made, field.name) for field in fields(made)}
            kept = {name: torch.tensor(np.asarray(value)) for name, value in drawn.items() if value is not None}
            session.progress |= {"rollouts": kept, "samples": [vars(sample) for sample in session.book.last]}
            self._note_lengths(kept)
        arrays = {name: value.numpy() for name, value in session.progress["rollouts"].items()}
        return [TrainExample(**{"ref_per_token_logps": None, "old_per_token_logps": None} | arrays)]

    def _compute_rewards(self, prompts: list[str], completions: list[str], *args: Any, **kwargs: Any) -> np.ndarray:
        session = self.session
        asked = [session.questions[int(number)] for number in prompts]
        rows = [(example.question, example.answers) for example in asked]
        scores = torch.tensor(session.book.score(rows, completions)).T  # [N, rewards]
        rewards = scores.nansum(dim=1)
        rewards[scores.isnan().all(dim=1)] = torch.nan
        for name, column in zip(session.book.names, scores.T, strict=True):
            session.note({f"rewards/{name}/mean": column.nanmean(), f"rewards/{name}/std": nanstd(column)})
        spreads = nanstd(rewards.view(-1, self._num_generations()), dim=1)
        flat = spreads.isclose(torch.zeros(())).float().mean()
        session.note({"reward": rewards.nanmean(), "reward_std": nanstd(rewards), "frac_reward_zero_std": flat})
        return rewards.numpy()

    def _note_lengths(self, rollouts: dict[str, torch.Tensor]) -> None:
        session = self.session
        lengths = rollouts["completion_mask"].sum(dim=1)
        last = rollouts["completion_ids"].gather(1, lengths[:, None] - 1)[:, 0]
        ended = torch.isin(last, torch.tensor(session.book.frame.end_ids))
        session.progress["tokens"] += int(lengths.sum() + rollouts["prompt_mask"].sum())
        session.progress["metrics"]["num_tokens"] = [session.progress["tokens"]]
        session.note({"completions/clipped_ratio": 1.0 - ended.float().mean()})
        for what, some in (("", lengths), ("_terminated", lengths[ended] if ended.any() else torch.zeros(1))):
            found = {"mean": some.float().mean(), "min": some.min(), "max": some.max()}
            session.note({f"completions/{name}{what}_length": value for name, value in found.items()})


def published(grpo: GrpoSettings, beta: float) -> GRPOConfig:
    """Tunix's configuration of the published algorithm; its estimate of the KL divergence is another one by default.

    Args:
        grpo: what is particular to GRPO.
        beta: weight of the KL divergence to the model the run started from.

    Returns:
        The configuration.

    Source: see `engines.trl.fit_grpo.grpo_arguments`.
    """
    return GRPOConfig(
        num_generations=grpo.num_generations, num_iterations=grpo.iterations, beta=beta, epsilon=0.2,
        kl_loss_mode="low_var_kl", advantage_estimator="trl",
    )  # fmt: skip


def _no_reward(**kwargs: Any) -> list[float]:
    """Stands where Tunix wants a reward; ours are asked by `_Learner`."""
    raise NotImplementedError


def rollout_config(book: RewardBook, width: int, settings: TrainSettings, grpo: GrpoSettings) -> RolloutConfig:
    """How completions are drawn: from all of the distribution, until one of the ids that end an answer.

    Args:
        book: has the model's frame.
        width: of the prompts.
        settings: the optimisation.
        grpo: what is particular to GRPO.

    Returns:
        Tunix's settings of a rollout, with the key of the run.
    """
    return RolloutConfig(
        max_tokens_to_generate=grpo.max_new_tokens, max_prompt_length=width, kv_cache_size=width + grpo.max_new_tokens,
        # without top_p it would be greedy
        temperature=grpo.temperature, top_p=1.0, top_k=None, seed=jax.random.PRNGKey(settings.seed),
        eos_tokens=list(book.frame.end_ids),
    )  # fmt: skip


def prompt_width(prompts: Sequence[Sequence[int]], window: int, grpo: GrpoSettings) -> int:
    """The one length that all prompts are padded to.

    Args:
        prompts: their ids.
        window: of the sliding layers.
        grpo: what is particular to GRPO.

    Returns:
        Positions.

    Raises:
        ConfigError: if a prompt and its completion are longer than the window: Tunix counts a window from the start of
            the padding on the left.
    """
    longest, room = max(map(len, prompts)), window - grpo.max_new_tokens
    if longest > room:
        raise ConfigError(
            f"--engine tunix with --max-new-tokens {grpo.max_new_tokens} behind prompts of up to {longest} tokens: "
            f"beyond the window of {window} Tunix computes otherwise",
            f"--max-new-tokens {window - longest}, or --engine torch" if longest < window else "take --engine torch",
        )
    return min(room, math.ceil(longest / LENGTH_STEP) * LENGTH_STEP)


def _cluster(
    carried: Carried, book: RewardBook, prompts: Sequence[list[int]], settings: TrainSettings, grpo: GrpoSettings,
    beta: float, planned: int, groups: int,
) -> RLCluster:  # fmt: skip
    most = carried.model.config.max_position_embeddings
    width = prompt_width(prompts, carried.config.sliding_window_size or most, grpo)
    fitting = max(1, settings.batch_size // grpo.num_generations)
    at_once = next(size for size in range(fitting, 0, -1) if groups % size == 0)
    training = RLTrainingConfig(
        actor_optimizer=guarded_adamw(settings, planned), eval_every_n_steps=1, max_inflight_computations=1,
        max_steps=planned * settings.accumulate, rollout_micro_batch_size=at_once,
        compute_logps_micro_batch_size=at_once,
    )  # fmt: skip
    rollout = rollout_config(book, width, settings, grpo)
    base = carried.base()
    reference = None if not beta else base if carried.lora is not None else carried.base()
    cluster = Cluster(
        settings.batch_size, actor=carried.trained(base), reference=reference, tokenizer=PromptIds(book, prompts),
        cluster_config=ClusterConfig(
            role_to_mesh=dict.fromkeys((Role.ACTOR, Role.REFERENCE, Role.ROLLOUT), carried.mesh),
            rollout_engine=FramedRollout, training_config=training, rollout_config=rollout,
        ),
    )  # fmt: skip
    cluster.actor_trainer.config.max_steps = None  # else it shows a bar of its own
    return cluster


def fit_grpo(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    examples: Sequence[Example],
    rewards: Sequence[Reward],
    mode: Mode,
    settings: TrainSettings,
    grpo: GrpoSettings,
    run: Path,
    lora: LoraSettings,
    beta: float = 0.04,
    title: str = "grpo",
    resume: bool = False,
    started_s: float | None = None,
    on_bad: OnBad | None = None,
    brief: bool = False,
) -> FitResult:
    """Improve a model by the rewards of its own completions; arguments, result and errors as of
    `latent_gemma.engines.trl.fit_grpo.fit_grpo`.

    Questions, their order, loss, advantages, learning rate and optimiser are those of the torch engine; what is drawn
    is JAX's. All prompts are padded on the left to the longest.

    Raises:
        ConfigError: also for what this engine does not train; see `docs/tpu.md`.
        ModelError: for a model that Tunix does not compute as transformers does.
    """
    if mode != "words":
        raise ConfigError("--engine tunix improves models that write words", "train this one with --engine torch")
    if grpo.vllm != "off":
        raise ConfigError(f"--vllm {grpo.vllm} with --engine tunix, which writes its own rollouts", "--vllm off")
    groups = groups_of(settings, grpo)
    carried = Carried(model, settings, lora)
    this = Run.begin(model, run, settings, title, resume, started_s, brief)
    frame, most = Frame(tokenizer, model.config.latent, remembers=True), model.config.max_position_embeddings
    questions = sound_questions(frame, examples, mode, settings, grpo, most, on_bad)
    book, watch = RewardBook(rewards, frame, mode), RewardWatch()
    planned = planned_rollout_steps(len(questions), groups, settings, grpo)
    prompts = [frame.prompt(example.question, mode) for example in questions]
    cluster = _cluster(carried, book, prompts, settings, grpo, beta, planned, groups)
    session = _GrpoSession(
        this, cluster.actor_trainer, carried.lora is not None, planned, book, SampleTable(grpo.sample_every, run),
        watch, questions, groups, grpo,
    )  # fmt: skip
    session.restore()
    learner = _Learner(session, cluster, published(grpo, beta))
    seconds = session.train(carried.mesh, lambda: session.work(learner))
    return replace(session.result(carried, seconds, mode), notes=tuple(watch.notes))
