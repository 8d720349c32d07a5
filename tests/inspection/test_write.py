import json
from dataclasses import replace

import pytest
from rich.console import Console

from latent_gemma import files
from latent_gemma.files import write_atomically
from latent_gemma.inspection.write import publish, write_report


def test_every_file_is_written(report, tmp_path):
    page = write_report(report, tmp_path / "deep" / "report")
    assert page == tmp_path / "deep" / "report" / "report.html"
    assert {file.name for file in page.parent.iterdir()} == {
        "report.html", "report.md", "report.json",
        "controls.png", "accuracy_over_k.png", "accuracy_over_p.png", "training_curves.png",
    }  # fmt: skip


def test_what_is_published_is_written_and_printed(report, tmp_path, capsys):
    found = replace(report, choice="annealed [x]", reason="fewest passes", context={"time": "3.0 minutes"})
    page = publish(found, tmp_path, Console(width=200))
    assert page == tmp_path / "report.html"
    assert page.exists()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    for said in ("Accuracy over K,", "annealed [x]. fewest passes"):
        assert any(line.startswith(said) for line in lines), lines
    assert lines[-1] == f"3.0 minutes; report: {page}"
    assert report.verdict in " ".join(lines)


def test_json_comes_back_with_accuracies(report, tmp_path):
    data = json.loads((write_report(report, tmp_path).parent / "report.json").read_text(encoding="utf-8"))
    assert data == json.loads(json.dumps(report.to_dict()))
    assert [row["accuracy"] for row in data["rows"]] == [row.correct / row.total for row in report.rows]
    assert data["traces"][1]["question"].startswith("りんご")


def test_json_has_no_nan(bare, tmp_path):
    curves = {"loss": [{"step": 1, "value": float("nan")}, {"step": 2, "value": float("inf")}]}
    page = write_report(replace(bare, curves=curves), tmp_path)
    data = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert [point["value"] for point in data["curves"]["loss"]] == [None, None]


def test_half_a_surrogate_pair_does_not_lose_the_report(report, tmp_path):
    trace = replace(report.traces[0], answer="\ud83d")
    page = write_report(replace(report, traces=(trace,)), tmp_path)
    data = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert data["traces"][0]["answer"] == "\ud83d"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file.txt", "old")]
