"""A folder by whose name a converted model can be loaded again, as long as this process lives.

Trainers load their reference by the name in a model's configuration. Under the name of the plain Gemma that a model was
made from they would find one that does not think, and say nothing.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME, cached_file

#: What is missing is None.
_QUIETLY: dict[str, Any] = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_connection_errors": False,
}


@functools.cache
def _folders() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="latent-gemma-", ignore_cleanup_errors=True)


def address(config: PreTrainedConfig, name: str, hub: dict[str, Any]) -> str:
    """Make the folder: the configuration with its latent part, and links to all other files of the plain model.

    Args:
        config: of the converted model.
        name: directory or hub name of the plain model.
        hub: where on the hub, as `cached_file` takes it.

    Returns:
        The folder; `name` where no plain model lies there any more, or the file system has no links.
    """
    source = cached_file(name, CONFIG_NAME, **_QUIETLY, **hub) if name else None
    if source is None:
        return name
    folder = Path(tempfile.mkdtemp(dir=_folders().name, prefix=f"{Path(name).name}-"))
    try:
        for file in Path(source).parent.iterdir():
            if file.is_file() and file.name != CONFIG_NAME:
                (folder / file.name).symlink_to(file.absolute())
    except (OSError, NotImplementedError):
        return name
    config.save_pretrained(folder)
    return str(folder)
