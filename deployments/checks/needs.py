"""What a command that computes needs of the user's account and of the machine, known before anything starts."""

import os
import tempfile
from pathlib import Path

from blocks.sharing import require_site
from blocks.site import Site
from imaging.errors import InputError
from imaging.io.access import ROOM_BYTES, has_no_room, require_access
from imaging.kernel_cache import VARIABLE as KERNELS
from imaging.memory import memory_limit_bytes

LEAST_MEMORY_GB = 3.0
"""Address space below which no CCD can be measured, GiB: with 3 GB (2.8 GiB) every one fails."""


def require_needs(site: Site) -> None:
    """Raise unless this user can process exposures of a site: rights, room, caches, memory.

    Raises
    ------
    InputError
        With path, owner, limit and remedy.
    """
    require_site(site, "state", "server", "records", "locks", "failures", "products", "scratch", write=True)
    require_site(site, "raw", "calibrations", "reference")
    for folder in (site.state, site.store):
        _require_room(folder, "the disk of the site is full", "free some disk space; nothing finished is lost")
    _require_temporary_files()
    remedy = f"set HOME, XDG_CACHE_HOME or {KERNELS} to a folder of your own"
    require_access(Path(os.environ[KERNELS]), "the folder of compiled kernels", write=True, remedy=remedy)
    limit = memory_limit_bytes()
    if limit is not None and limit < LEAST_MEMORY_GB * 2**30:
        raise InputError(
            "the memory of a process is limited too low to measure a CCD",
            value=f"{limit / 2**30:.1f} GiB",
            limit=f"at least {LEAST_MEMORY_GB:g} GiB",
            remedy="raise ulimit -v and ulimit -d, or remove them",
        )


def _require_temporary_files() -> None:
    """Require the folder of temporary files: the one that is named, or the one that Python finds."""
    remedy = "set TMPDIR to a folder of your own"
    named = os.environ.get("TMPDIR")
    try:
        folder = Path(named or tempfile.gettempdir())
    except FileNotFoundError as error:
        raise InputError("there is no folder for temporary files", value=str(error), remedy=remedy) from error
    if not folder.is_dir():
        raise InputError("the folder of temporary files is missing", value=folder, remedy=remedy)
    require_access(folder, "the folder of temporary files", write=True, remedy=remedy)
    _require_room(folder, "the disk of temporary files is full", f"free some space there, or {remedy}")


def _require_room(folder: Path, problem: str, remedy: str) -> None:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if has_no_room(existing):
        raise InputError(problem, value=folder, limit=f"{ROOM_BYTES >> 20} MiB free", remedy=remedy)
