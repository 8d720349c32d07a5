"""What is fed back: its scale, its mix, and what gradients reach."""

import torch

from latent_gemma.model.feedback import latent_from_hidden, mix_inputs


def test_no_gradient_reaches_the_token_embedding():
    embedding, latent = (torch.ones(2, 4, requires_grad=True) for _ in range(2))
    mix_inputs(embedding, latent, 0.25).sum().backward()
    assert embedding.grad is None
    assert torch.allclose(latent.grad, torch.tensor(0.75))


def test_every_latent_has_the_scale_of_the_embeddings_and_zero_stays_zero():
    generator, scales = torch.Generator().manual_seed(0), torch.tensor([1e-3, 1.0, 1e3])
    hidden = torch.randn(3, 5, 8, generator=generator) * scales[:, None, None]
    latent = latent_from_hidden(hidden.to(torch.bfloat16), None, 2.5)
    assert latent.dtype == torch.float32
    torch.testing.assert_close(latent.pow(2).mean(-1).sqrt(), torch.full((3, 5), 2.5), rtol=1e-3, atol=0)
    assert not latent_from_hidden(torch.zeros(2, 8), None, 2.5).any()
