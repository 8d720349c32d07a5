"""Draw the pictures of README and docs, from a report and from the table of floors.

python docs/figures.py                         # from what is committed
python docs/figures.py runs/demo/report.json   # from a demo of your own, whose rows are kept beside the picture
"""

import json
import re
import sys
import tomllib
from html import escape
from pathlib import Path

from latent_gemma.evaluation.results import EvalRow
from latent_gemma.inspection.numbers import percent
from latent_gemma.inspection.select import control_rows, main_rows, reference_rows

DOCS = Path(__file__).parent
KEPT = DOCS / "figures" / "demo.json"
TITLE = "Right answers, %: a model's own thoughts, and what is put in their place"
#: What stands in the thought positions -> as the picture calls it.
THOUGHTS = {
    "own": "its own", "zero": "zeroed", "noise": "noise", "swap": "another's", "permute": "permuted",
    "pause": "pause tokens", "k0": "none (K = 0)",
}  # fmt: skip
#: Of a light and of a dark page.
INKS = (
    {"ink": "#1f2933", "faint": "#5a6673", "own": "#1f5a96", "other": "#b4c0cc"},
    {"ink": "#e5e9ee", "faint": "#a3afbb", "own": "#4f8fd0", "other": "#4d5863"},
)
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


def controls(dark: bool = False) -> str:
    """The demo's accuracy with and without its thoughts, as SVG, a panel a method.

    Args:
        dark: for a dark page.
    """
    rows, ink = demo_rows(), INKS[dark]
    mains = main_rows(rows)
    panels = {label: control_rows(rows, main) for label, main in mains.items() if main.k}
    names = [name for name in THOUGHTS if name == "own" or any(name in found for found in panels.values())]
    height, left, span, gap = 27, 118, 190, 66
    bottom = 62 + len(names) * height
    parts = [f'<text x="4" y="18" font-size="14" font-weight="bold">{TITLE}</text>']
    for index, name in enumerate(names):
        parts.append(f'<text x="{left - 10}" y="{80 + index * height}" text-anchor="end">{THOUGHTS[name]}</text>')
    for panel, (label, found) in enumerate(panels.items()):
        x = left + panel * (span + gap)
        parts.append(f'<text x="{x}" y="48" font-size="14" font-weight="bold">{escape(label)}</text>')
        for index, name in enumerate(names):
            row = mains[label] if name == "own" else found[name]
            y, ends = 66 + index * height, [x + span * share for share in (row.low, row.high)]
            end, fill = x + span * row.accuracy, ink["own" if name == "own" else "other"]
            parts.append(
                f'<rect x="{x}" y="{y}" width="{end - x:.1f}" height="19" rx="2" fill="{fill}"/>'
                f'<path d="M {ends[0]:.1f} {y + 9.5} H {ends[1]:.1f}" stroke="{ink["ink"]}" stroke-width="1.5"/>'
                f'<text x="{ends[1] + 6:.1f}" y="{y + 14}">{percent(row.accuracy)}</text>'
            )
        for name, main in reference_rows(rows).items():
            at = x + span * main.accuracy
            parts.append(
                f'<path d="M {at:.1f} 58 V {bottom}" stroke="{ink["faint"]}" stroke-dasharray="3 3" opacity="0.5"/>'
                f'<text x="{at:.1f}" y="{bottom + 15}" font-size="12" text-anchor="middle" fill="{ink["faint"]}">'
                f'{escape(name)}<tspan x="{at:.1f}" dy="14">{percent(main.accuracy)}</tspan></text>'
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 610 {bottom + 36}" font-family="system-ui, sans-serif" '
        f'font-size="13" fill="{ink["ink"]}">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def badge(name: str, value: str) -> str:
    """A line of fact as a badge, in SVG.

    Args:
        name: of the fact.
        value: what holds.
    """
    left, right = (int(14 + 6.4 * len(text)) for text in (name, value))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" '
        f'font-family="Verdana, system-ui, sans-serif" font-size="11" fill="white" text-anchor="middle">'
        f'<rect width="{left + right}" height="20" rx="3" fill="#4f5d75"/>'
        f'<path d="M {left} 0 h {right - 3} a 3 3 0 0 1 3 3 v 14 a 3 3 0 0 1 -3 3 h -{right - 3} z" fill="#1f5a96"/>'
        f'<text x="{left / 2}" y="14">{escape(name)}</text>'
        f'<text x="{left + right / 2}" y="14">{escape(value)}</text></svg>\n'
    )


def badges() -> dict[str, str]:
    """What pyproject.toml says of the package -> its badge."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = dict(re.findall(r"^(\w+)([<>=].+)$", "\n".join(project["dependencies"]), re.MULTILINE))
    told = {"python": project["requires-python"], "licence": project["license"]}
    told |= {name: ranges[name] for name in ("torch", "transformers", "trl")}
    return {name: badge(name, value.replace(">=", "≥ ").replace(",<", ", < ")) for name, value in told.items()}


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


def pictures() -> dict[str, str]:
    """Name -> picture, of all of them."""
    drawn = {"controls": controls(), "controls-dark": controls(dark=True), "floors": house()}
    return drawn | {f"badge-{name}": picture for name, picture in badges().items()}


def main() -> None:
    """Write the pictures."""
    if len(sys.argv) > 1:
        keep(Path(sys.argv[1]))
    for name, drawn in pictures().items():
        (DOCS / "figures" / f"{name}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
