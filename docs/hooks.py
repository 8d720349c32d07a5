"""Pages that lie outside of docs/ join the site, and links between the two lead to them, in a checkout and on the site.

README.md is the home page, so that nothing in it has to be said again.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
#: In the repository -> on the site.
OUTSIDE = {
    "README.md": "index.md",
    "SECURITY.md": "SECURITY.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE.txt",
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
    "results/README.md": "results/README.md",
    "notebooks/fine_tuning_gemma2.ipynb": "notebooks/fine_tuning_gemma2.ipynb",
    "notebooks/relay.ipynb": "notebooks/relay.ipynb",
    **{
        path: path
        for pattern in ("*.svg", "report.md")
        for path in (found.relative_to(ROOT).as_posix() for found in ROOT.glob(f"results/*/{pattern}"))
    },
}
_LINK = re.compile(r"(?:(?<=\]\()|(?<=src=\")|(?<=srcset=\"))(?![a-z]+:|#)[^)\s#\"]+")
_SHELL = re.compile(r'<div class="language-bash.*?</div>', re.DOTALL)
_OPTION = re.compile(r"(?<=[\s>])-[\w-]+")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside of docs/."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links, which are written for a checkout, lead to where their target is on the site."""
    own = page.file.src_uri
    place = next((source for source, target in OUTSIDE.items() if target == own), f"docs/{own}")

    def on_site(match: re.Match[str]) -> str:
        aim = normpath(join(dirname(place), match[0]))
        return relpath(OUTSIDE.get(aim, aim.removeprefix("docs/")), dirname(own) or ".")

    return _LINK.sub(on_site, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Mark the options of commands, so that a line is never broken behind their dashes."""
    return _SHELL.sub(lambda block: _OPTION.sub(r'<span class="option">\g<0></span>', block[0]), html)
