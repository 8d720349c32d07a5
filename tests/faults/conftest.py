"""Short runs that faults are injected into."""

import itertools

import pytest

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.model import LatentConfig
from latent_gemma.model.tiny import build_tiny
from latent_gemma.training.curriculum import WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.run_log import read_metrics
from latent_gemma.training.settings import TrainSettings


@pytest.fixture(scope="session")
def train(tokenizer):
    """train(folder, curriculum, resume=..., **settings): six steps with a checkpoint every second one."""
    examples = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 16))
    latent = LatentConfig(step_separator="", num_thoughts=2)

    def run(folder, curriculum=None, resume=False, **changes):
        settings = TrainSettings(**{"steps": 6, "batch_size": 4, "lr": 1e-3, "log_every": 1, "save_every": 2} | changes)
        # what a run goes on from is its checkpoint, whatever model it is given
        model = build_tiny("gemma2", latent, hidden_size=32, num_layers=2, num_heads=2, seed=int(resume))
        return fit(
            model, tokenizer, examples, curriculum or WrittenCurriculum(), settings, folder, "test", resume=resume
        )

    return run


def read_steps(folder):
    """The log entries of each step, without what a clock says."""
    entries = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries if "loss" in entry]


@pytest.fixture(scope="session")
def logged():
    """logged(folder): see `read_steps`."""
    return read_steps


@pytest.fixture(scope="session")
def undisturbed(train, tmp_path_factory):
    """The log entries of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder)
    return read_steps(folder)
