"""Chosen rows of a cache go on as they would have in their own batch."""

import pytest
import torch
from transformers import DynamicCache

from latent_gemma.model.cache import select_rows


@pytest.mark.parametrize("latent", [{}, {"question_visibility": 0.5}])
def test_chosen_rows_go_on_with_a_thought(make_model, prompts, latent):
    model, ids, rows = make_model(num_thoughts=2, **latent), prompts(thoughts=2), torch.tensor([2, 0, 2])
    first = (ids == model.config.latent.thought_id).int().argmax(-1)[0]
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        whole = model(ids).logits[:, -1]
        model(ids[:, :first], past_key_values=cache)
        select_rows(cache, rows)
        found = model(ids[rows, first:], past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(found, whole[rows], rtol=1e-4, atol=1e-4)
