"""Options are a configuration's fields, those of its groups among them, by names of their own."""

from dataclasses import MISSING, replace
from pathlib import Path

import pytest

from latent_gemma.cli import VERBS, config_class
from latent_gemma.options.command_line import parse
from latent_gemma.options.flat import assembled, flat, retyped, told
from latent_gemma.options.source import DataSettings
from latent_gemma.options.stages import Anneal, Grpo, Sft
from latent_gemma.training.settings import LoraSettings


@pytest.mark.parametrize("verb", VERBS)
def test_no_two_options_of_a_verb_share_a_name(verb):
    names = [option.name for option in flat(config_class(verb))]
    assert len({*names, "config"}) == len(names) + 1


@pytest.mark.parametrize("verb", VERBS)
def test_what_has_to_be_said_is_never_advanced(verb):
    assert not [option.name for option in flat(config_class(verb)) if option.is_advanced and option.default is MISSING]


def test_groups_are_taken_apart_and_put_together():
    config = Sft("m", DataSettings("d", limit=3), Path("o"), lora=LoraSettings(rank=2))
    values = {option.name: option.default for option in flat(Sft)}
    assert assembled(Sft, values | {"model": "m", "data": "d", "out": Path("o"), "limit": 3, "rank": 2}) == config


def test_defaults_are_those_of_the_class_that_holds_the_group():
    lr = [next(option for option in flat(owner) if option.name == "lr") for owner in (Anneal, Grpo)]
    assert [option.default for option in lr] == [3e-5, 1e-5]
    assert lr[0].groups == ("train",)
    assert lr[0].text == "peak learning rate."


def test_a_configuration_is_told_in_a_line():
    config = replace(Sft("m", DataSettings("a b"), Path("o")), system="こんにちは\n", skip_bad=True)
    said = told(config)
    assert "\n" not in said
    assert {'data="a', 'b"', 'system="こんにちは\\n"', "skip_bad=true", "lr=3e-05"} <= {*said.split(" ")}
    assert "limit" not in said, "None is left out"
    assert "warmup" not in said, "what is seldom turned, and was not"


def test_options_are_typed_again_as_they_were():
    words = ["--model", "m", "--data", "a b", "--limit", "5", "--out", "o", "--targets", "x", "y", "--skip-bad"]
    config = parse(Sft, words, "train sft")
    again = retyped(config, {option.name for option in flat(Sft)})
    assert parse(Sft, again, "train sft") == config
    assert sorted(again) == sorted(words)
    assert retyped(config, {"limit", "lr"}) == ["--limit", "5"]
