"""The public face: what is named there is there, typed, and costs nothing before it is asked for."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import latent_gemma

PACKAGE = Path(latent_gemma.__file__).parent
ROOT = Path(__file__).parents[1]
REGISTERED = "from transformers import AutoConfig; print(AutoConfig.for_model('latent_gemma2').model_type)"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_names_have_one_home_for_python_and_for_type_checkers():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {
        node.module.removeprefix("latent_gemma."): tuple(sorted(alias.name for alias in node.names))
        for node in typed.body
    }
    assert homes == {module: tuple(sorted(names)) for module, names in latent_gemma._HOMES.items()}
    assert sorted(name for names in homes.values() for name in names) == sorted(latent_gemma.__all__)
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("name", latent_gemma.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    found = getattr(latent_gemma, name)
    assert found.__name__ == name
    assert found.__doc__
    assert not found.__doc__.startswith(f"{name}(")  # what a dataclass without a docstring has


def test_what_is_not_there_is_told():
    with pytest.raises(AttributeError, match="no attribute 'Latent'"):
        latent_gemma.Latent  # noqa: B018
    assert set(latent_gemma.__all__) <= set(dir(latent_gemma))


def test_importing_it_registers_the_classes_and_loads_no_floor_above():
    loaded = (
        "import sys, latent_gemma; above = ('training', 'evaluation', 'inspection', 'recipes', 'data'); "
        "print(*(name for name in sys.modules if name.startswith(tuple('latent_gemma.' + one for one in above)))); "
    )
    assert run(f"import latent_gemma; {REGISTERED}") == ["latent_gemma2"]
    assert run(loaded) == []


def test_the_command_loads_no_torch_for_its_help():
    begun = "import sys; sys.argv = ['latent-gemma']; import latent_gemma, latent_gemma.cli; "
    assert run(f"{begun} print('torch' in sys.modules)") == ["False"]


def test_the_version_is_the_same_everywhere():
    places = {
        "pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## (\d\S*)",
    }
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in places}
    assert len({re.search(pattern, texts[name], re.MULTILINE)[1] for name, pattern in places.items()}) == 1
