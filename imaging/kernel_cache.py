"""Where the machine code of the kernels is kept: apart for every version of their sources.

Numba looks at the file of a kernel only, not at those of the kernels that it calls, so machine code that it has kept
beside the sources may hold an older version of a kernel from another file.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

VARIABLE = "NUMBA_CACHE_DIR"

UNUSED_DAYS = 30.0
"""Machine code that no process has used for as long is removed."""


def keep_kernels_apart(package: Path, caches: Path | None = None) -> Path | None:
    """Let Numba keep machine code in a folder named after the content of all files with kernels.

    Runs before Numba is imported. If the folder cannot be written, Numba keeps its own.

    Parameters
    ----------
    package
        Folder of the package whose kernels they are.
    caches
        Folder of all versions; None for ``gw-workflow/kernels`` in the user's folder of caches.

    Returns
    -------
    folder
        The folder; None if the user has chosen one by ``NUMBA_CACHE_DIR``.
    """
    if os.environ.get(VARIABLE):
        return None
    root = caches or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gw-workflow" / "kernels"
    folder = root / version_of_kernels(package)
    os.environ[VARIABLE] = str(folder)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        remove_unused(root)
    return folder


def version_of_kernels(package: Path) -> str:
    """Return a hash of every file of a package that has a kernel."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        if b"njit" in content:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def remove_unused(root: Path, unused_days: float = UNUSED_DAYS) -> None:
    """Remove the folders below a root that were not used for some days."""
    for folder in root.iterdir():
        if time.time() - folder.stat().st_mtime > unused_days * 86400.0:
            rmtree(folder, ignore_errors=True)
