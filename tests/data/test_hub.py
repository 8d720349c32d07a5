import datasets
import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.hub import load_hub
from latent_gemma.errors import DataError


@pytest.fixture
def hub(monkeypatch):
    """Stand in for the hub: hub(rows or an error) returns the calls it gets."""

    def stand_in(outcome):
        calls = []

        def load_dataset(*args, **kwargs):
            calls.append((args, kwargs))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return stand_in


def test_gsm8k_is_read_in_its_main_configuration(hub):
    calls = hub([{"question": "Q", "answer": "so <<1+1=2>>2\n#### 2"}])
    assert list(load_hub("openai/gsm8k", split="test", steps_format="result")) == [Example("Q", ("2",), "2")]
    assert calls == [(("openai/gsm8k", "main"), {"split": "test"})]


def test_a_named_configuration_wins_and_others_have_none(hub):
    calls = hub([])
    list(load_hub("openai/gsm8k", "socratic"))
    list(load_hub("owner/name"))
    assert [args for args, _ in calls] == [("openai/gsm8k", "socratic"), ("owner/name", None)]


def test_a_malformed_row_is_named(hub):
    hub([{"question": "Q", "answer": "1"}, {"question": "Q", "answer": None}])
    with pytest.raises(DataError, match=r"owner/name \(train\), row 2, column 'answer': .* found null"):
        list(load_hub("owner/name"))
    bad = []
    assert list(load_hub("owner/name", on_bad=bad.append)) == [Example("Q", (), "1")]
    assert len(bad) == 1


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (datasets.exceptions.DatasetNotFoundError("Dataset 'o/n' is a gated dataset on the Hub."), "hf auth login"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'o/n' doesn't exist on the Hub"), "check the name"),
        (ConnectionError("Couldn't reach 'o/n' on the Hub (OfflineModeIsEnabled)"), "connect to the network"),
        (ConnectionError("Couldn't reach 'o/n' on the Hub (LocalEntryNotFoundError)"), "check the network"),
        (RuntimeError("Dataset scripts are no longer supported, but found n.py"), "never run"),
        (ValueError("Config name is missing.\nPlease pick one"), 'name a configuration of it: "owner/name:config"'),
        (ValueError("BuilderConfig 'x' not found. Available: ['main']"), "name a configuration"),
        (ValueError("Unknown split \"dev\". Should be one of ['train']."), "name one of its splits"),
        (KeyError(), "KeyError"),
    ],
)
def test_every_failure_is_one_line_with_a_remedy(hub, error, remedy):
    hub(error)
    with pytest.raises(DataError) as caught:
        list(load_hub("o/n"))
    assert str(caught.value).startswith("o/n cannot be had from the hub, ")
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
