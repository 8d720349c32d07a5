"""Short runs that faults are injected into."""

import itertools

import pytest

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.training.callbacks import read_metrics
from latent_gemma.training.curriculum import WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.settings import TrainSettings


@pytest.fixture
def train(make_model, tokenizer):
    """train(folder, curriculum, resume=..., **settings): six steps with a checkpoint every second one."""
    examples = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 16))

    def run(folder, curriculum=None, resume=False, **changes):
        settings = TrainSettings(**{"steps": 6, "batch_size": 4, "lr": 1e-3, "log_every": 1, "save_every": 2} | changes)
        model = make_model(step_separator="", num_thoughts=2, seed=1 if resume else 0)
        return fit(
            model, tokenizer, examples, curriculum or WrittenCurriculum(), settings, folder, "test", resume=resume
        )

    return run


@pytest.fixture
def logged():
    """logged(folder): the entries of each step, without what a clock says."""

    def read(folder):
        entries = read_metrics(folder / "metrics.jsonl")
        return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries if "loss" in entry]

    return read
