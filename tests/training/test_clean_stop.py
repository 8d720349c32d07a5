"""Runs that end early, by the clock or by a signal, end with a checkpoint that goes on."""

import os
import signal
import time

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.errors import ConfigError
from latent_gemma.training.checkpoints import last_checkpoint
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.curriculum import WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.settings import TrainSettings

chains = chain_examples(ChainConfig(2), "train", 0)
CHAINS = [next(chains) for _ in range(24)]


def losses(result):
    return [entry["loss"] for entry in result.metrics if "loss" in entry]


def test_three_short_sessions_give_the_curve_of_a_long_one(make_model, tokenizer, tmp_path, monkeypatch):
    settings = TrainSettings(steps=9, batch_size=4, lr=1e-3, log_every=1)
    whole = fit(make_model(), tokenizer, CHAINS, WrittenCurriculum(), settings, tmp_path / "whole", "t")
    monkeypatch.setattr("latent_gemma.training.clean_stop.LEAST_SAVE_S", 0.0)
    short = TrainSettings(steps=9, batch_size=4, lr=1e-3, log_every=1, max_hours=1e-9)
    reached = []
    for session in range(9):
        result = fit(
            make_model(seed=session), tokenizer, CHAINS, WrittenCurriculum(), short, tmp_path / "cut", "t",
            resume=session > 0,
        )  # fmt: skip
        reached.append(result.steps)
        if result.finished:
            break
    assert reached == list(range(1, 10)), "a session that is over stops after one step"
    assert losses(result) == losses(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step(make_model, tokenizer, tmp_path, monkeypatch, number):
    begin = CleanStop.on_step_begin

    def strike(self, args, state, control, **kwargs):
        begin(self, args, state, control, **kwargs)
        if state.global_step == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(CleanStop, "on_step_begin", strike)
    before = signal.getsignal(number)
    settings = TrainSettings(steps=9, batch_size=4, lr=1e-3)
    result = fit(make_model(), tokenizer, CHAINS, WrittenCurriculum(), settings, tmp_path, "t")
    assert (result.finished, result.steps) == (False, 3)
    assert last_checkpoint(tmp_path)[0].name == "checkpoint-3"
    assert signal.getsignal(number) is before


def test_two_more_steps_and_a_checkpoint_must_still_fit(make_model, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stop = CleanStop(started_s=100.0, max_hours=1.0)
    arguments = TrainingArguments(use_cpu=True)
    stop.on_train_begin(arguments, TrainerState(), TrainerControl(), model=make_model())
    stopped_s = 0.0
    for _ in range(100):
        control = TrainerControl()
        stop.on_step_begin(arguments, TrainerState(), control)
        now[0] += 60.0
        stop.on_step_end(arguments, TrainerState(), control)
        if control.should_training_stop:
            stopped_s = now[0] - 100.0
            assert control.should_save
            break
        now[0] += 20.0  # a checkpoint
        stop.on_save(arguments, TrainerState(), control)
    stop.on_train_end(arguments, TrainerState(), control)
    assert 3600 - 2 * 60 - 20 - 80 <= stopped_s <= 3600 - 2 * 60 - 20 + 60


def test_no_time_is_refused():
    with pytest.raises(ConfigError, match="--max-hours 0"):
        TrainSettings(max_hours=0.0)
