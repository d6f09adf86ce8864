"""Write files atomically: a file is complete or absent."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from imaging.errors import StorageError
from imaging.io.access import DENIED, FULL, has_no_room, refusal

CHUNK = 1 << 22


@contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary name in the same folder; on success it is renamed to ``path``, on failure removed.

    The content is flushed to disk before the rename, so that a crash leaves the old file or the new one. Without
    ``flush`` a crash of the machine may leave an empty file; use this for many small files that are easily recreated.

    Raises
    ------
    StorageError
        If the disk is full, read-only or failing.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if flush:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with suppress(OSError):  # the folder may be no folder: that error is on its way
            temporary.unlink(missing_ok=True)


def storage_error(error: OSError, path: Path) -> StorageError:
    """Return a storage error with cause and remedy."""
    if error.errno in DENIED:
        refused = refusal(path, "the file", write=True)
        return StorageError(refused.problem, value=refused.value, remedy=f"{refused.remedy}; then run it again")
    # CFITSIO only reports that it could not write.
    full = error.errno in FULL or "disk" in str(error).lower() or has_no_room(path.parent)
    reason = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    return StorageError(
        f"cannot write a file: {'the disk is full' if full else reason}",
        value=path,
        remedy="free some disk space and run the same command again; nothing finished is lost"
        if full
        else "check the folder's permissions and that it is mounted, then run the same command again",
    )


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Write a small file atomically; ``flush`` as in :func:`atomic_path`."""
    with atomic_path(path, flush=flush) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Write a small text file atomically, in UTF-8; ``flush`` as in :func:`atomic_path`."""
    write_bytes(path, text.encode("utf-8"), flush=flush)


def content_hash(path: Path) -> str:
    """Return the 128-bit XXH3 hash of a file's bytes as 32 hexadecimal digits (about 5 GB/s)."""
    digest = xxhash.xxh3_128()
    with Path(path).open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
