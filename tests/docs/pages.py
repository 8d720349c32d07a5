"""The pages that people read, and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOUND = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "benchmarks/RESULTS.md",
    ROOT / "results/README.md",
]
#: Path in the repository -> text.
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(_FOUND)}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    """The fenced blocks of a page in a language."""
    return [body for name, body in _FENCE.findall(PAGES[page]) if name == language]


def prose(page):
    """A page without its fenced blocks."""
    return _FENCE.sub("", PAGES[page])


#: Everything after `latent-gemma` that a page tells people to type.
COMMANDS = re.findall(
    r"^(?:.*&& |accelerate launch .*-m )?latent[-_]gemma(?:\.cli)? (.+)$",
    "\n".join(body for page in PAGES for body in blocks(page, "bash")),
    re.MULTILINE,
)
