"""What the pages link to, name and show is there."""

import re
import unicodedata
from html import unescape
from posixpath import dirname, join, normpath

import figures
import pytest

import latent_gemma
from latent_gemma.cli import VERBS
from latent_gemma.inspection.numbers import percent
from latent_gemma.inspection.select import control_rows, main_rows
from latent_gemma.inspection.tables import to_markdown
from tests.docs.pages import COMMANDS, PAGES, ROOT, prose
from tests.docs.test_remedies import OPTION, OTHERS, VERB, verbs_options

LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(?:#([^)\s]+))?\)")
#: Of accelerate and uv, in prose.
LAUNCHER = {"--machine_rank", "--num_processes", "--extra", "--locked"}
every_page = pytest.mark.parametrize("page", PAGES)


def anchors(page):
    """The anchors of a page's headings, as the site names them."""
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = unicodedata.normalize("NFKD", re.sub(r"[`*]", "", title)).encode("ascii", "ignore").decode()
        yield re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@every_page
def test_every_link_leads_somewhere(page):
    for target, anchor in LINK.findall(prose(page)):
        aim = normpath(join(dirname(page), target)) if target else page
        assert (ROOT / aim).is_file(), target
        assert not anchor or anchor in anchors(aim), f"{target}#{anchor}"


@every_page
def test_every_option_that_is_named_is_there(page):
    if page == "benchmarks/RESULTS.md":  # of the benchmarks
        return
    named = {name for code in re.findall(r"`([^`]+)`", prose(page)) for name in OPTION.findall(code)}
    assert named <= verbs_options() | OTHERS | LAUNCHER


@every_page
def test_every_verb_that_is_named_is_there(page):
    named = {name for code in re.findall(r"`([^`]+)`", prose(page)) for name in VERB.findall(code)}
    assert named <= set(VERBS)


def test_every_verb_is_somewhere():
    typed = "\n".join([*COMMANDS, *("\n".join(re.findall(r"`latent-gemma ([^`]+)`", PAGES[page])) for page in PAGES)])
    missing = {verb for verb in VERBS if not re.search(rf"^{verb}\b", typed, re.MULTILINE)}
    assert missing <= {"data chains"}  # as data arithmetic, which is shown


@every_page
def test_every_file_that_is_named_is_there(page):
    if page in ("CHANGELOG.md", "benchmarks/RESULTS.md"):  # which tell what was
        return
    package, homes = ROOT / "src/latent_gemma", ("", "tests", "tests/faults", "src/latent_gemma/evaluation/metrics")
    for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|md|toml|ipynb))`", prose(page)):
        assert (package / name).is_file() or any((ROOT / home / name).is_file() for home in homes), name


def test_the_site_has_every_page():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {page.removeprefix("docs/") for page in PAGES} - {"README.md"} | {"index.md"}
    assert listed == pages


def test_the_python_interface_is_described():
    described = [name for page in PAGES for name in re.findall(r"^::: latent_gemma\.(\w+)$", PAGES[page], re.MULTILINE)]
    assert sorted(described) == sorted(latent_gemma.__all__)


def shown(picture):
    return re.findall(r"<t(?:ext|span)[^>]*>([^<]*)", picture)


@pytest.mark.parametrize(("path", "draw"), figures.pictures().items())
def test_pictures_are_those_of_their_data(path, draw):
    """By what they say: matplotlib's versions differ in the bytes."""
    kept = (ROOT / path).read_text(encoding="utf-8")
    assert shown(kept) == shown(draw())
    assert len(shown(kept)) >= (2 if "badge" in path else 8)
    assert path.rpartition("/")[2] in "".join(PAGES.values())


def test_the_picture_of_the_controls_says_what_was_measured():
    rows, said = figures.read("demo").rows, shown(figures.controls())
    for label in ("COCONUT", "annealed"):
        main = main_rows(rows)[label]
        for row in (main, *(row for name, row in control_rows(rows, main).items() if name in figures.THOUGHTS)):
            assert percent(row.accuracy) in said
    assert {"COCONUT", "annealed", "words", "no reasoning", *figures.THOUGHTS.values()} <= set(map(unescape, said))
    assert shown(figures.controls(dark=True)) == said


@pytest.mark.parametrize(("page", "heading"), figures.TABLES)
def test_tables_are_those_of_their_reports(page, heading):
    made = figures.with_table(PAGES[page], heading, figures.TABLES[page, heading]())
    assert made == PAGES[page], "python docs/figures.py writes them"


def test_the_results_are_those_of_their_reports():
    assert PAGES["results/README.md"] == figures.results_page()
    folders = {path.parent.name for path in (ROOT / "results").glob("*/report.json")}
    assert folders == figures.STUDIES.keys()
    for name in folders:
        assert (ROOT / "results" / name / "report.md").read_text(encoding="utf-8") == to_markdown(figures.read(name))


@pytest.mark.parametrize(
    ("page", "section", "name"),  # of one report, or of several
    [
        ("README.md", "What the demo finds", "demo"),
        ("docs/choose.md", "Every method on one task", "chains_mixed"),
        ("docs/gemma.md", "A pretrained Gemma that thinks", "gemma3 gemma3_longer"),
        ("docs/japanese.md", "What a Gemma learns", "bilingual"),
    ],
)
def test_no_number_contradicts_its_report(page, section, name):
    """Every figure with one decimal behind a comma or before a percent sign is one of the report's."""
    text = PAGES[page].split(f"## {section}\n")[1].split("\n## ")[0].split("\n**Thoughts aligned")[0]
    known = {number for each in name.split() for number in decimals(figures.read(each).to_dict())}
    assert set(re.findall(r"\b\d+\.\d(?=[ ,;:)]| %)", text)) <= known


def decimals(data):
    """The numbers of a report as pages write them, with one decimal, also as a percentage."""
    if isinstance(data, dict | list | tuple):
        for value in data.values() if isinstance(data, dict) else data:
            yield from decimals(value)
    elif isinstance(data, float):
        yield from (f"{data:.1f}", f"{100 * data:.1f}")
    elif isinstance(data, str):
        yield from (f"{float(number):.1f}" for number in re.findall(r"\d+\.\d+", data))


def test_no_text_stands_twice():
    """Paragraphs, items and rows: what is said in one place can be changed there."""
    seen = {}
    for page in PAGES.keys() - {"benchmarks/RESULTS.md", "results/README.md"}:  # tables side by side
        lines = [" ".join(part.split()) for part in re.split(r"\n\n|\n(?=[-|])", prose(page))]
        for line in lines:
            if len(line) > 80 and not line.startswith("|---"):
                assert line not in seen, f"{page} and {seen[line]}: {line}"
                seen[line] = page
