"""latent-gemma: teach Gemma to reason, in words and in latent space, and prove what the reasoning is worth."""
