"""The verb that opens the page: what it listens at, and what it says."""

import runpy
import socket
from pathlib import Path

import pytest

from latent_gemma.cli import main
from latent_gemma.model import LatentConfig
from tests.saving import save_tiny
from tests.studio.conftest import without_loops

page = pytest.importorskip("latent_gemma.studio.page", reason="the studio extra is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    return str(save_tiny(tmp_path_factory.mktemp("models") / "thinks", latent=LatentConfig(num_thoughts=2), **sizes))


@pytest.fixture
def served(monkeypatch):
    """What the page was started with."""
    calls = []
    without_loops(monkeypatch)
    monkeypatch.setattr(
        page, "serve", lambda blocks, **told: calls.append((blocks, told)) or (None, "http://here/", "")
    )
    monkeypatch.setattr("gradio.Blocks.block_thread", lambda blocks: None)
    return calls


@pytest.mark.parametrize(
    ("options", "warns"),
    [([], False), (["--host", "127.0.0.1"], False), (["--host", "localhost"], False), (["--host", "0.0.0.0"], True)],
)
def test_another_host_than_this_machine_warns(options, warns, model, served, capsys):
    assert main(["studio", model, *options]) == 0
    [(blocks, settings)] = served
    assert settings.pop("server_name") == (options[1] if options else "127.0.0.1")
    assert settings == {"server_port": None, "inbrowser": True, "quiet": True, "prevent_thread_lock": True}
    out, err = capsys.readouterr()
    assert "the studio is at http://here/" in out
    assert ("warning: whoever reaches 0.0.0.0" in err) is warns
    assert not blocks.analytics_enabled


def test_a_port_that_is_taken_is_told_in_one_line(model, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["studio", model, "--port", port, "--no-browser"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("latent-gemma: the page cannot listen at 127.0.0.1")
    assert said.count("\n") == 0


def test_without_gradio_the_extra_is_named(model, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["studio", model]) == 2
    assert 'pip install "latent-gemma[studio]"' in capsys.readouterr().err


def test_the_space_serves_the_same_page(model, served, monkeypatch):
    monkeypatch.setenv("LATENT_GEMMA_RUN", model)
    runpy.run_path(str(Path(__file__).parents[2] / "studio" / "app.py"))
    [(blocks, settings)] = served
    assert blocks.title == "latent-gemma studio"
    assert settings == {}


def test_runs_of_one_name_are_told_apart(model):
    assert [one.name for one in page.open_runs([model])] == ["thinks"]
    assert [one.name for one in page.open_runs([model, "tiny"])] == ["thinks", "tiny"]
    assert [one.name for one in page.open_runs([model, f"{model}/"])] == [model, f"{model}/"]
