"""The command line: one verb, one recipe. What a user got wrong is told in one line, with exit status 2."""

import errno
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from latent_gemma.errors import LatentGemmaError
from latent_gemma.options.command_line import parse
from latent_gemma.ranges import nearest
from latent_gemma.text.display import displayable
from latent_gemma.versions import untested, versions


class Verb(NamedTuple):
    """Where a verb is at home.

    Args:
        options: module of its configuration class, which is read without torch.
        config: the class.
        recipe: module that carries it out.
        run: the function.
    """

    options: str
    config: str
    recipe: str
    run: str


VERBS = {
    "demo": Verb("options.stages", "Demo", "recipes.demo", "run_demo"),
    "train sft": Verb("options.stages", "Sft", "recipes.train", "run_train"),
    "train coconut": Verb("options.stages", "Coconut", "recipes.train", "run_train"),
    "train anneal": Verb("options.stages", "Anneal", "recipes.train", "run_train"),
    "train pause": Verb("options.stages", "Pause", "recipes.train", "run_train"),
    "train internalize": Verb("options.stages", "Internalize", "recipes.train", "run_train"),
    "train codi": Verb("options.stages", "Codi", "recipes.train", "run_train"),
    "train grpo": Verb("options.stages", "Grpo", "recipes.grpo", "run_grpo"),
    "study": Verb("options.study_options", "StudyOptions", "recipes.study_verb", "run_study_verb"),
    "eval": Verb("options.measurements", "Eval", "recipes.evaluate", "run_eval"),
    "compare": Verb("options.measurements", "Compare", "recipes.compare", "run_compare"),
    "vote": Verb("options.questions", "Vote", "recipes.vote", "run_vote"),
    "ask": Verb("options.questions", "Ask", "recipes.ask", "run_ask"),
    "chat": Verb("options.questions", "Chat", "recipes.chat", "run_chat"),
    "data preview": Verb("options.samples", "Preview", "recipes.data", "run_preview"),
    "data arithmetic": Verb("options.samples", "Arithmetic", "recipes.data", "run_generate"),
    "data chains": Verb("options.samples", "Chains", "recipes.data", "run_generate"),
    "data mine": Verb("options.samples", "Mine", "recipes.mine", "run_mine"),
    "tasks": Verb("options.tools", "Tasks", "recipes.tasks", "run_tasks"),
    "harness": Verb("options.tools", "Harness", "recipes.harness", "run_harness"),
    "estimate": Verb("options.tools", "Estimate", "recipes.estimate", "run_estimate"),
    "export": Verb("options.tools", "Export", "recipes.export", "run_export"),
    "push": Verb("options.tools", "Push", "recipes.export", "run_push"),
    "studio": Verb("options.tools", "Studio", "recipes.studio_page", "run_studio"),
}
SUMMARIES = {
    "demo": "train a tiny Gemma 2 to reason in latent space, and prove it (about 5 minutes on 2 cores)",
    "train sft": "text stage: written steps, between the thought markers or tags",
    "train coconut": "latent stage: steps become thoughts, stage by stage",
    "train anneal": "latent stage: p falls from 0.9 to 0 while K grows",
    "train pause": "control: COCONUT's stages with a learnt constant for each thought",
    "train internalize": "control: COCONUT's stages without thoughts",
    "train codi": "latent stage: thoughts learn from the written steps of the same model",
    "train grpo": "GRPO: a model improved by the rewards of its own answers",
    "study": "every method from one base on one data set with one budget: the report that settles it",
    "eval": "models on tasks or data: accuracy over K and p, controls, report",
    "compare": "evaluations of the same questions in one report",
    "vote": "answer a question by a vote of several traces",
    "ask": "ask a model one question",
    "chat": "talk with a model",
    "data preview": "show rows as text, tokens and label mask",
    "data arithmetic": "write synthetic arithmetic",
    "data chains": "write chains of modular arithmetic",
    "data mine": "write right answers with false steps, found among the samples of a run",
    "tasks": "list the evaluation tasks: licence, size, fields, what leaks into what",
    "harness": "models on the tasks of lm-evaluation-harness",
    "estimate": "memory and time of a training run",
    "export": "a model as a plain Gemma, for programs that know no thoughts",
    "push": "a model and its card to the Hugging Face hub",
    "studio": "a page in the browser: thoughts beside answers, to be taken out and replaced; runs and their curves",
}


#: Asking for help.
HELP = ("-h", "--help", "help")


def _usage(group: str = "") -> str:
    """The verbs, or those of a group."""
    shown = [verb for verb in VERBS if verb.startswith(group)]
    width = max(map(len, shown))
    lines = [f"  {verb:<{width}}  {SUMMARIES[verb]}" for verb in shown]
    return "\n".join(
        [
            f"usage: latent-gemma {group}VERB [options]",
            "",
            *lines,
            "",
            "latent-gemma VERB --help shows its options",
            "latent-gemma --version shows what it runs with",
        ]
    )


def _asks_for_usage(args: Sequence[str]) -> str | None:
    """The group whose verbs are asked for, "" for all; None where it is something else."""
    if not args or args[0] in HELP:
        return ""
    group = args[0] + " "
    return group if args[1:2] and args[1] in HELP and any(verb.startswith(group) for verb in VERBS) else None


def _split(args: Sequence[str]) -> tuple[str, list[str]]:
    for count in (2, 1):
        verb = " ".join(args[:count])
        if verb in VERBS:
            return verb, list(args[count:])
    group = args[0]
    members = [verb.split()[1] for verb in VERBS if verb.startswith(group + " ")]
    if members:
        given = args[1] if len(args) > 1 else ""
        raise LatentGemmaError(
            f"{group} {given!r} is no verb" if given else f"{group} needs a second word",
            nearest(given, members, f"choose one of {', '.join(members)}"),
        )
    groups = list(dict.fromkeys(verb.split()[0] for verb in VERBS))
    raise LatentGemmaError(f"unknown verb {group!r}", nearest(group, groups, f"choose one of {', '.join(groups)}"))


def config_class(verb: str) -> type:
    """The configuration class of a verb; loads no torch."""
    found: type = getattr(importlib.import_module(f"latent_gemma.{VERBS[verb].options}"), VERBS[verb].config)
    return found


def _refuse_broken(args: Sequence[str]) -> None:
    """What is no UTF-8 reaches Python as halves of surrogate pairs, which tokenizers, files and terminals refuse."""
    for arg in args:
        if "\0" in arg or any("\ud800" <= character <= "\udfff" for character in arg):
            raise LatentGemmaError(f"{arg[:60]!a} is no valid text", "write it in UTF-8")


def quieten() -> None:
    """Leave out what libraries say that is no user's business: bars for every file, deprecations among themselves."""
    # Progress is shown by the recipes; bars of the libraries for every file they touch would drown it.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a faster way that is not installed
    # where a run resumes: a checkpoint holds tied weights once
    tied = "There were missing keys in the checkpoint model loaded: ['lm_head.weight']"
    logging.getLogger("transformers.trainer").addFilter(lambda record: not record.getMessage().startswith(tied))
    if not sys.warnoptions:
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(?!latent_gemma)")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        args: the command line without the program's name; None takes the process's.

    Returns:
        0 when it worked, 2 when what was asked for cannot be done, 130 after Ctrl-C, 141 when the output was closed.
    """
    args = list(sys.argv[1:] if args is None else args)
    group = _asks_for_usage(args)
    if group is not None:
        print(_usage(group))
        return 0
    if args == ["--version"]:
        print("\n".join([*(f"{name} {version}" for name, version in versions().items()), *untested()]))
        return 0
    try:
        _refuse_broken(args)
        verb, rest = _split(args)
        config = parse(config_class(verb), rest, verb)
        quieten()
        recipe = importlib.import_module(f"latent_gemma.{VERBS[verb].recipe}")
        getattr(recipe, VERBS[verb].run)(config)
    except LatentGemmaError as error:
        print(f"latent-gemma: {displayable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno is None:
            raise
        name = displayable(str(error.filename or "a file"))
        name = f"the name {name[:40]}.." if error.errno == errno.ENAMETOOLONG else name
        print(f"latent-gemma: {name} cannot be read or written: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latent-gemma: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
