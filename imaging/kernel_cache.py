"""Cache folder of Numba-compiled kernels, separate for every version of their source files.

Numba checks only the file of a kernel, not those of the kernels that it calls, so its default cache may contain an
older version of a kernel from another file.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree

VARIABLE = "NUMBA_CACHE_DIR"

NO_HOME = Path("/nonexistent")
"""Home folder of who has none, as Debian names it."""

UNUSED_DAYS = 30.0
"""Cache folders unused for this many days are removed."""


def keep_kernels_apart(package: Path, caches: Path | None = None) -> Path | None:
    """Set Numba's cache folder to one named after the content hash of all files with kernels.

    Must run before Numba is imported. If the folder is not writable, Numba's default remains.

    Parameters
    ----------
    package
        Folder of the package with the kernels.
    caches
        Parent folder of all versions; None for ``gw-workflow/kernels`` in the user's cache folder.

    Returns
    -------
    folder
        The folder; None if the user has set ``NUMBA_CACHE_DIR``.
    """
    if os.environ.get(VARIABLE):
        return None
    root = caches or user_caches() / "kernels"
    folder = root / version_of_kernels(package)
    os.environ[VARIABLE] = str(folder)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        remove_unused(root)
    return folder


@contextmanager
def one_compiles(what: str) -> Iterator[None]:
    """Let one process compile the kernels of some work; the others wait, and load them.

    The first call of the work holds a lock, which is released when its process ends. Whether it succeeds or not, no
    later call waits. Without a cache folder that can be written nobody waits, because nobody could load.

    Parameters
    ----------
    what
        Name of the work, another one for every version of its code.
    """
    mark = Path(os.environ[VARIABLE]) / f"{what}.compiled"
    with ExitStack() as held:
        if not mark.exists():
            with suppress(OSError):
                fcntl.flock(held.enter_context(mark.with_suffix(".lock").open("w")), fcntl.LOCK_EX)
            if mark.exists():
                held.close()
        try:
            yield
        finally:
            with suppress(OSError):
                mark.touch()


def user_caches() -> Path:
    """Return the project's folder in the user's cache folder; for a user without home folder one that cannot exist."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home raises where there is none)
    place = os.environ.get("XDG_CACHE_HOME") or (home if home.is_absolute() else NO_HOME) / ".cache"
    return Path(place) / "gw-workflow"


def version_of_kernels(package: Path) -> str:
    """Return a hash of all files of a package that contain kernels."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        if b"njit" in content:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def remove_unused(root: Path, unused_days: float = UNUSED_DAYS) -> None:
    """Remove folders below a root that were unused for some days."""
    for folder in root.iterdir():
        if time.time() - folder.stat().st_mtime > unused_days * 86400.0:
            rmtree(folder, ignore_errors=True)
