"""Files and folders that only their owner may read, or the group of a group's site: server, secrets and backups."""

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from blocks.sharing import ALONE, private_modes
from imaging.errors import InputError

FILE_MODE = ALONE.file

LARGEST_SECRET_BYTES = 4096
"""Largest file that is read as a secret."""


def make_private_folder(folder: Path) -> None:
    """Create a folder for its owner, or its group; an existing one of this user loses the rights of others."""
    mode = private_modes(folder).folder
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    _set_mode(folder, mode)


def close_to_others(folder: Path) -> None:
    """Take a folder and everything in it from other users; links and files of other users stay as they are."""
    modes = private_modes(folder)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            _set_mode(path, modes.folder if path.is_dir() else modes.file)


def _set_mode(path: Path, mode: int) -> None:
    with suppress(FileNotFoundError):  # temporary files of the server come and go
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o7777 != mode:
            path.chmod(mode)


def _create(path: Path, flags: int) -> int:
    """Open a file; one that is created gets its mode whatever the umask is."""
    mode = private_modes(path).file
    descriptor = os.open(path, flags | os.O_CREAT, mode)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and not found.st_size and found.st_mode & 0o777 != mode:
        os.fchmod(descriptor, mode)
    return descriptor


def open_private(path: Path) -> IO[bytes]:
    """Open a file to read and append; it is created for its owner, or its group."""
    return os.fdopen(_create(path, os.O_RDWR | os.O_APPEND), "a+b")


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner, or its group, atomically and flushed to disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(_create(part, os.O_WRONLY | os.O_TRUNC), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def read_secret(path: Path, remedy: str = "") -> str:
    """Return the secret in a file.

    Parameters
    ----------
    path
        The file.
    remedy
        What to do beside ``chmod`` if others may have read it.

    Raises
    ------
    InputError
        If it cannot be read, is empty or too long, or others may read or write it.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode & 0o777
            content = stream.read(LARGEST_SECRET_BYTES + 1)
        text = content.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError("the file of a secret cannot be read", value=f"{path}: {reason}") from error
    allowed = private_modes(path).file
    if mode & 0o077 & ~allowed:
        advice = "; ".join(filter(None, (f"chmod {allowed:03o} {path}", remedy)))
        problem, value = "the file of a secret is open to others", f"{path}: mode {mode:03o}"
        raise InputError(problem, value=value, limit=f"{allowed:03o}", remedy=advice)
    if not text or len(content) > LARGEST_SECRET_BYTES:
        limit = f"1 to {LARGEST_SECRET_BYTES} bytes"
        raise InputError("the file of a secret holds none", value=f"{path}: {len(content)} bytes", limit=limit)
    return text
