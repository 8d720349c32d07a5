"""`python -m latent_gemma`: the same commands."""

import sys

from latent_gemma.cli import main

sys.exit(main())
