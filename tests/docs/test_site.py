"""The site is built without a warning, and a page of it fetches nothing from elsewhere."""

import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("mkdocs", reason='needs pip install -e ".[docs]"')
pytest.importorskip("mkdocstrings_handlers.python", reason='needs pip install -e ".[docs]"')
#: What a browser loads by itself, without a click.
LOADED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(https?:)?//|<link[^>]*\shref=["']?(https?:)?//""")


def test_the_site_is_built_and_fetches_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert len(pages) >= 25
    for path, page in pages.items():
        assert not LOADED.search(page), path
        assert 'class="mermaid"' not in page, "its script is loaded from elsewhere"
    for path in tmp_path.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path
