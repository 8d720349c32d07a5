"""`latent-gemma tasks`: what models can be evaluated on, and what leaks into what."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latent_gemma.data.task_list import TASKS, Task
from latent_gemma.errors import ConfigError
from latent_gemma.options.tools import Tasks


def _details(task: Task) -> Text:
    origin = "generated" if task.is_generated else "hub or file" if task.split else "file of"
    parts = {"fields": ", ".join(task.fields), origin: task.source, "leaks": task.leaks}
    return Text("\n").join(Text.assemble((f"{label}: ", "dim"), text) for label, text in parts.items())


def tasks_table(tasks: list[Task]) -> Table:
    """Lay tasks out as a table.

    Args:
        tasks: which, in the order of the rows.

    Returns:
        The table, one task a row.
    """
    table = Table(show_lines=True)
    table.add_column("task", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("language")
    table.add_column("answers")
    table.add_column("licence", max_width=20)
    table.add_column("fields, source, what leaks into what")
    for task in tasks:
        language = task.language if task.target is None else f"{task.language} to {task.target}"
        size = "any" if task.size is None else f"{task.size:,}"
        table.add_row(task.name, size, language, task.answer_kind, task.licence, _details(task))
    return table


def run_tasks(config: Tasks) -> None:
    """Print the table.

    Args:
        config: which tasks.

    Raises:
        ConfigError: if no task is in the language asked for.
    """
    chosen = [task for task in TASKS.values() if config.language in ("", task.language, task.answer_language)]
    if not chosen:
        known = sorted({task.language for task in TASKS.values()})
        raise ConfigError(f"no task is in language {config.language!r}", f"choose from {', '.join(known)}")
    Console().print(tasks_table(chosen))
