"""Back up and restore what a site cannot compute again: database, nights, alerts, ledger, secrets, certificates.

A backup is one tar file for its owner alone, with everything of the state folder but what is derived from raw files and
products (step records, fingerprints, failures) and what belongs to a running process. Its first member lists the others
with their hashes. The database is copied with SQLite's backup, also while the server runs.
"""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import cast

from blocks.site import Site
from deployments.server.private import FILE_MODE, close_to_others
from deployments.server.server import is_running
from imaging.errors import InputError
from imaging.io.atomic import storage_error

DERIVED = ("records", "failures", "fingerprints", "raw", "catalogues", "locks", "stuck", "tidied")
"""Folders of the state that are computed again from raw files and products."""

MOMENTARY = ("address.json", "secret.previous", "prefect.db", "prefect.db-wal", "prefect.db-shm", "prefect.db-journal")
"""Files of the server's folder that belong to the running server; the database is copied otherwise."""

DATABASE = "server/prefect.db"

PRIVATE = {"server", "keys", "certificates"}
"""Folders that only their owner may read."""

LIST, VERSION = "gw-workflow-backup.json", 1

DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, tarfile.TarError, zlib.error)
"""What reading a file raises that is no backup."""

LIST_BYTES = 1 << 26
"""Largest list that is read."""


def back_up(site: Site, path: Path) -> list[str]:
    """Write a backup of a site; return the names of its files below the state folder.

    Raises
    ------
    InputError
        If the file exists, or the site has no state.
    StorageError
        If it cannot be written.
    """
    if path.exists():
        raise InputError("the backup exists already", value=path, remedy="choose another name, or move it away")
    if not site.state.is_dir():
        raise InputError("the site has no state to back up", value=site.state)
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".backup-") as place:
            files = dict(_kept(site.state))
            if (site.state / DATABASE).exists():
                files[DATABASE] = _copied(site.state / DATABASE, Path(place) / "prefect.db")
            part = Path(place) / "backup.tar"
            _write(part, files)
            os.link(part, path)  # fails if somebody has written one meanwhile
    except FileExistsError as error:
        raise InputError("the backup exists already", value=path, remedy="choose another name") from error
    except (OSError, sqlite3.Error) as error:
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise storage_error(cause, path) from error
    return sorted(files)


def _kept(state: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names and files of a state folder that a backup contains."""
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state)
        is_momentary = name.parts[0] == "server" and path.name in MOMENTARY
        is_hidden = any(part.startswith(".") for part in name.parts)
        if path.is_symlink() or not path.is_file() or name.parts[0] in DERIVED:
            continue
        if not (is_momentary or is_hidden or path.suffix in (".lock", ".log", ".tmp")):
            yield name.as_posix(), path


def _copied(database: Path, copy: Path) -> Path:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _write(part: Path, files: dict[str, Path]) -> None:
    # What may change while it is copied is read once; the copy of the database, which may be large, does not change.
    contents: dict[str, Path | bytes] = {
        name: path if name == DATABASE else path.read_bytes() for name, path in sorted(files.items())
    }
    listed = {}
    for name, content in contents.items():
        with _opened(content) as stream:
            listed[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    document = json.dumps({"version": VERSION, "files": listed}, indent=1).encode()
    with (
        os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as output,
        tarfile.open(fileobj=output, mode="w:gz") as archive,
    ):
        for name, content in ((LIST, document), *contents.items()):
            member = tarfile.TarInfo(name)
            member.mode = FILE_MODE
            with _opened(content) as stream:
                member.size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                archive.addfile(member, stream)


def _opened(content: Path | bytes) -> io.BytesIO | io.BufferedReader:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def restore(site: Site, path: Path) -> list[str]:
    """Restore a site's state from a backup; return the names of its files. Nothing that exists is replaced.

    Raises
    ------
    InputError
        If the file is no backup or is damaged, others may read it, the site's server runs, or a file exists already.
    StorageError
        If a file cannot be written.
    """
    if is_running(site):
        raise InputError("the site's server runs", value=site.root, remedy="stop what uses it, then restore")
    names = _verified(path)
    for name in names:
        if (site.state / name).exists() or (site.state / name).is_symlink():
            remedy = "restore to a new folder, or move the state folder away first"
            raise InputError("the site has this file already", value=site.state / name, remedy=remedy)
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            for member in archive:
                if member.name in names:
                    target = site.state / member.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as output:
                        shutil.copyfileobj(_stream(archive, member), output)
        for name in {PurePosixPath(name).parts[0] for name in names} & PRIVATE:
            close_to_others(site.state / name)
    except OSError as error:
        raise storage_error(error, site.state) from error
    return sorted(names)


def _verified(path: Path) -> set[str]:
    """Return the names of the files of a backup after every check."""
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:gz") as archive:
            mode = os.fstat(stream.fileno()).st_mode & 0o777
            first = archive.next()
            if first is None or first.name != LIST or first.size > LIST_BYTES:
                raise ValueError("its list is missing")
            document = json.load(_stream(archive, first))
            if document["version"] != VERSION:
                raise ValueError(f"its version is {document['version']!r}, this program reads {VERSION}")
            listed = {str(name): str(digest) for name, digest in document["files"].items()}
            found = {}
            while (member := archive.next()) is not None:
                found[member.name] = hashlib.file_digest(_stream(archive, member), "sha256").hexdigest()
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        tarfile.TarError,
        zlib.error,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("no backup that can be restored", value=f"{path}: {reason}") from error
    if mode & 0o077:
        remedy = f"chmod 600 {path}; if others may have read it, gw-workflow rotate-secret after the restoration"
        raise InputError("the backup holds secrets and is open to others", value=f"mode {mode:03o}", remedy=remedy)
    if found != listed:
        wrong = sorted(name for name in {*found, *listed} if found.get(name) != listed.get(name))
        raise InputError("the backup is damaged", value=f"{path}: {', '.join(wrong)[:300]}")
    for name in found:
        _check_name(name, path)
    return set(found)


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    if not member.isreg():
        raise ValueError(f"{member.name[:80]!r} is no file")
    return cast("io.BufferedReader", archive.extractfile(member))


def _check_name(name: str, path: Path) -> None:
    """Refuse a name that leaves the state folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or PurePosixPath(name).as_posix() != name:
        raise InputError("the backup holds a file outside of the state folder", value=f"{path}: {name[:80]!r}")
