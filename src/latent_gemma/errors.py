"""The exception tree: every error a user can cause has a one-line message that names the thing and the remedy."""


class LatentGemmaError(Exception):
    """Base of every error this package raises on purpose.

    The command line prints the message on one line and exits with status 2.

    Args:
        problem: what is wrong, naming the thing ("--p 1.5 is outside [0, 1]").
        remedy: what to do about it ("give a share between 0 and 1"); omitted when the problem says it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = " ".join(problem.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.problem}: {self.remedy}" if self.remedy else self.problem)


class ConfigError(LatentGemmaError):
    """An option, a configuration key or a value that cannot be used."""


class DataError(LatentGemmaError):
    """A data set that is missing, empty or malformed; names file, line and column where it can."""


class ModelError(LatentGemmaError):
    """A model directory, hub name or GGUF file that cannot be used as asked."""


class RunError(LatentGemmaError):
    """A run folder that cannot be started, resumed or read."""
