"""Files and folders that appear whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Ending of what is still being written. A process that was killed leaves such a file behind.
PARTIAL = ".partial"


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file beside its place and put it there when it is complete and on the disk.

    Args:
        path: the file; its folder is made if missing.

    Yields:
        Where to write. After an exception nothing is left, and a file that was at `path` is as it was.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's number keeps two writers of one file out of each other's way.
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file; its folder is made if missing.
        content: bytes, or text that is written as UTF-8; half a surrogate pair in it is written as its escape.

    Raises:
        OSError: if it cannot be written.
    """
    data = content.encode("utf-8", errors="backslashreplace") if isinstance(content, str) else content
    with whole_file(path) as partial:
        partial.write_bytes(data)


def publish_folder(partial: Path, path: Path) -> None:
    """Give a finished folder its name; one that had the name makes way.

    Args:
        partial: the folder, on the file system of `path`.
        path: its name from now on.

    Raises:
        OSError: if it cannot be done.
    """
    for file in partial.rglob("*"):
        sync(file)
    sync(partial)
    old = path.with_name(f".{path.name}.old{PARTIAL}")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(partial, path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder beside its place and put it there when all of it is on the disk.

    Args:
        path: the folder.

    Yields:
        An empty folder to write into. After an exception nothing of it is left, and what was at `path` is as it was.

    Raises:
        OSError: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        publish_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy_folder(source: Path, path: Path) -> None:
    """Copy a folder whole or not at all; one that has the name makes way.

    Args:
        source: the folder.
        path: its copy.

    Raises:
        OSError: if it cannot be written.
    """
    with whole_folder(path) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder that nobody else writes to."""
    for path in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sha256_of(*paths: Path) -> str:
    """SHA-256 of the bytes of files, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
