"""Whose a site is: one user's, or a group's; the only place that decides modes of files.

A site is private unless its state folder holds the file ``shared-with``, which names a group and is written by
``gw-workflow share``. In a group's site every folder belongs to the group and has the setgid bit, so that what is
created in it does too, and every process works with the umask 007, whatever its user's is: files have the mode 660,
folders 2770. The server's folder and the secrets, in a private site for their owner alone, are the group's then.
"""

import grp
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blocks.site import FOLDERS, Site
from imaging.errors import InputError
from imaging.io.access import obstacle, refusal, require_access, user_name

MARK = "shared-with"
"""Name of the file in the state folder that names the group."""

PRIVATE = ("server", "keys")
"""Folders of the state whose files nobody but the site's people may read."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Modes of folders and files, and the umask that gives them."""

    folder: int
    file: int
    umask: int


ALONE = Modes(0o700, 0o600, 0o077)
"""What is for the owner alone."""

TOGETHER = Modes(0o2770, 0o660, 0o007)
"""What is for a group."""


def group_of(state: Path) -> str | None:
    """Return the group with which the site of a state folder is shared; None for a private site."""
    try:
        return (state / MARK).read_text().strip() or None
    except OSError:
        return None


def private_modes(path: Path) -> Modes:
    """Return the modes of a file or folder with secrets: the group's in a group's site, else the owner's."""
    for folder in (path, *path.parents):
        if folder.name in PRIVATE and group_of(folder.parent):
            return TOGETHER
    return ALONE


def follow(site: Site) -> None:
    """Let what this process creates be the group's if the site is."""
    if group_of(site.state):
        os.umask(TOGETHER.umask)


def require_site(site: Site, *names: str, write: bool = False) -> None:
    """Raise unless this user may read, or write, folders of a site.

    Parameters
    ----------
    site
        The site.
    names
        Their names: attributes of the site, or folders of its state.
    write
        Whether they are to be written.

    Raises
    ------
    InputError
        With path, owner, mode and remedy.
    """
    for name in names:
        folder: Path = getattr(site, name, site.state / name)
        place = obstacle(folder, write=write)
        if place is not None:
            raise refusal(folder, f"the folder {name} of the site", write=write, remedy=_remedy(site, place))


def _remedy(site: Site, place: Path) -> str:
    """Return what a user does who may not use a folder or file of a site."""
    found = place.stat()
    if found.st_mode & TOGETHER.folder == TOGETHER.folder:
        with suppress(KeyError):
            return f"become a member of the group {grp.getgrgid(found.st_gid).gr_name}"
        return f"become a member of the group {found.st_gid}"
    return f"let its owner share it: gw-workflow share GROUP --site {site.root}"


def share(site: Site, group: str) -> list[str]:
    """Share a site with a group: what exists and what will be created.

    Parameters
    ----------
    site
        The site; its state, products and scratch, and whatever else of it is below its root.
    group
        Name or number of the group.

    Returns
    -------
    left
        Descriptions of what belongs to others and stays as it is.

    Raises
    ------
    InputError
        If there is no such group, or this user is not its member or may not write to the site.
    """
    gid = _number_of(group)
    folders = [site.root, *(getattr(site, name) for name in FOLDERS)]
    folders = [f for f in folders if f.is_relative_to(site.root) or f in (site.state, site.products, site.scratch)]
    for folder in folders:
        require_access(folder, "the folder of the site", write=True)
        folder.mkdir(parents=True, exist_ok=True)
    (site.state / MARK).write_text(f"{group}\n")
    others: dict[str, int] = {}
    for path in {path for folder in folders for path in _below(folder)}:
        with suppress(FileNotFoundError):  # temporary files come and go
            found = path.lstat()
            if found.st_uid == os.geteuid() or os.geteuid() == 0:
                os.chown(path, -1, gid)
                path.chmod(TOGETHER.folder if path.is_dir() else TOGETHER.file)
            elif found.st_gid != gid:
                owner = user_name(found.st_uid)
                others[owner] = others.get(owner, 0) + 1
    os.umask(TOGETHER.umask)
    return [f"{n} files and folders of {owner} stay as they are" for owner, n in sorted(others.items())]


def _number_of(group: str) -> int:
    try:
        gid = int(group) if group.isascii() and group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise InputError("there is no such group", value=group, remedy="see getent group") from error
    if os.geteuid() and gid not in (os.getegid(), *os.getgroups()):
        remedy = "ask an administrator to add you, then log in again"
        raise InputError("you are not a member of the group", value=group, remedy=remedy)
    return gid


def _below(folder: Path) -> Iterator[Path]:
    """Yield a folder and what is in it; links, which may lead anywhere, stay as they are."""
    if folder.is_symlink():
        return
    yield folder
    for path in folder.rglob("*"):
        if not path.is_symlink():
            yield path
