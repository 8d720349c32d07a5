"""The studio as a Hugging Face Space, of the model that the variable LATENT_GEMMA_RUN names."""

import os

from latent_gemma.studio.page import Page, open_runs, serve

serve(Page(open_runs([os.environ["LATENT_GEMMA_RUN"]])).blocks())
