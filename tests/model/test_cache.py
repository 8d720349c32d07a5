"""What is done to a cache is done to what it remembers of a rollout."""

import copy
import pickle

import pytest
import torch
from transformers import DynamicCache, StaticCache

from latent_gemma.errors import ConfigError
from latent_gemma.model.cache import RolloutNote
from latent_gemma.model.stock import CACHE, cache_of
from tests.conftest import RECURRENCES, every_family

every_recurrence = pytest.mark.parametrize("recurrence", RECURRENCES)

#: How a user keeps rows of a cache, and which rows these are.
CHOICES = {
    "reorder": (lambda cache: cache.reorder_cache(torch.tensor([2, 0, 2])), [2, 0, 2]),
    "select": (lambda cache: cache.batch_select_indices(torch.tensor([1, 2])), [1, 2]),
    "repeat": (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
}
KINDS = {
    "dynamic": lambda config: DynamicCache(config=config),
    "without a configuration": lambda config: DynamicCache(),
    "static": lambda config: StaticCache(config=config, max_cache_len=32),
}


@every_recurrence
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", CHOICES)
@torch.no_grad()
def test_chosen_rows_go_on_as_in_their_own_batch(make_model, prompts, choice, kind, recurrence):
    model, ids = make_model(recurrence=recurrence), prompts(thoughts=2, answer=3)
    if kind == "static" and choice != "reorder":
        pytest.skip("transformers gives a static cache no such method")
    change, rows = CHOICES[choice]
    whole = model(ids).logits
    # in front of a thought, where that may be, and behind all of them
    for cut in (7, 10) if recurrence == "append" else (10,):
        cache = KINDS[kind](model.config)
        model(ids[:, :cut], **{CACHE: cache})
        change(cache)
        found = model(ids[rows, cut:], **{CACHE: cache}).logits
        torch.testing.assert_close(found, whole[rows, cut:], rtol=1e-4, atol=1e-4)


@every_recurrence
@torch.no_grad()
def test_a_cache_that_was_reset_is_new(make_model, prompts, recurrence):
    model = make_model(recurrence=recurrence)
    first, second = prompts(thoughts=2, answer=1), prompts(thoughts=3, answer=2, seed=4)
    cache = DynamicCache(config=model.config)
    model(first, **{CACHE: cache})
    cache.reset()
    for ids in (second, second[:, :6]):
        torch.testing.assert_close(model(ids, **{CACHE: cache}).logits, model(ids).logits)
        cache.reset()


@every_recurrence
@torch.no_grad()
def test_what_was_cropped_is_forgotten(make_model, prompts, recurrence):
    model, ids = make_model(recurrence=recurrence), prompts(thoughts=2, answer=4)
    cache = DynamicCache(config=model.config)
    whole = model(ids).logits
    model(ids, **{CACHE: cache})
    cache.crop(-3)
    found = model(ids[:, -3:], **{CACHE: cache}).logits
    torch.testing.assert_close(found, whole[:, -3:], rtol=1e-4, atol=1e-4)


@every_recurrence
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
@torch.no_grad()
def test_a_copied_cache_goes_its_own_way(make_model, prompts, copied, recurrence):
    model, ids = make_model(recurrence=recurrence), prompts(thoughts=2, answer=3)
    cut = 7 if recurrence == "append" else 10
    cache = cache_of(model(ids[:, :cut]))
    twin = copied(cache)
    model(prompts(thoughts=2, answer=3, seed=9)[:, cut:], **{CACHE: cache})
    torch.testing.assert_close(model(ids[:, cut:], **{CACHE: twin}).logits, model(ids).logits[:, cut:])


@every_family
@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@torch.no_grad()
def test_the_cache_goes_by_either_name(make_model, prompts, family, name):
    model, ids = make_model(family), prompts(thoughts=2, answer=2)
    whole, cache = model(ids).logits, DynamicCache(config=model.config)
    for start, end in ((0, 8), (8, 11), (11, 12)):
        found = model(ids[:, start:end], **{name: cache}).logits
        torch.testing.assert_close(found, whole[:, start:end], rtol=1e-4, atol=1e-4)
    hidden = model.model(ids[:, :8], **{name: DynamicCache(config=model.config)}).last_hidden_state
    torch.testing.assert_close(hidden, model.model(ids[:, :8]).last_hidden_state)
    with pytest.raises(ConfigError, match="both cache and past_key_values"):
        model(ids, cache=cache, past_key_values=cache)


@torch.no_grad()
def test_a_cache_that_grew_without_leaving_a_note(make_model, prompts):
    model, ids = make_model(recurrence="sequence"), prompts(thoughts=2, answer=4)
    whole = model(ids).logits
    cache = cache_of(model(ids[:, :10]))
    note = RolloutNote.on(cache)
    known = note.length, note.hidden, note.held
    model(ids[:, 10:12], **{CACHE: cache})
    note.length, note.hidden, note.held = known  # as if the plain class had made this call
    torch.testing.assert_close(model(ids[:, 12:], **{CACHE: cache}).logits, whole[:, 12:], rtol=1e-4, atol=1e-4)
