"""Checkpoints are whole or refused, survive a full disk, and the last good one is never deleted."""

import errno
import json
import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latent_gemma.cli import main
from latent_gemma.errors import RunError
from latent_gemma.recipes.stage import LOCK, run_folder
from latent_gemma.training import states
from latent_gemma.training.checkpoints import find_damage, last_checkpoint, list_checkpoints, refuse_damaged, rotate
from latent_gemma.training.clean_stop import CleanStop


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint with a manifest, small enough to be damaged in many ways."""
    from latent_gemma.training.checkpoints import write_manifest

    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "checkpoint-2"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4)
    (folder / "trainer_state.json").write_text('{"global_step": 2}')
    (folder / "deep" / "part.json").write_text("{}")
    write_manifest(folder)
    return folder


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_flipped_bit_and_every_cut_is_found(checkpoint, data):
    assert find_damage(checkpoint) is None
    path = data.draw(st.sampled_from(sorted(p for p in checkpoint.rglob("*") if p.is_file())))
    before = path.read_bytes()
    if data.draw(st.booleans()):
        bit = data.draw(st.integers(0, 8 * len(before) - 1))
        after = bytearray(before)
        after[bit // 8] ^= 1 << bit % 8
    else:
        after = before[: data.draw(st.integers(0, len(before) - 1))]
    path.write_bytes(after)
    try:
        assert find_damage(checkpoint) is not None or (path.name == "manifest.json" and after.strip() == before.strip())
    finally:
        path.write_bytes(before)


def test_a_damaged_checkpoint_is_refused_and_auto_takes_the_last_good_one(train, undisturbed, tmp_path, logged, capsys):
    train(tmp_path / "run")
    newest = list_checkpoints(tmp_path / "run")[-1]
    values = newest / "optimizer.safetensors"
    flipped = bytearray(values.read_bytes())
    flipped[-1] ^= 1
    values.write_bytes(flipped)
    with pytest.raises(RunError, match=r"checkpoint-6 is damaged: optimizer.*the last good one is checkpoint-4, which"):
        refuse_damaged(tmp_path / "run")
    capsys.readouterr()
    train(tmp_path / "run", resume=True)
    assert "going on from checkpoint-4" in capsys.readouterr().out
    assert logged(tmp_path / "run") == undisturbed
    assert find_damage(newest) is None, "written anew"
    for path in list_checkpoints(tmp_path / "run"):
        (path / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"checkpoint-6 is damaged: it has no manifest.json, and no other one is whole"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("fault", ["no space", "file size", "torch's writer"])
def test_a_full_disk_leaves_the_checkpoint_before(train, undisturbed, tmp_path, logged, monkeypatch, fault):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def no_room(self, args, state, control, **kwargs):
        if state.global_step != 3:
            return
        if fault == "file size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
        elif fault == "no space":
            monkeypatch.setattr(states, "save_file", full)
        else:
            save = torch.save
            monkeypatch.setattr(torch, "save", lambda value, path: save(value, "/dev/full"))

    def full(tensors, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(CleanStop, "on_step_begin", no_room)
        try:
            with pytest.raises(RunError, match=r"step 4 cannot be saved .* it needs .* are free.*from checkpoint-2"):
                train(tmp_path / "run")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert find_damage(tmp_path / "run" / "checkpoints" / "checkpoint-2") is None
    train(tmp_path / "run", resume=True)
    assert logged(tmp_path / "run") == undisturbed


def test_no_room_for_the_model_loses_nothing(tmp_path, monkeypatch, capsys):
    options = "--data chains:length=2 --limit 8 --steps 2 --batch-size 2 --save-every 1 --resume auto"
    command = ["train", "sft", "--model", "tiny", "--out", str(tmp_path / "run"), *options.split()]

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("latent_gemma.recipes.stage.whole_folder", full)
        assert main(command) == 2
    assert "the model cannot be saved" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoints", "metrics.jsonl", "settings.json"}
    assert main(command) == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); "
        "time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", hold, str(out / LOCK)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline()
        for resume in (False, True):
            with pytest.raises(RunError, match="is in use by another process"), run_folder(out, resume):
                raise AssertionError
    finally:
        other.kill()
        other.communicate()
    with run_folder(out, resume=False), pytest.raises(RunError, match="in use"), run_folder(out, resume=True):
        raise AssertionError
    assert list(out.iterdir()) == []


@given(steps=st.sets(st.integers(1, 30), min_size=1), limit=st.integers(1, 4), chosen=st.integers(0, 29))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_best_and_the_newest_are_never_deleted(tmp_path_factory, steps, limit, chosen):
    run = tmp_path_factory.mktemp("run")
    best, last = sorted(steps)[chosen % len(steps)], max(steps)
    for step in steps:
        folder = run / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        # what was scored by something else is no better, and what is not scored neither
        score = {"kind": "loss", "value": 0.5 if step == best else 1.0 + step}
        other = {"kind": "other", "value": 0.0} if step % 2 else {}
        (folder / "score.json").write_text(json.dumps(score if step in (best, last) else other))
    rotate(run / "checkpoints", limit)
    kept = {int(path.name.split("-")[1]) for path in list_checkpoints(run)}
    assert kept == {*sorted(steps)[-limit:], best}
    assert len(list((run / "checkpoints").iterdir())) == len(kept)


def test_what_is_saved_holds_no_pickle_and_comes_back(train, tmp_path):
    train(tmp_path)
    newest, refused = last_checkpoint(tmp_path)
    assert (newest.name, refused) == ("checkpoint-6", [])
    assert {path.suffix for path in newest.iterdir()} == {".json", ".safetensors"}
    value = {"a": [1, (2.5, None)], 3: {"t": torch.arange(6).view(2, 3).T, "s": torch.tensor(1.5)}, "x": [float("inf")]}
    states.write_state(tmp_path / "state", value)
    back = states.read_state(tmp_path / "state")
    assert torch.equal(back[3].pop("t"), value[3].pop("t"))
    assert torch.equal(back[3].pop("s"), value[3].pop("s"))
    assert back == value
    with pytest.raises(TypeError, match="a set has no place"):
        states.write_state(tmp_path / "state", {1})
