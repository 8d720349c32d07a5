"""The fine-tuning notebook, executed from the top on the tiny model and rows in both formats."""

import json

import nbformat
import pytest

from tests.notebooks.conftest import NOTEBOOKS


@pytest.fixture
def environment(tmp_path, monkeypatch):
    worked = "Twice is <<{0}*2={1}>>{1}. So <<{0}+{1}={2}>>it is.\n#### {2}"
    sums = [{"question": f"{i}+{i}*2?", "answer": worked.format(i, 2 * i, 3 * i)} for i in range(1, 13)]
    asked = "次の入力を英語に翻訳してください。"
    told = [{"instruction": asked, "input": f"りんごが{i}個", "output": f"{i} apples"} for i in range(12)]
    for name, rows in {"gsm8k": sums, "japanese": told}.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        monkeypatch.setenv(f"TUNE_{name.upper()}", str(tmp_path / f"{name}.jsonl"))
    for name, value in {"MODEL": "tiny", "ROWS": "12", "HELD_OUT": "6", "STEPS": "3"}.items():
        monkeypatch.setenv(f"TUNE_{name}", value)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # the kernel's own libraries
def test_the_whole_way(environment, execute):
    _, printed = execute("fine_tuning_gemma2.ipynb")
    runs = environment / "runs"
    record = json.loads((runs / "annealed" / "run.json").read_text())
    latent = json.loads((runs / "annealed" / "model" / "config.json").read_text())["latent"]
    assert latent["num_thoughts"] == 4
    assert not latent["learned_k"]
    assert record["data_rows"] == 18
    report = json.loads((runs / "eval" / "report.json").read_text())
    assert {row["label"] for row in report["rows"]} == {"words", "annealed"}
    assert {"zero", "noise", "swap", "pause"} <= {row["control"] for row in report["rows"]}
    assert [line.split()[0] for line in printed[-1].splitlines()[-4:]] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_installs_from_the_repository_and_is_stored_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "%pip install" in cells[0].source
    assert "{REPOSITORY}" in cells[0].source
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
