"""A preallocated cache gives the same tokens as a growing one."""

import pytest
import torch

from tests.conftest import FAMILIES, RECURRENCES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_static_equals_dynamic(family, recurrence, make_model, prompts):
    model = make_model(family, recurrence=recurrence, p=0.3, sliding_window=5, num_layers=7)
    ids = prompts()
    ids[0, :2] = 0
    mask = (ids != 0).long()
    options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    dynamic = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, cache_implementation="static", **options), dynamic)
