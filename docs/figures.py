"""Draw the pictures of README and docs, from a report and from the table of floors.

python docs/figures.py                         # from what is committed
python docs/figures.py runs/demo/report.json   # from a demo of your own, whose rows are kept beside the picture
"""

import json
import sys
from html import escape
from pathlib import Path

from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.inspection.plots import plot_controls, render

DOCS = Path(__file__).parent
KEPT = DOCS / "figures" / "demo.json"
#: Dark enough for white text, light enough to stand out on a dark page.
COLOURS = ("#4f5d75", "#3f6f8f", "#1f5a96", "#2a7c6e", "#7a5590", "#a5563f", "#8a6d1f", "#566270")


def keep(report: Path) -> None:
    """Keep of a demo's report what README and picture show.

    Args:
        report: its report.json.
    """
    found = json.loads(report.read_text(encoding="utf-8"))
    rows = ",\n  ".join(json.dumps(row) for row in found["rows"])
    head = ",\n ".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in ("title", "verdict", "context"))
    KEPT.write_text(f'{{\n {head},\n "rows": [\n  {rows}\n ]\n}}\n', encoding="utf-8")


def demo_rows() -> tuple[EvalRow, ...]:
    """Every row of the demo's report."""
    return tuple(map(EvalRow.from_dict, json.loads(KEPT.read_text(encoding="utf-8"))["rows"]))


def controls() -> str:
    """The demo's accuracy with and without its thoughts, as SVG."""
    return render(plot_controls(EvalReport("", "", demo_rows())), "svg").decode()


def floors() -> list[tuple[str, str]]:
    """The table of floors in docs/design.md: their names and what they hand up, the lowest first."""
    lines = (DOCS / "design.md").read_text(encoding="utf-8").splitlines()
    rows = lines[lines.index("| floor | hands up | what is in it |") + 2 :]
    cells = [row.replace("`", "").strip("| ").split(" | ") for row in rows[: rows.index("")]]
    return [(name, hands) for name, hands, _ in cells]


def house() -> str:
    """The floors as a drawing, the highest above, as SVG."""
    table, height, width = floors(), 38, 560
    parts = []
    for index, (name, hands) in enumerate(reversed(table)):
        y = 4 + index * (height + 6)
        parts.append(
            f'<rect x="4" y="{y}" width="{width - 52}" height="{height}" rx="5" '
            f'fill="{COLOURS[(len(table) - 1 - index) % len(COLOURS)]}"/>'
            f'<text x="20" y="{y + 24}" font-size="15" font-weight="bold">{escape(name)}</text>'
            f'<text x="{width - 64}" y="{y + 24}" font-size="13" text-anchor="end">{escape(hands)}</text>'
        )
    bottom = 4 + len(table) * (height + 6)
    x, middle = width - 32, bottom / 2
    arrow = (
        f'<path d="M {x} 6 V {bottom - 10} m -6 -9 l 6 9 l 6 -9" fill="none" stroke="#8a94a3" stroke-width="2"/>'
        f'<text x="{x + 12}" y="{middle}" font-size="12" fill="#8a94a3" text-anchor="middle" '
        f'transform="rotate(90 {x + 12} {middle})">imports point down</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom}" font-family="system-ui, sans-serif" '
        f'fill="white">\n' + "\n".join([*parts, arrow]) + "\n</svg>\n"
    )


def main() -> None:
    """Write both pictures."""
    if len(sys.argv) > 1:
        keep(Path(sys.argv[1]))
    (DOCS / "figures" / "controls.svg").write_text(controls(), encoding="utf-8")
    (DOCS / "figures" / "floors.svg").write_text(house(), encoding="utf-8")


if __name__ == "__main__":
    main()
