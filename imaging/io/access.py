"""What a user may not read or write, told in one sentence: path, owner, mode and remedy."""

import errno
import os
import pwd
import shutil
from contextlib import suppress
from pathlib import Path

from imaging.errors import InputError

ROOM_BYTES = 1 << 24
"""Free space below which a disk counts as full."""

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Numbers of the errors of who may not."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of full disks and quotas."""


def user_name(uid: int) -> str:
    """Return the name of a user; its number if it has none on this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def obstacle(path: Path, *, write: bool = False) -> Path | None:
    """Return the folder or file that keeps this user from a path; None if nothing does.

    Parameters
    ----------
    path
        File or folder; a missing one may be read by everybody, and written by who may create it.
    write
        Whether it is to be written.
    """
    path = path.absolute()
    above = path.root
    for part in (*reversed(path.parents), path):
        if not os.path.lexists(part):  # of a folder that may not be searched, its own turn has come before
            return Path(above) if write and not os.access(above, os.W_OK) else None
        if part != path and not os.access(part, os.X_OK):
            return part
        above = str(part)
    needed = os.R_OK | (os.W_OK if write else 0) | (os.X_OK if path.is_dir() else 0)
    return None if os.access(path, needed) else path


def refusal(path: Path, what: str, *, write: bool = False, remedy: str = "") -> InputError:
    """Return the error of a path that this user may not read or write.

    Parameters
    ----------
    path
        The path.
    what
        What it is, such as ``the site's products``.
    write
        Whether it was to be written.
    remedy
        What to do instead of working as its owner; empty to ask for the right.
    """
    place = obstacle(path, write=write) or path
    if write and _is_read_only(place):
        action = "mount it writable, or work on another site"
        return InputError(f"{what}: the disk is mounted read-only", value=path, remedy=action)
    try:
        found = place.stat()
    except OSError:
        place = place.parent
        found = place.stat()
    owner = user_name(found.st_uid)
    value = f"{place}: of {owner}, mode {found.st_mode & 0o7777:03o}; this is {user_name(os.geteuid())}"
    if found.st_uid == os.geteuid():
        action = f"chmod u+rw{'x' if place.is_dir() else ''} {place}"
    else:
        action = f"work as {owner}, or {remedy or f'ask {owner} for the right'}"
    return InputError(f"{what} may not be {'written' if write else 'read'}", value=value, remedy=action)


def require_access(path: Path, what: str, *, write: bool = False, remedy: str = "") -> None:
    """Raise unless this user may read, or write, a path; the parameters are those of :func:`refusal`.

    Raises
    ------
    InputError
        With path, owner, mode and remedy.
    """
    if obstacle(path, write=write) is not None:
        raise refusal(path, what, write=write, remedy=remedy)


def has_no_room(folder: Path) -> bool:
    """Whether the disk of a folder is full."""
    try:
        return shutil.disk_usage(folder).free < ROOM_BYTES
    except OSError:
        return False


def told(error: OSError) -> InputError | None:
    """Return what an exception says of rights or of a full disk as an error with path, owner and remedy; else None."""
    if error.errno not in (*DENIED, *FULL) or not error.filename:
        return None
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else Path("?")
    if error.errno in FULL:
        return InputError("the disk is full", value=path, remedy="free some disk space, then try again")
    return refusal(path, "a file", write=error.errno == errno.EROFS or obstacle(path) is None)


def _is_read_only(path: Path) -> bool:
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False
