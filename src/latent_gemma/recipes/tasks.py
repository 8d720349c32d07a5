"""`latent-gemma tasks`: what models can be evaluated on, and what leaks into what."""

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from latent_gemma.data.task_list import TASKS, Task
from latent_gemma.errors import ConfigError
from latent_gemma.options.tools import Tasks
from latent_gemma.text.columns import facts


def _record(task: Task) -> Group:
    """A task: its name, what it is, and below it where it comes from and what leaks."""
    language = task.language if task.target is None else f"{task.language} to {task.target}"
    size = "any number of" if task.size is None else f"{task.size:,}"
    origin = "generated" if task.is_generated else "hub or file" if task.split else "file of"
    said = {"fields": ", ".join(task.fields), origin: task.source, "leaks": task.leaks}
    what = f"  {size} rows; {language}; answers: {task.answer_kind}; licence: {task.licence}"
    return Group(Text.assemble((task.name, "bold"), what), Padding(facts(said), (0, 0, 0, 2)))


def run_tasks(config: Tasks) -> None:
    """Print the tasks.

    Args:
        config: which tasks.

    Raises:
        ConfigError: if no task is in the language asked for.
    """
    chosen = [task for task in TASKS.values() if config.language in ("", task.language, task.answer_language)]
    if not chosen:
        known = sorted({task.language for task in TASKS.values()})
        raise ConfigError(f"no task is in language {config.language!r}", f"choose from {', '.join(known)}")
    for task in chosen:
        Console().print(_record(task))
