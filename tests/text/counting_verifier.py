"""A verifier that counts what its worker did not answer."""

from latent_gemma.text import verify
from latent_gemma.text.verify import MathVerifier


class CountingVerifier(MathVerifier):
    """Counts questions on which the worker took too long (`timeouts`), and ended or replied nonsense (`crashes`)."""

    timeouts = crashes = 0

    def _ask(self, given, wanted):
        try:
            return super()._ask(given, wanted)
        except verify._WorkerTimeout:
            self.timeouts += 1
            raise
        except verify._WorkerCrash:
            self.crashes += 1
            raise
