"""A preallocated cache gives the same tokens as a growing one."""

import pytest
import torch

from tests.conftest import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("recurrence", "visibility"), [("append", 1.0), ("append", 0.0), ("append", 0.4), ("sequence", 1.0)]
)
def test_static_equals_dynamic(family, recurrence, visibility, make_model, prompts):
    model = make_model(
        family, recurrence=recurrence, question_visibility=visibility, p=0.3, sliding_window=5, num_layers=7
    )
    ids = prompts()
    ids[0, :2] = 0
    mask = (ids != 0).long()
    options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    dynamic = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, cache_implementation="static", **options), dynamic)
