"""Attention of the latent classes."""

import torch


def test_attention_maps_of_a_plain_prompt_can_be_asked_for(make_model):
    maps = make_model("gemma2")(torch.randint(20, 60, (1, 5)), output_attentions=True).attentions
    assert maps[0].shape[-2:] == (5, 5)
