"""The page of two tiny runs, served to a real browser."""

import asyncio
import json
import shutil
import socket

import pytest

from latent_gemma.data.example import Example
from latent_gemma.inspection.edits import Thinker
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny


def without_loops(patch):
    """Locks as Python makes them: Gradio makes each an event loop, which nobody closes."""
    for name in ("gradio.utils.safe_get_lock", "gradio.queueing.safe_get_lock"):
        patch.setattr(name, asyncio.Lock)
    patch.setattr("gradio.utils.safe_get_stop_event", asyncio.Event)


@pytest.fixture(scope="package")
def thinkers(tokenizer):
    """A model that thinks and one that writes, with random weights: one thought in another's place changes much."""
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    latent = LatentConfig(num_thoughts=3, trained_for="latent", learned_k=False, step_separator="")
    models = {"latent": build_tiny("gemma2", latent, seed=24, **sizes)}
    models["words"] = build_tiny("gemma2", LatentConfig(trained_for="words"), seed=4, **sizes)
    return {name: Thinker(model.eval(), tokenizer, max_new_tokens=6) for name, model in models.items()}


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """A folder with one run that is finished and one that goes on."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("done", "going/seed-0/<b>on"):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps({"recipe": "anneal"}))
        entries = [{"step": step, "loss": 1 / step, "p": 0.5, "latent_grad_norm_1": 0.1} for step in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (root / "done" / "run.json").write_text(json.dumps({"recipe": "anneal"}))
    (root / "done" / "report.html").write_text(
        "<!doctype html><title>x</title><h1>The report</h1><script>top.hit=1</script>"
    )
    return root


@pytest.fixture(scope="package")
def url(thinkers, runs):
    """Where the page is."""
    page = pytest.importorskip("latent_gemma.studio.page", reason="the studio extra is not installed")
    opened = [page.Opened(name, name, thinker) for name, thinker in thinkers.items()]
    opened[0] = page.Opened("latent", "latent", thinkers["latent"], [Example("7+5*3=", ("2", "6"), "6")])
    connect, asked = socket.socket.connect, []
    with pytest.MonkeyPatch.context() as patch:
        without_loops(patch)
        patch.setattr(socket.socket, "connect", lambda own, to: (asked.append(to), connect(own, to))[1])
        blocks = page.Page(opened, runs).blocks()
        page.serve(blocks, prevent_thread_lock=True, quiet=True)
        assert {to[0] for to in asked if isinstance(to, tuple)} <= {"127.0.0.1", "localhost"}
        assert blocks.share is False
        yield blocks.local_url
        assert {to[0] for to in asked if isinstance(to, tuple)} <= {"127.0.0.1", "localhost"}, "all along"
        blocks.close()


@pytest.fixture(scope="package")
def browser():
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as tools:
        running = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser, url):
    """visit(width, scheme): the page in a window of its own; what goes wrong in it, but for what may, is a failure."""
    contexts, wrong, fine = [], [], []

    def open_page(width=1280, scheme="light", may=()):
        fine.extend(may)
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else wrong.append(asked.url))
        page.goto(url)
        page.wait_for_selector("#question textarea")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in wrong if not text.startswith(tuple(fine))] == []
