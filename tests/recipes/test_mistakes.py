"""Mistakes do not poison the retry: what failed leaves nothing behind that the corrected command stumbles over."""

import errno
import json
import sys
from pathlib import Path

import pytest

from latent_gemma.cli import main
from latent_gemma.model import LatentConfig, loading
from latent_gemma.ranges import missing, nearest_path
from latent_gemma.recipes import resume as resuming
from latent_gemma.training import callbacks
from latent_gemma.training.trainer import CurriculumTrainer
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
TRAIN = ["--model", "m", "--data", "rows.jsonl", "--steps", "1", "--batch-size", "4", "--out", "runs/out"]
GRPO = [*TRAIN, "--num-generations", "4", "--max-new-tokens", "2", "--sample-every", "0"]
COMMANDS = {
    "train sft": TRAIN,
    "train coconut": TRAIN,
    "train anneal": TRAIN,
    "train pause": TRAIN,
    "train internalize": TRAIN,
    "train codi": [*TRAIN, "--num-thoughts", "2"],
    "train grpo": GRPO,
    "study": [*TRAIN, "--holdout", "2", "--methods", "none", "--max-new-tokens", "2", "--controls", "none"],
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A model and rows, and what is like them and cannot be used."""
    here = tmp_path_factory.mktemp("sound")
    save_tiny(here / "m", latent=LatentConfig(num_thoughts=1), **SIZES)
    rows = [{"question": f"{i}+{i}=", "steps": [f"{2 * i}"], "answer": str(2 * i)} for i in range(12)]
    lines = [json.dumps(row) for row in rows]
    (here / "rows.jsonl").write_text("\n".join(lines))
    (here / "broken.jsonl").write_text("\n".join([*lines, '{"question": 3}']))
    (here / "empty.jsonl").write_text("")
    (here / "long.jsonl").write_text("\n".join([*lines, json.dumps(rows[1] | {"question": "1" * 3000})]))
    return here


@pytest.fixture
def here(sound, tmp_path, monkeypatch):
    for path in sound.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys, *command):
    """Exit status, and the only line on the standard error that is the command's own."""
    capsys.readouterr()
    code = main([str(part) for part in command])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("latent-gemma: ")]
    assert len(lines) == (1 if code else 0), lines
    return code, "".join(lines)


def failing(where, name, error):
    """What breaks a run on its way."""

    def broken(*args, **kwargs):
        raise error

    return lambda patch: patch.setattr(where, name, broken)


#: What is wrong, in options or on the way -> what is said of it.
FULL = OSError(errno.ENOSPC, "No space left on device", "runs/out/metrics.jsonl")
MISTAKES = [
    (["--data", "broken.jsonl"], None, "line 13"),
    (["--data", "row.jsonl"], None, "there is no file row.jsonl: did you mean rows.jsonl?"),
    (["--data", "long.jsonl"], None, "tokens"),
    (["--model", "m/modle"], None, "there is no model at m/modle"),
    (["--batch-size", "0"], None, "--batch-size 0"),
    ([], failing(resuming, "write_origin", FULL), "No space left on device"),
    ([], failing(callbacks, "append_lines", FULL), "No space left on device"),
    ([], failing(CurriculumTrainer, "training_step", MemoryError("out of memory")), "memory"),
]


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_corrected_command_runs(verb, here, capsys):
    command = [*verb.split(), *COMMANDS[verb]]
    for changes, breaks, said in MISTAKES:
        wrong = list(command)
        for name, value in zip(changes[::2], changes[1::2], strict=True):
            wrong[wrong.index(name) + 1] = value
        with pytest.MonkeyPatch.context() as patch:
            if breaks:
                if verb == "train grpo" and said == "memory":
                    continue  # its trainer is TRL's
                breaks(patch)
            code, line = told(capsys, *wrong)
        assert (code, said in line) == (2, True), (changes, said, line)
        left = [path for path in Path("runs").rglob("*") if path.is_file()]
        assert all(path.name in ("metrics.jsonl", "samples.jsonl") for path in left), left
    assert told(capsys, *command)[0] == 0
    code, line = told(capsys, *command)
    assert (code, "runs/out is not empty" in line) == (2, True), "what is finished is kept"
    assert told(capsys, *command, "--resume", "auto")[0] == 0


def test_what_is_somebodys_own_stays(here, capsys):
    (here / "runs" / "out" / "checkpoints").mkdir(parents=True)
    (here / "runs" / "out" / "notes.txt").write_text("mine")
    code, line = told(capsys, "train", "sft", *TRAIN)
    assert (code, "is not empty" in line) == (2, True)
    (here / "runs" / "out" / "notes.txt").unlink()
    assert told(capsys, "train", "sft", *TRAIN)[0] == 0, "an empty folder is nobody's work"


def test_a_path_is_not_looked_for_on_the_hub(here, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", lambda *args, **_: asked.append(args))
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", lambda *args, **_: asked.append(args))
    (here / "runs" / "sft").mkdir(parents=True)
    (here / "runs" / "sft" / "model").symlink_to(here / "m")
    (here / "gemma").symlink_to(here / "m")
    (here / "data").mkdir()
    (here / "data" / "train.jsonl").symlink_to(here / "rows.jsonl")
    for name, said in [
        ("runs/sftt", "did you mean runs/sft?"),
        ("run/sft", "did you mean runs/sft?"),
        ("runs/quite-another", "the nearest folder is runs, which holds sft"),
        (f"{here}/rnus/sft/", f"did you mean {here}/runs/sft?"),
        ("gema", "did you mean gemma?"),
        ("nothing-like-it", "give a directory"),
        ("~/no-such-folder", "there is no model at ~/no-such-folder"),
    ]:
        for verb in (["ask", name, "1"], ["chat", name], ["eval", name, "--data", "rows.jsonl", "--out", "out"]):
            code, line = told(capsys, *verb)
            assert (code, f"there is no model at {name}: " in line, said in line) == (2, True, True), line
    code, line = told(capsys, "eval", "m", "--data", "data/train", "--out", "out")
    assert (code, "there is no file data/train: the nearest folder is data, which holds train.jsonl" in line) == (
        2,
        True,
    )
    assert asked == []
    assert not (here / "out").exists()


def test_the_nearest_path(tmp_path, monkeypatch):
    (tmp_path / "実験 one" / "結果").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert nearest_path(Path("実験 on/結果")) == Path("実験 one/結果")
    assert nearest_path(tmp_path / "実験 one" / "結果") == tmp_path / "実験 one" / "結果"
    assert nearest_path(Path("実験 one/else")) is None
    assert missing(Path("実験 one/結果/x"), "no") == "the nearest folder is 実験 one/結果, which holds nothing"
    assert missing(Path("x/y"), "no") == "no"
    assert missing(Path("../x"), "no") == "no"


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b""], ids=["BOM", "none"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_of_other_systems_and_places(content, end, here, capsys, monkeypatch):
    """A byte-order mark, CRLF, spaces and Japanese in a path, ~ behind a sign of equality, the same --out twice."""
    folder = here / "my 実験"
    folder.mkdir()
    rows = (here / "rows.jsonl").read_bytes().split(b"\n")
    (folder / "行.jsonl").write_bytes(content + end.join(rows))
    (folder / "run.toml").write_bytes(content + end.join([b'model = "m"', b"steps = 1", b"batch-size = 4"]))
    monkeypatch.setenv("HOME", str(folder))
    command = ["train", "sft", "--config", folder / "run.toml", "--data", folder / "行.jsonl", "--out=~/runs/一"]
    assert told(capsys, *command)[0] == 0
    assert (folder / "runs" / "一" / "model" / "config.json").is_file()
    code, line = told(capsys, *command)
    assert (code, "is not empty" in line) == (2, True)


BAD = [
    ("train sft --out m/config.json", "--out m/config.json is a file"),
    ("train sft --out m/config.json/x", "--out m/config.json/x cannot be made"),
    ("train sft --resume yes", "holds no checkpoint to resume"),
    ("train sft --model rows.jsonl", "rows.jsonl is a file but not a GGUF file"),
    ("train sft --model bare", "bare has no tokenizer"),
    ("train sft --model stopped", "stopped is a run that is not finished"),
    ("train sft --data empty.jsonl", "empty.jsonl holds no examples"),
    ("train sft --data m", "m is a folder"),
    ("train sft --config nothing.toml", "nothing.toml cannot be read"),
    ("train sft --config row.jsonl", "did you mean rows.jsonl?"),
    ("train sft --out ~nobody-of-this-name/x", "there is no such user"),
    ("train sfft", "train 'sfft' is no verb: did you mean sft?"),
    ("evall", "unknown verb 'evall': did you mean eval?"),
    ("train sft --epoch 3", "unknown option --epoch: did you mean --epochs?"),
    ("train sft --mode latent", "unknown option --mode"),
    ("train sft --lr -1", "--lr -1 is out of range"),
    ("train sft --lr nan", "--lr nan"),
    ("train sft --accumulate 0", "--accumulate 0"),
    ("train sft --log-every 0", "--log-every 0"),
    ("train sft --epochs 0", "--epochs 0"),
    ("train sft --epochs 1e30", "--epochs 1e+30 is out of range"),
    ("train sft --warmup 5", "--warmup 5 is outside [0, 0.99]"),
    ("train sft --save-every -1", "--save-every -1"),
    ("train coconut --c-thought -1", "--c-thought -1 is outside [1, 1000]"),
    ("ask m 1 --max-new-tokens 0", "--max-new-tokens 0"),
    ("ask m 1 --paths 50000", "there are 268 first tokens"),
    ("ask m 1 --thoughts --k 0", "--thoughts with K = 0"),
    ("vote m 1 --mode words --noise 0.5", "--noise with a model that is asked for words"),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=[line for line, _ in BAD])
def test_one_line_and_nothing_left(line, said, here, capsys):
    (here / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        (here / "bare" / name).symlink_to(here / "m" / name)
    (here / "stopped" / "checkpoints").mkdir(parents=True)
    before = sorted(here.rglob("*"))
    command = line.split()
    if command[0] == "train" and len(command) > 2:
        given = {name: value for name, value in zip(TRAIN[::2], TRAIN[1::2], strict=True) if name not in command}
        command += [word for pair in given.items() for word in pair]
    code, error = told(capsys, *command)
    assert (code, said in error) == (2, True), error
    assert sorted(here.rglob("*")) == before


def test_what_cannot_be_written_is_told_in_a_line(here, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x")

    monkeypatch.setattr(sys.modules["latent_gemma.recipes.stage"], "remove_partial", full)
    for command in (["train", "sft", *TRAIN], ["eval", "m", "--data", "rows.jsonl", "--out", "runs/x"]):
        code, line = told(capsys, *command)
        assert (code, "runs/x cannot be read or written: No space left on device" in line) == (2, True)
    assert not Path("runs").exists()
