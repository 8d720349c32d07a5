"""What Tunix does that would spoil a run, each shown, and that it does not happen here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latent_gemma.errors import ConfigError
from latent_gemma.model.prompt import Frame
from latent_gemma.training.rewarding import RewardBook
from latent_gemma.training.settings import GrpoSettings, TrainSettings

from .conftest import needs_tunix

pytestmark = needs_tunix
#: Prompts of different lengths, the first two the same.
PROMPTS = [[2, 40, 41, 42], [2, 40, 41, 42], [2, *range(50, 60)], [2, 90]]
MOST, WIDTH = 12, 16
#: So many ids end a completion that most of them end.
ENDS = tuple(range(1, 60))


class Ends(Frame):
    end_ids = ENDS


@pytest.fixture(scope="module")
def parts(tunix_grpo, tokenizer):
    """A tiny model in torch, in Tunix, our rollout of it and its settings."""
    from latent_gemma.engines.tunix.carried import Carried
    from latent_gemma.engines.tunix.framed_rollout import FramedRollout, PromptIds
    from latent_gemma.model import LatentConfig
    from latent_gemma.model.tiny import build_tiny

    latent = LatentConfig(num_thoughts=0, words_format="tags")
    model = build_tiny(latent=latent, hidden_size=32, num_layers=2, num_heads=2)
    settings, grpo = TrainSettings(batch_size=4), GrpoSettings(num_generations=2, max_new_tokens=MOST, temperature=0.7)
    carried = Carried(model.eval(), settings, None)
    book = RewardBook([], Ends(tokenizer, model.config.latent), "words")
    config = tunix_grpo.rollout_config(book, WIDTH, settings, grpo)
    rollout = FramedRollout(carried.base(), PromptIds(book, PROMPTS), config)
    return model, carried, rollout, config


@pytest.fixture(scope="module")
def vanilla(parts):
    """Tunix's own rollout of the same model, and its settings as a user of Tunix would have them."""
    from tunix.rl.rollout.base_rollout import CacheConfig
    from tunix.rl.rollout.vanilla_rollout import VanillaRollout

    _, carried, rollout, config = parts
    sizes = CacheConfig(128, carried.config.num_layers, carried.config.num_kv_heads, carried.config.head_dim)
    return VanillaRollout(carried.base(), rollout._sampler.tokenizer, sizes), replace(config, seed=None)


def asked(*numbers):
    return [str(number) for number in numbers]


def same(left, right):
    return all(np.array_equal(one, other) for one, other in zip(left.tokens, right.tokens, strict=True))


def test_every_batch_is_drawn_with_other_noise(parts, vanilla):
    _, _, rollout, config = parts
    drawn = {}
    for batch in (0, 1, 0):
        rollout.begin_batch(batch)
        found = [rollout.generate(asked(0, 1, 2, 3), config) for _ in range(2)]
        assert not same(*found)
        if batch in drawn:  # and the same again in a run that goes on
            assert all(map(same, found, drawn[batch]))
        drawn[batch] = found
    assert not same(drawn[0][0], drawn[1][0])
    theirs, options = vanilla
    assert same(theirs.generate(asked(0, 1, 2, 3), options), theirs.generate(asked(0, 1, 2, 3), options))


def test_completions_hold_the_token_that_ended_them(parts, vanilla):
    import jax

    _, _, rollout, config = parts
    theirs, options = vanilla
    tokens, cut = [], []
    for batch in range(4):
        rollout.begin_batch(batch)
        tokens += rollout.generate(asked(0, 1, 2, 3), config).tokens
        cut += theirs.generate(asked(0, 1, 2, 3), replace(options, seed=jax.random.PRNGKey(batch))).tokens
    assert len({int(ids[-1]) for ids in tokens if ids[-1] in ENDS}) > 1
    for ids in tokens:
        assert not np.isin(ids[:-1], ENDS).any()
        assert ids[-1] in ENDS or len(ids) == MOST
    assert not any(np.isin(ids, ENDS).any() for ids in cut)
    assert any(len(ids) < MOST for ids in cut)


def test_the_end_of_the_turn_ends_a_completion(tunix_grpo, parts, tokenizer):
    import copy

    chat = copy.deepcopy(tokenizer)
    chat.chat_template = "{{ messages[0]['content'] }}<start_of_turn>"
    book = RewardBook([], Frame(chat, parts[0].config.latent), "words")
    turn = chat.convert_tokens_to_ids("<end_of_turn>")
    assert tunix_grpo.rollout_config(book, WIDTH, TrainSettings(), GrpoSettings()).eos_tokens == [turn, 1]


def test_old_probabilities_know_the_temperature(parts, vanilla):
    model, _, rollout, config = parts
    rollout.begin_batch(3)
    output = rollout.generate(asked(0, 1, 2, 3), config)
    completions = np.full((4, MOST), -1, np.int32)
    for row, ids in enumerate(output.tokens):
        completions[row, : len(ids)] = ids
    ours = np.asarray(rollout.get_per_token_logps(output.left_padded_prompt_tokens, completions))
    theirs = np.asarray(vanilla[0].get_per_token_logps(output.left_padded_prompt_tokens, completions))
    for row, ids in enumerate(output.tokens):
        whole = torch.tensor([[*PROMPTS[row], *ids.tolist()]])
        with torch.no_grad():
            logits = model(whole).logits[0, len(PROMPTS[row]) - 1 : -1] / config.temperature
        expected = logits.log_softmax(-1).gather(1, whole[0, len(PROMPTS[row]) :, None])[:, 0].numpy()
        np.testing.assert_allclose(ours[row, : len(ids)], expected, atol=1e-5)
        assert np.abs(theirs[row, : len(ids)] - expected).max() > 0.01


def test_it_draws_and_is_not_greedy(parts, vanilla):
    assert parts[3].top_p == 1.0
    theirs, options = vanilla
    # whatever the temperature
    drawn = theirs.generate(asked(0, 1, 2, 3), replace(options, top_p=None, temperature=5.0)).tokens
    assert np.array_equal(*drawn[:2])


def test_prompts_of_any_length_are_compiled_once(parts, vanilla):
    _, _, rollout, config = parts
    for number in range(4):
        rollout.generate(asked(*[number] * 4), config)
    assert rollout._sampler._compiled_prefill_fn._cache_size() == 1
    theirs, options = vanilla
    before = theirs._sampler._compiled_prefill_fn._cache_size()
    for number in (0, 3):
        theirs.generate(asked(*[number] * 4), replace(options, max_prompt_length=1))
    assert theirs._sampler._compiled_prefill_fn._cache_size() == before + 2


def test_a_window_that_padding_shifts_is_refused(tunix_grpo):
    import jax.numpy as jnp
    from flax import nnx
    from tunix.rl import common

    from latent_gemma.engines.tunix.carried import Carried
    from latent_gemma.model import LatentConfig
    from latent_gemma.model.tiny import build_tiny

    window, most, prompt = 12, 6, [2, 40, 41, 42]
    latent = LatentConfig(num_thoughts=0, words_format="tags")
    model = build_tiny(latent=latent, hidden_size=32, num_layers=2, num_heads=2, sliding_window=window).eval()
    carried = Carried(model, TrainSettings(batch_size=2), None)
    module = nnx.split(carried.base())
    completion = jnp.array([[60, 61, 62, 63, 64, 65]])
    with torch.no_grad():
        whole = torch.tensor([[*prompt, *completion[0].tolist()]])
        logits = model(whole).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, whole[0, len(prompt) :, None])[:, 0].numpy()

    def apart(width):
        padded = jnp.array([[-1] * (width - len(prompt)) + prompt])
        found = common.compute_per_token_logps(
            *module, prompt_tokens=padded, completion_tokens=completion, pad_id=-1, eos_id=1
        )
        return np.abs(np.asarray(found)[0] - expected).max()

    grpo = GrpoSettings(num_generations=2, max_new_tokens=most)
    width = tunix_grpo.prompt_width([prompt, [2]], window, grpo)
    assert width == window - most
    assert apart(width) < 1e-5
    assert apart(32) > 1e-3
    with pytest.raises(ConfigError, match="--max-new-tokens 5"):
        tunix_grpo.prompt_width([prompt, [2] * 7], window, grpo)
    assert tunix_grpo.prompt_width([prompt], 4096, grpo) == 32


def test_the_mean_of_means_is_the_mean_for_nobody_writes_nothing(tunix_sft):
    import jax.numpy as jnp
    from tunix.rl.common import aggregate_loss

    losses = jnp.arange(12.0).reshape(4, 3)

    def mean(mask, start=0, end=4):
        part = jnp.array(mask[start:end])
        return float(aggregate_loss(losses[start:end], part, "sequence-mean-token-mean"))

    def halves(mask):
        return (mean(mask, 0, 2) + mean(mask, 2, 4)) / 2

    # a completion that was its end alone, which Tunix cuts off
    empty = [[1, 1, 1], [0, 0, 0], [1, 1, 0], [1, 0, 0]]
    whole = [[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert halves(whole) == pytest.approx(mean(whole))
    assert halves(empty) != pytest.approx(mean(empty), rel=0.01)


def test_a_nan_is_no_reward_of_zero(tunix_sft):
    from tunix.rl.grpo.grpo_learner import GRPOConfig
    from tunix.rl.reward_manager import SequenceRewardManager

    def nothing(prompts, completions, **kwargs):
        return [float("nan"), 1.0]

    found = SequenceRewardManager([nothing], GRPOConfig())(["a", "b"], ["c", "d"])["rewards"]
    assert found.tolist() == [0.0, 1.0]  # here: see `test_advantages_are_those_of_trl`


def test_checkpoints_of_tunix_itself(tunix_sft, tmp_path, monkeypatch):
    import optax
    from flax import nnx
    from orbax import checkpoint
    from tunix.rl.trainer import Trainer
    from tunix.sft.peft_trainer import TrainingConfig

    def trainer():
        config = TrainingConfig(eval_every_n_steps=1, checkpoint_root_directory=str(tmp_path))
        return Trainer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), optax.sgd(0.1), config, lambda: {"global_step": 7})

    first = trainer()
    first._train_steps = 3
    first._save_last_checkpoint()  # as `close` does
    first.checkpoint_manager.close()
    again = trainer()
    assert (again.train_steps, again.restored_global_step()) == (3, 0)
    again.checkpoint_manager.close()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="absolute"):
        checkpoint.CheckpointManager("here").save(0, args=checkpoint.args.JsonSave({}))
    every_none = checkpoint.CheckpointManagerOptions(save_interval_steps=0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.CheckpointManager(str(tmp_path / "zero"), options=every_none).should_save(1)


def test_listeners_are_global_and_ours_hears_and_closes_none(tunix_grpo, parts):
    import jax
    from tunix.sft.metrics_logger import MetricsLogger, MetricsLoggerOptions

    heard = []

    class Backend:
        def log_scalar(self, event, value, **kwargs):
            heard.append(event)

        def close(self):
            pass

    options = MetricsLoggerOptions("", backend_kwargs={"custom_backend": [Backend]})
    of_another_run = MetricsLogger(options)
    jax.monitoring.register_event_listener(lambda event, **kwargs: heard.append(event))
    try:
        MetricsLogger().log("actor", "loss", 1.0, "train", 1)
        assert heard == ["actor/train/loss"]
        cluster = object.__new__(tunix_grpo.Cluster)
        cluster.buffer_metrics({"rewards/sum": ([1.0], np.mean)})
        cluster.close()
        jax.monitoring.record_event("still")
        assert heard == ["actor/train/loss", "still"]
        of_another_run.close()
        jax.monitoring.record_event("nobody hears")
        assert heard == ["actor/train/loss", "still"]
    finally:
        jax.monitoring.clear_event_listeners()
