"""What README, docs and results show of measurements: pictures, tables and one page of all studies, from reports alone.

python docs/figures.py                                    # again, from what is committed
python docs/figures.py demo runs/demo                     # from a demo of your own, whose rows are kept
python docs/figures.py chains_mixed runs/study-chains     # from a study of your own, whose report is kept
"""

import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill

from latent_gemma.evaluation.items import Item, read_items
from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.files import write_atomically
from latent_gemma.inspection.comparison import cost_charts
from latent_gemma.inspection.numbers import interval, percent, with_interval
from latent_gemma.inspection.plots import plot_chart, plot_controls, render
from latent_gemma.inspection.select import control_rows, main_rows, reference_rows
from latent_gemma.inspection.tables import ABSENT, to_markdown
from latent_gemma.inspection.verdict import uses_thoughts
from latent_gemma.recipes.study import pick

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RESULTS = ROOT / "results"
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


@dataclass(frozen=True)
class Asked:
    """A study as people are told of it.

    Args:
        title: of its section.
        question: what was asked.
        command: that makes it again.
        said: what else has to be known, in a sentence or two.
    """

    title: str
    question: str
    command: str
    said: str = ""


#: Folder under results -> its study, in the order shown.
STUDIES = {
    "chains_mixed": Asked(
        "Chains of mixed length",
        "Can latent steps stand for written ones where each question needs another number? Chains of 1 to 6 "
        "operations; a guess is right on 10 %.",
        "latent-gemma study --config configs/study_chains.toml",
    ),
    "arithmetic": Asked(
        "Two-digit sums",
        "Does any reasoning help where a model can learn the answer at once? Sums and differences of numbers of one or "
        "two digits; the one or two written steps are sentences.",
        "latent-gemma study --config configs/study_arithmetic.toml",
        "Two thoughts stand for each step of some 8 tokens.",
    ),
    "prosqa": Asked(
        "ProsQA in letters",
        "Do latent steps search a graph better than words, as was published? Which of two nodes a root reaches: 12 "
        "nodes, 3 hops, letters and order drawn anew in every pass. Of two nodes a guess is right on 50 %.",
        "latent-gemma study --config configs/prosqa_warmup.toml\nlatent-gemma study --config configs/study_prosqa.toml",
        "Every method starts from a model that looks edges up without a fault. In words it has to choose one way at "
        "each step; the published account says that a thought holds several ways at once, which is not tested here.",
    ),
    "prosqa_23": Asked(
        "ProsQA at its published size",
        "The same with as many nodes (23), hops (3 to 4), training graphs (14,785) and questions (419) as were "
        "published; letters drawn anew where theirs rise along the edges.",
        'latent-gemma study --config configs/prosqa_warmup.toml --data "prosqa:nodes=16-23;hops=3-8;branches=false" '
        "--precision float32 --out runs/prosqa-warmup-23\n"
        "latent-gemma study --config configs/study_prosqa_23.toml --model runs/prosqa-warmup-23/seed-0/text-stage "
        "--methods words --text-steps 800 --steps 1000 --out runs/study-prosqa-23\n"
        "latent-gemma study --config configs/study_prosqa_23.toml",
        "Every method starts from one model of words that has begun to learn them, and has 800 steps more. For the "
        "last 200 the loss of words and of no reasoning no longer falls; COCONUT's and the annealed one's do.",
    ),
    "gemma3": Asked(
        "A pretrained Gemma on chains",
        "Does a pretrained model, Gemma 3 270M, learn to think in latent space? Chains of 1 to 4 operations, mixed; an "
        "adapter of rank 16; a guess is right on 10 %.",
        "latent-gemma study --config configs/study_gemma3.toml",
        "Short of words for want of steps: K is right on every question, and the loss of what thinks still falls where "
        "the run ends. The text stage ran in a session of its own, whose 17 minutes are not in the time below.",
    ),
    "gemma3_longer": Asked(
        "The same Gemma, twice as long",
        "The annealed plan on those chains once more, with 500 steps behind the same text stage in place of 250.",
        "latent-gemma study --config configs/study_gemma3.toml --methods anneal --steps 500 --out runs/study-longer",
        "A point below the words above, with 4.5 passes an answer for their 7.9.",
    ),
    "bilingual": Asked(
        "Japanese and English",
        "Does Gemma 3 270M gain from four thoughts on a quiz, multiple choice and translation both ways, and what do "
        "scores on learnt rows hide? 50 held-out rows of each kind.",
        "python studies/bilingual.py aio.json jcommonsenseqa.json tatoeba_translation.json --encoder runs/e5",
        "No row has written steps: each question thinks the same four thoughts, learnt from its answer alone. The four "
        "metrics of each kind, on learnt and on held-out rows, are [a table](../docs/japanese.md#what-a-gemma-learns).",
    ),
}
#: Labels with what a reader of a single table has to know.
NAMED = {"soft": "soft, untrained", "parallel": "parallel, 3 passes", "pause": "pause, trained"}
KINDS = {
    "aio": "quiz", "jcommonsenseqa": "multiple choice", "en-ja": "English to Japanese", "ja-en": "Japanese to English",
}  # fmt: skip


def read(name: str) -> EvalReport:
    """The report that is kept of a study, or of the demo."""
    path = KEPT if name == "demo" else RESULTS / name / "report.json"
    return EvalReport.from_dict(json.loads(path.read_text(encoding="utf-8")))


def keep(name: str, report: Path) -> None:
    """Keep of a run's report what pages show.

    Args:
        name: of the study, or "demo".
        report: its report.json, or the folder that holds it.
    """
    found = json.loads((report / "report.json" if report.is_dir() else report).read_text(encoding="utf-8"))
    whole = EvalReport.from_dict(found)
    rows, found["rows"] = whole.rows, list(whole.to_dict()["rows"])  # without what is not believed of older versions
    if items := [_answers(rows, seed) for seed in sorted(report.glob("seed-*"))]:  # so that today's words say it
        found["choice"], found["reason"] = pick(rows, items)
    shown = ("title", "choice", "reason", "verdict", "context", "tables", "curves", "rows")
    lines = []
    for key in ("title", "verdict", "context", "rows") if name == "demo" else shown:
        value = found.get(key, "")
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):  # a row a line, so that a change can be read
            text = "[\n  " + ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n ]"
        lines.append(f"{json.dumps(key)}: {text}")
    kept = KEPT if name == "demo" else RESULTS / name / "report.json"
    write_atomically(kept, "{\n " + ",\n ".join(lines) + "\n}\n")


def _answers(rows: tuple[EvalRow, ...], seed: Path) -> dict[str, list[Item]]:
    """Of one seed's runs, method -> its answers in the main setting."""
    items = [item for log in seed.glob("*/items.jsonl") for item in read_items(log)]
    found = {}
    for label, main in main_rows(rows).items():
        own = [item for item in items if (item.label, item.k, item.p, item.control) == (label, main.k, main.p, "none")]
        found[label] = sorted(own, key=lambda item: item.index)
    return {label: own for label, own in found.items() if own}


def cost(name: str) -> str:
    """Accuracy over passes of every method of a study, as SVG."""
    return render(plot_chart(cost_charts(main_rows(read(name).rows))[0]), "svg").decode()


def thoughts(name: str) -> str:
    """Accuracy with and without the thoughts, as SVG."""
    return render(plot_controls(read(name)), "svg").decode()


def controls(dark: bool = False) -> str:
    """The demo's accuracy with and without its thoughts, as SVG, a panel a method.

    Args:
        dark: for a dark page.
    """
    rows, ink = read("demo").rows, INKS[dark]
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


def pictures() -> dict[str, Callable[[], str]]:
    """Every picture: its file in the repository -> what draws it."""
    found: dict[str, Callable[[], str]] = {
        "docs/figures/controls.svg": controls,
        "docs/figures/controls-dark.svg": lambda: controls(dark=True),
        "docs/figures/floors.svg": house,
        **{f"docs/figures/badge-{name}.svg": lambda drawn=drawn: drawn for name, drawn in badges().items()},
    }
    for name in STUDIES:
        if any(row.k for row in main_rows(read(name).rows).values()):
            found[f"results/{name}/cost.svg"] = lambda name=name: cost(name)
            found[f"results/{name}/controls.svg"] = lambda name=name: thoughts(name)
    return found


def spelt(row: EvalRow) -> str:
    """Accuracy and interval in words: "98.1 (96.5 to 99.0)"."""
    return with_interval(row).replace("–", " to ").replace("[", "(").replace("]", ")")


def best_fixed(rows: tuple[EvalRow, ...], main: EvalRow) -> EvalRow | None:
    """Of a model that chooses K itself, the row of the number that does best in its place."""
    fixed = [
        row for row in rows
        if (row.label, row.p, row.control) == (main.label, main.p, "none") and row.k not in ("auto", 0)
    ]  # fmt: skip
    return max(fixed, key=lambda row: row.accuracy, default=None) if main.k == "auto" else None


def _table(*lines: tuple[str, ...]) -> str:
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |").replace("|  |", "| |") for line in lines)


def demo_table() -> str:
    """The demo's methods, as README shows them."""
    rows, names = read("demo").rows, {"COCONUT": "COCONUT, p = 0", "annealed": "annealed, ends at p = 0"}
    lines = []
    for label, row in main_rows(rows).items():
        found = control_rows(rows, row)
        replaced = [percent(found[name].accuracy) for name in ("zero", "noise", "swap", "pause", "k0") if name in found]
        costs = (f"{row.tokens_per_answer:.3g}", f"{row.passes_per_answer:.3g}")
        lines.append((names.get(label, label), spelt(row), *costs, *(replaced or [""] * 5)))
    return _table(*lines)


def study_table(name: str) -> str:
    """The methods of a study in one table, and below it what the controls found, as docs/choose.md shows them."""
    report = read(name)
    mains, lines = main_rows(report.rows), []
    for label, row in mains.items():
        found, fixed = control_rows(report.rows, row), best_fixed(report.rows, row)
        lines.append(
            (
                NAMED.get(label, label), spelt(row), f"{row.passes_per_answer:.3g}",
                "" if row.k_right is None else percent(row.k_right),
                "" if fixed is None else f"{percent(fixed.accuracy)} (K = {fixed.k})",
                *(percent(found[each].accuracy) if each in found else "" for each in ("zero", "swap")),
            )
        )  # fmt: skip
    used = [label for label, row in mains.items() if row.k and uses_thoughts(report.rows, row)]
    rates = [(control_rows(report.rows, mains[label])["swap"].donor_rate or 0.0, label) for label in used]
    further = next(grid for grid in report.tables if grid.title.startswith("Questions of another kind"))
    harder = [float(line[2].split()[0]) for line in further.rows if line[1] != "the questions above"]
    seeds = report.context["seed"]
    of = further.title.partition(" (")[2].rstrip(")")  # of several seeds the first alone is asked these
    said = (
        f"Seed{'s' if ',' in seeds else ''} {seeds}; {report.context['time']} on {report.context['machine']}. "
        f"{report.choice}. The thoughts of {', '.join(used)} are used, and they carry the answer: given another "
        f"question's thoughts, {percent(min(rates)[0])} ({min(rates)[1]}) to {percent(max(rates)[0])} % of the answers "
        f"that can be told apart are that question's. On {further.rows[1][1]}, longer than any they learnt from, every "
        f"method is at {min(harder):.1f} to {max(harder):.1f} %"
        f"{f' ({of})' if of else ''}."
    )
    return f"{_table(*lines)}\n\n{fill(said, 120, break_on_hyphens=False)}"


def kinds_table() -> str:
    """The kinds of rows of the bilingual study, as docs/japanese.md shows them: what is learnt / what is held out."""
    grid = next(grid for grid in read("bilingual").tables if grid.title == "Learnt and held out")
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for model, side, kind, _, exact, *figures in grid.rows:
        found.setdefault((KINDS[kind], model), {})[side] = [exact.partition(" ")[0], *figures]
    return _table(
        *(
            (kind, model, *(f"{known} / {new}" for known, new in zip(sides["learnt"], sides["held out"], strict=True)))
            for (kind, model), sides in sorted(found.items(), key=lambda item: list(KINDS.values()).index(item[0][0]))
        )
    )


#: Page and heading line of a table in it -> what makes its lines, and the paragraph below if it has one of its own.
TABLES: Mapping[tuple[str, str], Callable[[], str]] = {
    (
        "README.md",
        "| method | accuracy, % (95 % interval) | tokens | passes | thoughts zeroed | noise | swapped | pause "
        "| K = 0 |",
    ): demo_table,
    (
        "docs/choose.md",
        "| method | accuracy, % (95 % interval) | passes | K right, % | best fixed K | zeroed | swapped |",
    ): lambda: study_table("chains_mixed"),
    (
        "docs/japanese.md",
        "| rows | model | exact, % | fuzzy, of 100 | BLEU, of 100 | BERTScore F1 |",
    ): kinds_table,
}  # fmt: skip


def with_table(page: str, heading: str, made: str) -> str:
    """A page with a table's lines in place of those it has, and a paragraph below it where one is made."""
    below = r"\n\n(?:.+\n)*.+" if "\n\n" in made else ""
    changed, count = re.subn(
        rf"({re.escape(heading)}\n\|[-:|]+\|\n)(?:\|.*\n)*\|.*{below}", lambda found: found[1] + made, page
    )
    if count != 1:
        raise ValueError(f"{count} tables begin with {heading}")
    return changed


def results_page() -> str:
    """One page of all studies: a table with one line a study, then each with its figures and how it was made."""
    lines, sections = [], []
    for name, study in STUDIES.items():
        report = read(name)
        mains = main_rows(report.rows)
        used = {label: uses_thoughts(report.rows, row) for label, row in mains.items() if row.k}
        said = [
            f"{word}: {', '.join(label for label, each in used.items() if each is wanted)}"
            for word, wanted in (("yes", True), ("no", False))
            if wanted in used.values()
        ]
        many = max(1, *(len(row.by_seed) for row in mains.values()))
        asked = next(iter(mains.values())).total // many
        accuracies = "<br>".join(_accuracy(label, row) for label, row in mains.items())
        anchor = re.sub(r"\W+", "-", study.title.lower())
        lines.append(
            (
                f"[{study.title}](#{anchor})", study.question, accuracies, f"{report.context['seed']}; {asked}",
                "<br>".join(said) or ABSENT, _pick(report, mains),
            )
        )  # fmt: skip
        sections.append(_section(name, study, report))
    head = ("study", "what was asked", "accuracy, % [95 % interval]", "seeds; questions", "thoughts used?", "pick")
    rule = tuple(["---"] * len(head))
    return (
        "# Results\n\nTiny Gemma 2 models, trained from scratch, and Gemma 3 270M as it was published, all on one CPU "
        "thread, asked questions that were in no training row. Thoughts count as used only where swapping and zeroing "
        "them both bring accuracy down so far "
        "that the intervals lie apart ([controls](../docs/evaluate.md#controls)). Everything here is read from the "
        "`report.json` in each folder by `python docs/figures.py`.\n\n"
        + _table(head, rule, *lines)
        + "\n\n"
        + "\n".join(sections)
    )


def _accuracy(label: str, row: EvalRow) -> str:
    """A line of a cell, which no narrow column breaks."""
    text = f"{label} {with_interval(row)}" + (f" {interval(row)}" if row.seed_sd is not None else "")
    return text.replace(" ", "&nbsp;").replace("–", "–&#8288;")


def _pick(report: EvalReport, mains: Mapping[str, EvalRow]) -> str:
    """What the report chose; of an older one what its intervals say."""
    if report.choice or not any(row.k for row in mains.values()):
        return report.choice or ABSENT
    best = max(mains, key=lambda label: mains[label].accuracy)
    clear = all(row.high < mains[best].low for label, row in mains.items() if label != best)
    return f"Pick {best}" if clear else "not settled"


def _section(name: str, study: Asked, report: EvalReport) -> str:
    figures = ""
    if any(row.k for row in main_rows(report.rows).values()):
        alone = "Accuracy over passes an answer, every method"
        figures = f"![{alone}]({name}/cost.svg)\n\n![Accuracy when the thoughts are replaced]({name}/controls.svg)\n\n"
    context = report.context
    made = [f"{key} {context[key]}" for key in ("latent-gemma", "torch", "transformers")]
    words = (study.said, f"{report.reason}" if report.reason else report.verdict)
    return (
        f"## {study.title}\n\n{study.question}\n\n{figures}" + "\n\n".join(word for word in words if word) + "\n\n"
        f"{context['model']}; {context['time']} on {context['machine']}; {', '.join(made)}. "
        f"[The whole report]({name}/report.md).\n\n```bash\n{study.command}\n```\n"
    )


def main() -> None:
    """Keep a report if one is named, then write every picture, table and page."""
    if len(sys.argv) > 1:
        name, report = sys.argv[1:]
        if name not in ("demo", *STUDIES):
            raise SystemExit(f"there is no study {name}: choose from demo, {', '.join(STUDIES)}")
        keep(name, Path(report))
    for path, draw in pictures().items():
        write_atomically(ROOT / path, draw())
    for (path, heading), make in TABLES.items():
        page = (ROOT / path).read_text(encoding="utf-8")
        write_atomically(ROOT / path, with_table(page, heading, make()))
    for name in STUDIES:
        write_atomically(RESULTS / name / "report.md", to_markdown(read(name)))
    write_atomically(RESULTS / "README.md", results_page())


if __name__ == "__main__":
    main()
