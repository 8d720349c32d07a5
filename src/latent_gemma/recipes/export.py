"""`latent-gemma export` and `latent-gemma push`: a finished model for other programs, and for other people."""

from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import HfApi, constants

from latent_gemma.errors import RunError
from latent_gemma.files import whole_folder, write_atomically
from latent_gemma.model.config import LATENT_CONFIGS
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM, is_latent_parameter
from latent_gemma.model.loading import latent_of, load_model, load_tokenizer, read_config, resolve_model
from latent_gemma.model.prompt import Frame
from latent_gemma.options.tools import Export, Push
from latent_gemma.origin import read_origin
from latent_gemma.recipes.card import CARD, HERE, run_files, with_figures, write_card
from latent_gemma.recipes.gguf_export import write_gguf
from latent_gemma.text.display import displayable


def run_export(config: Export) -> Path:
    """Write a model as a plain Gemma, in safetensors or GGUF.

    Args:
        config: which, where and how.

    Returns:
        The directory written, or the GGUF file in it.

    Raises:
        ModelError: if it cannot be loaded, or the format has no place for it.
        RunError: if the folder holds something, or cannot be written.
    """
    if config.to.exists() and (not config.to.is_dir() or any(config.to.iterdir())):
        raise RunError(f"--to {config.to} is there already", "give another folder")
    stored = getattr(read_config(config.run), "dtype", None)
    model, tokenizer = load_model(config.run, dtype=stored or torch.float32)
    latent, plain = model.config.latent, model.is_plain
    written = config.to / "model.gguf" if config.format == "gguf" else config.to
    try:
        with whole_folder(config.to.resolve()) as partial:
            if config.format == "gguf":
                write_gguf(partial / written.name, model, tokenizer, config.quantize, keeps_latent=plain)
            else:
                model.save_plain(partial, keeps_latent=plain)
                tokenizer.save_pretrained(partial)
                for file in run_files(Path(resolve_model(config.run)[0])):
                    asked = latent if plain else replace(latent, trained_for="none")
                    write_card(
                        partial, config.to.resolve().name, read_origin(file), Frame(tokenizer, asked), plain=True
                    )
    except OSError as error:
        raise RunError(f"--to {config.to} cannot be written, {error}", "give a folder that can be") from error
    print(displayable(f"{_left_out(model)}{written}"))
    return written


def _left_out(model: LatentReasoningGemmaForCausalLM) -> str:
    """A line on what of a latent model no plain Gemma has; none where that is nothing."""
    latent = model.config.latent
    own = sum(value.numel() for name, value in model.named_parameters() if is_latent_parameter(name))
    if latent.trained_for != "latent" and not own:
        return ""
    weights = f" and the {own:,} weights that only thoughts use" if own else ""
    return f"left out: thoughts (K = {latent.own_thoughts}){weights}; what is written answers without thinking\n"


def run_push(config: Push) -> str:
    """Upload a model directory with its card.

    Args:
        config: which and where to.

    Returns:
        The address of the commit.

    Raises:
        ModelError: if there is no model.
        RunError: without a network, a card, or the right to write there.
    """
    where, gguf = resolve_model(config.run)
    folder = Path(where)
    if gguf or not folder.is_dir():
        raise RunError(f"{config.run} is no model directory", "give a run folder, or what export wrote")
    if constants.HF_HUB_OFFLINE:
        raise RunError("HF_HUB_OFFLINE is set, so nothing can be uploaded", "unset it where there is a network")
    card = folder / CARD
    if not card.is_file():  # of an older version
        for file in run_files(folder):
            frame = Frame(load_tokenizer(config.run), latent_of(config.run))
            plain = read_config(config.run).model_type in LATENT_CONFIGS
            write_card(folder, file.parent.name, read_origin(file), frame, plain)
    try:
        text = card.read_text(encoding="utf-8")
        if config.report:
            text = with_figures(text, config.report)
        write_atomically(card, text.replace(HERE, config.repo))
    except OSError as error:
        raise RunError(f"{folder} has no card, {error}", f"write {CARD} there") from error
    try:
        api = HfApi()
        api.create_repo(config.repo, private=not config.public, exist_ok=True)
        commit = api.upload_folder(repo_id=config.repo, folder_path=folder, commit_message="Upload by latent-gemma")
    except Exception as error:  # the library and the ones below it raise many kinds
        said = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"{config.repo} cannot be uploaded, {type(error).__name__}: {said}",
            "log in with `hf auth login`, and see that the name is yours and the network is there",
        ) from error
    print(displayable(str(commit)))
    return str(commit)
