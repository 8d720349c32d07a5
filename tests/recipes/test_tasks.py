import pytest
import tyro

from latent_gemma.data.task_list import TASKS
from latent_gemma.errors import ConfigError
from latent_gemma.recipes.tasks import Tasks, run_tasks


@pytest.mark.parametrize("width", ["60", "80", "140"])
def test_every_task_is_listed_with_what_matters(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    run_tasks(tyro.cli(Tasks, args=[]))
    shown = capsys.readouterr().out
    assert set(TASKS) <= {line.split("  ")[0] for line in shown.splitlines()}
    words = " ".join(shown.split())
    assert "gsm8k 1,319 rows; en; answers: number; licence: MIT" in words
    assert all(task.leaks in words for task in TASKS.values())
    assert max(map(len, shown.splitlines())) <= int(width)


def test_one_language(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    run_tasks(tyro.cli(Tasks, args=["--language", "ja"]))
    shown = capsys.readouterr().out
    assert "mgsm-ja" in shown
    assert "en to ja" in shown
    assert "gsm-hard" not in shown


def test_a_language_without_tasks():
    with pytest.raises(ConfigError, match="no task is in language 'tlh': choose from bn, de, en"):
        run_tasks(Tasks("tlh"))
