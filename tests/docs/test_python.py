"""The Python of the pages runs, and takes all it needs from the public face."""

import ast

import pytest

import latent_gemma
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from tests.docs.pages import PAGES, blocks

CODE = [(page, body) for page in PAGES for body in blocks(page, "python")]


@pytest.mark.parametrize(("page", "code"), CODE, ids=[page for page, _ in CODE])
def test_what_is_imported_is_public(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("latent_gemma"):
            assert node.module == "latent_gemma"
            assert {alias.name for alias in node.names} <= set(latent_gemma.__all__)
        assert not (isinstance(node, ast.Import) and any("latent_gemma." in alias.name for alias in node.names))


def test_it_runs(tmp_path, monkeypatch, capsys):
    """From top to bottom, README first, on a model that has learnt nothing."""
    monkeypatch.chdir(tmp_path)
    build_tiny(latent=LatentConfig(trained_for="latent")).save_pretrained("runs/demo/model")
    build_tokenizer().save_pretrained("runs/demo/model")
    own = [body for page in ("README.md", "docs/python.md") for body in blocks(page, "python")]
    assert len(own) == len(CODE) >= 6
    names = {}
    for body in own:
        exec(compile(body, "page", "exec"), names)
    said = capsys.readouterr().out
    assert "torch.Size([1, 4, 128])" in said
    assert "True 4" in said
    assert (tmp_path / "runs/in-python/report.html").is_file()
