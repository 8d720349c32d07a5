"""The command line: one verb, one recipe. What a user got wrong is told in one line, with exit status 2."""

import contextlib
import errno
import importlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from latent_gemma.errors import LatentGemmaError
from latent_gemma.text.display import displayable
from latent_gemma.versions import untested, versions

#: verb -> module of its recipe, configuration class, function
VERBS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo", "Demo", "run_demo"),
    "train sft": ("train", "Sft", "run_train"),
    "train coconut": ("train", "Coconut", "run_train"),
    "train anneal": ("train", "Anneal", "run_train"),
    "train grpo": ("grpo", "Grpo", "run_grpo"),
    "eval": ("evaluate", "Eval", "run_eval"),
    "compare": ("compare", "Compare", "run_compare"),
    "vote": ("vote", "Vote", "run_vote"),
    "ask": ("ask", "Ask", "run_ask"),
    "chat": ("ask", "Chat", "run_chat"),
    "data preview": ("data", "Preview", "run_preview"),
    "data arithmetic": ("data", "Arithmetic", "run_generate"),
    "data chains": ("data", "Chains", "run_generate"),
    "data mine": ("mine", "Mine", "run_mine"),
    "tasks": ("tasks", "Tasks", "run_tasks"),
    "harness": ("harness", "Harness", "run_harness"),
    "estimate": ("estimate", "Estimate", "run_estimate"),
}
SUMMARIES = {
    "demo": "train a tiny Gemma 2 to reason in latent space, and prove it (under 5 minutes on 2 cores)",
    "train sft": "text stage: written steps, between the thought markers or tags",
    "train coconut": "latent stage: steps become thoughts, stage by stage",
    "train anneal": "latent stage: p falls from 0.9 to 0 while K grows",
    "train grpo": "GRPO: a model improved by the rewards of its own answers",
    "eval": "models on tasks or data: accuracy over K and p, controls, report",
    "compare": "evaluations of the same questions in one report",
    "vote": "answer a question by a vote of several traces",
    "ask": "ask a model one question",
    "chat": "ask a model questions, one a line",
    "data preview": "show rows as text, tokens and label mask",
    "data arithmetic": "write synthetic arithmetic",
    "data chains": "write chains of modular arithmetic",
    "data mine": "write right answers with false steps, found among the samples of a run",
    "tasks": "list the evaluation tasks: licence, size, fields, what leaks into what",
    "harness": "models on the tasks of lm-evaluation-harness",
    "estimate": "memory and time of a training run",
}


#: Verb and option that went -> what does the same.
MOVED = {("vote", "--data"): "latent-gemma eval RUN --data FILE --votes 5 measures votes"}
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
            f"choose one of {', '.join(members)}",
        )
    raise LatentGemmaError(
        f"unknown verb {group!r}", f"choose one of {', '.join(dict.fromkeys(v.split()[0] for v in VERBS))}"
    )


def _one_line(text: str) -> str:
    """A parser's boxed message as one line: what is unknown, what is missing, or else what it says."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", plain).split())
    unknown = re.search(r"Unrecognized options?: (.*?)(?= [\w-]+ [\w -]*--help|$| ?Perhaps| Similar)", words)
    if unknown:
        return f"unknown option {unknown[1].split()[0].rstrip(',')}"
    missing = re.search(r"Missing from .*?: (.*)", words)
    if missing:
        named = re.findall(r"(?:^| )(--[\w-]+) [A-Z{]", missing[1]) or missing[1].split()[:1]
        return f"missing {', '.join(dict.fromkeys(named))}"
    said = re.sub(r" ?(Argument helptext:|For full helptext).*$", "", words)
    said = re.sub(r"^(Parsing error|Value error|Invalid choice|Missing argument)\s*(Error parsing )?", "", said)
    return said.strip().rstrip(".") or "bad options"


def parse(config_class: type, args: Sequence[str], verb: str) -> Any:
    """Read a recipe's options.

    Args:
        config_class: its configuration.
        args: what the user typed after the verb.
        verb: for the help text.

    Returns:
        The configuration.

    Raises:
        LatentGemmaError: in one line, for an unknown option, a missing or a wrong value.
        SystemExit: with status 0 after --help.
    """
    import tyro

    stream = io.StringIO()
    if getattr(config_class, "passes_on", False) and args[:1] != ["--help"]:
        return config_class(options=tuple(args))  # of another program
    try:
        with contextlib.redirect_stderr(stream):
            return tyro.cli(
                config_class,
                config=(tyro.conf.OmitArgPrefixes,),
                args=list(args),
                prog=f"latent-gemma {verb}",
                description=config_class.__doc__.split("\n")[0] if config_class.__doc__ else "",
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        said = _one_line(stream.getvalue())
        remedy = MOVED.get((verb, said.removeprefix("unknown option ")), f"see latent-gemma {verb} --help")
        raise LatentGemmaError(said, remedy) from None


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
        module_name, class_name, function_name = VERBS[verb]
        quieten()
        module = importlib.import_module(f"latent_gemma.recipes.{module_name}")
        config = parse(getattr(module, class_name), rest, verb)
        getattr(module, function_name)(config)
    except LatentGemmaError as error:
        print(f"latent-gemma: {displayable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"latent-gemma: the name {str(error.filename)[:40]!a}.. is too long for a file", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latent-gemma: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
