"""Each floor imports only from the floors under it."""

import ast
from pathlib import Path

import pytest
from figures import floors

import latent_gemma

PACKAGE = Path(latent_gemma.__file__).parent
#: Lowest first. The evaluation's rows (`evaluation.results`) are what inspection shows, so inspection stands above it.
FLOORS = [
    "errors",
    "choices",
    "versions",
    "files",
    "launch",
    "origin",
    "ranges",
    "text",
    "data",
    "model",
    "fast",
    "generation",
    "compat",
    "training",
    "engines",
    "evaluation",
    "inspection",
    "options",
    "recipes",
    "cli",
    "__main__",
]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def floor_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = FLOORS.index(floor_of(path))
    for name in imported(path):
        if name.startswith("latent_gemma."):
            target = name.split(".")[1]
            assert FLOORS.index(target) <= own, f"{path.name} ({FLOORS[own]}) imports {name} from a floor above it"


@pytest.mark.parametrize("floor", ["text", "data", "options"])
def test_low_floors_do_without_torch(floor):
    for path in (PACKAGE / floor).rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"torch", "transformers", "peft"}, path


def test_the_drawing_has_every_floor_in_its_place():
    drawn = [name for name, _ in floors()]
    assert drawn == [name for name in FLOORS if name in drawn]
    assert set(drawn) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {"cli"}


def test_every_module_says_what_it_is_for():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or ast.get_docstring(ast.parse(text)), path
