"""Files and folders that only their owner may read: the server's folder, secrets and backups."""

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from imaging.errors import InputError

FOLDER_MODE = 0o700
FILE_MODE = 0o600

LARGEST_SECRET_BYTES = 4096
"""Largest file that is read as a secret."""


def make_private_folder(folder: Path) -> None:
    """Create a folder for its owner alone; an existing one of this user loses the rights of others."""
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    _set_mode(folder, FOLDER_MODE)


def close_to_others(folder: Path) -> None:
    """Take a folder and everything in it from other users; links and files of other users stay as they are."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            _set_mode(path, FOLDER_MODE if path.is_dir() else FILE_MODE)


def _set_mode(path: Path, mode: int) -> None:
    with suppress(FileNotFoundError):  # temporary files of the server come and go
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o777 != mode:
            path.chmod(mode)


def open_private(path: Path) -> IO[bytes]:
    """Open a file to read and append; it is created for its owner alone."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE), "a+b")


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, atomically and flushed to disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "w") as stream:
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
        What to do beside ``chmod 600`` if others may have read it.

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
    if mode & 0o077:
        advice = "; ".join(filter(None, (f"chmod 600 {path}", remedy)))
        raise InputError(
            "the file of a secret is open to others", value=f"{path}: mode {mode:03o}", limit="600", remedy=advice
        )
    if not text or len(content) > LARGEST_SECRET_BYTES:
        limit = f"1 to {LARGEST_SECRET_BYTES} bytes"
        raise InputError("the file of a secret holds none", value=f"{path}: {len(content)} bytes", limit=limit)
    return text
