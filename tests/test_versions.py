"""What the package runs with is told, and what nobody has tested is told in a line."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from latent_gemma import cli, versions

ROOT = Path(__file__).parents[1]
NEWER = "import importlib.metadata as m; v = m.version; m.version = lambda name: {versions}.get(name) or v(name); "


def test_the_command_tells_its_versions(capsys):
    assert cli.main(["--version"]) == 0
    told = dict(line.split(" ") for line in capsys.readouterr().out.splitlines())
    assert told.keys() >= {"latent-gemma", "python", "torch", "transformers", "trl", "peft", "accelerate"}
    assert all(told[name] == metadata.version(name) for name in ("torch", "transformers", "trl"))


def test_nothing_is_said_of_what_was_tested():
    assert versions.untested() == []


@pytest.mark.parametrize(("name", "version"), [("transformers", "5.99.0"), ("trl", "1.2.0")])
def test_what_was_not_tested_is_told_in_one_line(name, version):
    for use in (
        "import latent_gemma",
        "import sys; sys.argv = ['latent-gemma']; from latent_gemma.cli import main; main(['--version'])",
    ):
        found = subprocess.run(
            [sys.executable, "-c", NEWER.format(versions={name: version}) + use],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = [line for line in (found.stdout + found.stderr).splitlines() if "has not been tested" in line]
        assert len(lines) == 1, found
        assert lines[0].startswith(f"{name} {version} has not been tested")
        assert f'pip install "{name}' in lines[0]


def test_the_lock_takes_packages_from_public_indexes_and_torch_for_a_cpu_from_pytorch():
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    sources = {}
    for package in lock["package"]:
        sources.setdefault(package["source"].get("registry"), set()).add(f"{package['name']} {package['version']}")
    assert sources.keys() == {None, "https://pypi.org/simple", "https://download.pytorch.org/whl/cpu"}
    (torch,) = sources["https://download.pytorch.org/whl/cpu"]
    assert torch in {f"{build}+cpu" for build in sources["https://pypi.org/simple"]}
    hosts = {wheel["url"].split("/")[2] for package in lock["package"] for wheel in package.get("wheels", ())}
    assert hosts == {"files.pythonhosted.org", "download-r2.pytorch.org"}
