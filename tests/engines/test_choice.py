"""The engine is the one that was asked for, installed as it was run; what it does not train is refused at once."""

from importlib import metadata

import pytest

from latent_gemma.cli import main
from latent_gemma.engines.tunix import requirements
from latent_gemma.errors import ConfigError


def installed(monkeypatch, **versions):
    """As if these were installed, and of everything else what was run."""
    known = {"google-tunix": "0.1.7"} | {
        needed.name: next(iter(needed.specifier)).version for needed in requirements.extra_requirements("tunix")
    }
    known |= {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name):
        if known[name] is None:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(requirements.metadata, "version", version)


def test_what_was_run_is_taken(monkeypatch):
    installed(monkeypatch)
    assert {
        "google-tunix": "0.1.7",
        "jax": "0.10.2",
        "flax": "0.12.8",
    }.items() <= requirements.check_installed().items()


@pytest.mark.parametrize(
    "versions", [{"google_tunix": None}, {"google_tunix": "0.1.8"}, {"jax": "0.9.0"}, {"grain": None}]
)
def test_anything_else_is_refused_with_the_two_lines(monkeypatch, versions):
    installed(monkeypatch, **versions)
    name = next(iter(versions)).replace("_", "-")
    with pytest.raises(ConfigError) as refused:
        requirements.check_installed()
    assert name in refused.value.problem
    assert refused.value.remedy == requirements.INSTALL
    assert "--no-deps google-tunix==0.1.7" in requirements.INSTALL


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("coconut", "--engine tunix", "does not train latent stages: take --engine torch"),
        ("anneal", "--engine tunix", "does not train latent stages: take --engine torch"),
        ("sft", "--engine tunix --rank 4 --quantize 4bit", "--quantize 4bit with --engine tunix: leave it out"),
        ("grpo", "--engine tunix --rank 4 --quantize 4bit", "--quantize 4bit with --engine tunix: leave it out"),
        ("grpo", "--mesh 2,4", "--mesh 2,4 with --engine torch"),
        ("sft", "--mesh 2,4", "--mesh 2,4 with --engine torch"),
    ],
)
def test_the_other_engine_trains_it(verb, options, said, tmp_path, capsys):
    command = ["train", verb, "--model", "tiny", "--data", "chains:length=2", "--out", str(tmp_path / "run")]
    assert main([*command, *options.split()]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
