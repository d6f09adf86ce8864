"""Locks between processes, also of other machines whose file system supports ``flock``."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imaging.io.atomic import storage_error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time run the ``with`` block; the lock of a process that dies is free.

    Parameters
    ----------
    path
        File of the lock, which is created and stays.

    Raises
    ------
    StorageError
        If it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        raise storage_error(error, path) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
