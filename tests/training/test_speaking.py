"""What a run says and keeps: its log in TensorBoard, checkpoints of itself, the best of them, the bar, slow numbers."""

import itertools
import json
import time
from types import SimpleNamespace

import pytest
import torch
from rich.cells import cell_len
from safetensors.torch import load_file

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.errors import ConfigError, RunError
from latent_gemma.model.prompt import Frame
from latent_gemma.training import callbacks
from latent_gemma.training import run as run_module
from latent_gemma.training.checkpoints import list_checkpoints
from latent_gemma.training.clean_stop import Stop
from latent_gemma.training.curriculum import AnnealCurriculum, WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.run import bfloat16_takes
from latent_gemma.training.run_log import RunLog, describe_curriculum, read_metrics
from latent_gemma.training.settings import LoraSettings, TrainSettings

CHAINS = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 16))
HELD_OUT = list(itertools.islice(chain_examples(ChainConfig(2), "test", 0), 5))
SHORT = {"batch_size": 4, "lr": 1e-3, "log_every": 1}


def test_tensorboard_reads_what_the_run_logged(make_model, tokenizer, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    settings = TrainSettings(steps=3, report_to="tensorboard", **SHORT)
    fit(make_model(num_thoughts=2), tokenizer, CHAINS, AnnealCurriculum(), settings, tmp_path, "t")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [entry for entry in read_metrics(tmp_path / "metrics.jsonl") if "loss" in entry]
    names = ["loss", "p", "K", "halt_loss", "anchor_loss", "anchor_weight", "grad_norm"]
    for name in [*names, "latent_grad_norm_1", "latent_grad_norm_2"]:
        read = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert read == pytest.approx({entry["step"]: entry[name] for entry in logged}, rel=1e-5, abs=1e-7)
    assert not list((tmp_path / "checkpoints").iterdir()), "its files are not among the checkpoints"


def test_a_library_that_is_missing_is_told_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("latent_gemma.training.settings.find_spec", lambda name: None)
    TrainSettings()
    with pytest.raises(ConfigError, match="--report-to wandb needs wandb: pip install wandb"):
        TrainSettings(report_to="wandb")


@pytest.mark.parametrize(
    ("step_s", "save_s", "expected"),
    [
        (1.0, 2.0, list(range(100, 1001, 100))),  # every tenth
        (2.0, 5.0, list(range(100, 1001, 100))),
        (30.0, 5.0, None),  # a tenth is 50 minutes: every ten
        (0.001, 0.2, []),  # over before a checkpoint is worth it
        (1.0, 40.0, None),  # a tenth of the time, and no more
    ],
)
def test_a_run_saves_every_tenth_and_every_ten_minutes(monkeypatch, step_s, save_s, expected):
    now, saved, gaps = [50.0], [], [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stop = Stop(now[0], saves=True)
    stop.begin(0)
    for step in range(1, 1001):
        stop.step_began()
        now[0] += step_s
        stop.step_ended()
        if stop.save_is_due(step, 1000):
            saved.append(step)
            gaps.append(now[0])
            now[0] += save_s
            stop.saved()
    between = [after - before for before, after in itertools.pairwise(gaps)]
    assert max(between, default=0.0) <= 600.0 + step_s + save_s
    assert min(between[1:], default=1e9) >= min(10 * save_s, 600.0), "saving takes a tenth of the time"
    assert expected is None or saved == expected
    if step_s == 30.0:
        assert between[0] == 600.0
    assert not Stop(0.0).save_is_due(1000, 1000), "unless it is asked to"


def test_without_an_interval_a_run_saves_by_itself_and_goes_on(make_model, tokenizer, tmp_path, monkeypatch):
    """Every third of the run here, and no time has to pass."""
    monkeypatch.setattr("latent_gemma.training.clean_stop.SAVES", 3)
    monkeypatch.setattr("latent_gemma.training.clean_stop.LEAST_SAVE_S", 0.0)
    monkeypatch.setattr("latent_gemma.training.clean_stop.SAVING_SHARE", 1e9)
    settings = TrainSettings(steps=9, **SHORT)
    lora = LoraSettings(rank=2, dropout=0.3)
    arguments = (tokenizer, CHAINS, WrittenCurriculum(), settings)
    whole = fit(make_model(), *arguments, tmp_path / "whole", "t", lora, held_out=HELD_OUT)
    # whether checkpoints are scored, and how often there are any, changes nothing
    plain = fit(make_model(), *arguments[:3], TrainSettings(steps=9, save_every=0, **SHORT), tmp_path / "no", "t", lora)
    losses = [[entry["loss"] for entry in result.metrics if "loss" in entry] for result in (whole, plain)]
    assert losses[0] == losses[1]
    kept = [path.name for path in list_checkpoints(tmp_path / "whole")]
    assert kept[-2:] == ["checkpoint-6", "checkpoint-9"]
    (tmp_path / "whole" / "checkpoints" / "checkpoint-9").rename(tmp_path / "gone")
    again = fit(make_model(), *arguments, tmp_path / "whole", "t", lora, resume=True, held_out=HELD_OUT)
    assert [entry["loss"] for entry in again.metrics if "loss" in entry] == losses[0]
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, whole.model.state_dict()[name]), name


def test_the_best_checkpoint_is_that_of_the_least_held_out_loss(make_model, tokenizer, tmp_path, capsys):
    """By hand: the written row of each example through the stock forward pass."""
    settings = TrainSettings(steps=6, save_every=1, batch_size=4, lr=0.3, log_every=1)
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    scores = {}

    def by_hand(folder):
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        total = count = 0
        for example in HELD_OUT:
            steps = [token for step in example.steps for token in frame.text_ids(step + frame.latent.step_separator)]
            answer = [*frame.text_ids(example.answer), frame.end_id]
            ids = [*frame.question_ids(example.question), frame.latent.bot_id, *steps, frame.latent.eot_id, *answer]
            behind = len(ids) - len(steps) - len(answer) - 1
            logits = model(input_ids=torch.tensor([ids])).logits[0, behind - 1 : -1]
            total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[behind:]), reduction="sum"))
            count += len(ids) - behind
        return total / count

    class Noted(run_module.RestoreProgress):
        def on_save(self, args, state, control, **kwargs):
            newest = list_checkpoints(tmp_path)[-1]
            scores[newest.name] = json.loads((newest / "score.json").read_text())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "RestoreProgress", Noted)
        fit(make_model(), tokenizer, CHAINS, WrittenCurriculum(), settings, tmp_path, "t", held_out=HELD_OUT)
    assert {score["kind"] for score in scores.values()} == {"held-out loss"}
    assert len(scores) == 6
    best = min(scores, key=lambda name: scores[name]["value"])
    kept = list_checkpoints(tmp_path)
    assert {path.name for path in kept} == {best, "checkpoint-5", "checkpoint-6"}
    with torch.no_grad():
        for folder in kept:
            assert by_hand(folder) == pytest.approx(scores[folder.name]["value"], rel=1e-4)
    said = " ".join(capsys.readouterr().out.split())
    assert "a checkpoint every 1 steps, the last two and the best by the loss of 5 held-out rows are kept" in said


def test_a_disk_without_room_is_told_before_the_first_step(make_model, tokenizer, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr("latent_gemma.training.whole_checkpoints.shutil.disk_usage", lambda path: usage)
    run = (make_model(), tokenizer, CHAINS, WrittenCurriculum())
    with pytest.raises(
        RunError, match=r"four at a time, do not fit into .*1 MiB are free: make room, or .*save-every 0"
    ):
        fit(*run, TrainSettings(steps=1, **SHORT), tmp_path, "t")
    assert not any(tmp_path.iterdir())
    assert fit(*run, TrainSettings(steps=1, save_every=0, **SHORT), tmp_path, "t").finished


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_slow_bfloat16_is_measured_and_told(make_model, tokenizer, tmp_path, monkeypatch, capsys):
    with torch.backends.mkldnn.flags(enabled=False):
        assert bfloat16_takes() > 2, "without the library that uses the instructions"
    for times, told in ((87.4, True), (1.2, False)):
        monkeypatch.setattr(run_module, "bfloat16_takes", lambda times=times: times)
        settings = TrainSettings(steps=1, precision="bfloat16", **SHORT)
        fit(make_model(), tokenizer, CHAINS, WrittenCurriculum(), settings, tmp_path / str(told), "t")
        said = " ".join(capsys.readouterr().out.split())
        assert ("bfloat16 is slow on this CPU: a product of matrices takes 87 times as long" in said) == told


@pytest.mark.parametrize(("columns", "shown"), [("80", ("loss 5.151", "p 0.45", "K 12")), ("40", ())])
def test_the_bar_keeps_what_matters_at_any_width(columns, shown, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", columns)
    log = RunLog(tmp_path, "3/8, 12 min left: 注釈付き", describe_curriculum, "tokens")
    log.begin(0, 4000)
    log.write(1000, {"loss": 5.1514, "p": 0.45, "K": 12, "stage": 3, "tokens": 9999, "latent_grad_norm_1": 1e-3})
    log.step_ended(1000)
    log.end()
    (*_, line) = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert "1000/4000, " in line
    assert all(part in line for part in shown)
    assert shown == () or cell_len(line) <= int(columns)


def test_the_time_left_is_that_of_steps_behind_the_first(monkeypatch, capsys, tmp_path):
    """The first is slow: libraries load, memory is fetched."""
    seconds = iter([60.0, 62.0, 64.0, 66.0])
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    said = callbacks.Announcement("t", tmp_path, TrainSettings(), brief=False)
    for step in (1, 2, 3, 4):
        said.on_step_end(None, SimpleNamespace(global_step=step, max_steps=64, is_world_process_zero=True), None)
    assert "about 2 min for the other 60 steps" in capsys.readouterr().out
