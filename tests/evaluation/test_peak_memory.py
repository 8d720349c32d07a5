import sys

import pytest
import torch

from latent_gemma.evaluation.peak_memory import peak_gib, reset_peak

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak cannot be forgotten")
def test_a_peak_is_that_of_the_work_since_the_reset():
    reset_peak(CPU)
    before = peak_gib(CPU)
    block = torch.ones(2**26)  # a quarter of a GiB
    del block
    during = peak_gib(CPU)
    assert during - before == pytest.approx(0.25, abs=0.1)
    reset_peak(CPU)
    assert peak_gib(CPU) < during - 0.1
