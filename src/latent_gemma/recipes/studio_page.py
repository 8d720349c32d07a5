"""`latent-gemma studio`: the page of one or several runs, on this machine."""

import importlib.util
import ipaddress
import socket
import sys

from latent_gemma.errors import ConfigError, RunError
from latent_gemma.options.tools import Studio
from latent_gemma.text.display import displayable


def run_studio(config: Studio) -> None:
    """Load the runs, and show the page until Ctrl-C.

    Args:
        config: which.

    Raises:
        ConfigError: without Gradio.
        RunError: where it cannot listen.
        ModelError: for a run that cannot be loaded.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("studio needs the studio extra", 'pip install "latent-gemma[studio]"')
    try:  # before models are loaded, which takes longer
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        socket.create_server((config.host, config.port or 0), family=family).close()
    except OSError as error:
        raise RunError(f"the page cannot listen at {config.host}: {error}", "give another --port or --host") from error
    from latent_gemma.studio.page import Page, open_runs, serve  # Gradio takes seconds

    blocks = Page(open_runs(config.runs, config.max_new_tokens), config.folder).blocks()
    if not _is_own(config.host):
        reach = f"whoever reaches {config.host} can ask these models and read the runs under {config.folder}"
        print(displayable(f"warning: {reach}"), file=sys.stderr)
    _, url, _ = serve(
        blocks, server_name=config.host, server_port=config.port, inbrowser=config.browser, quiet=True,
        prevent_thread_lock=True,
    )  # fmt: skip
    print(f"the studio is at {url} until Ctrl-C", flush=True)
    blocks.block_thread()


def _is_own(host: str) -> bool:
    """Whether an address reaches nobody but this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
