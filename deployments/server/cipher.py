"""The key with which Prefect encrypts blocks: kept in a folder of its own, not in the database beside them.

Prefect takes it from ``PREFECT_SERVER_ENCRYPTION_KEY``, else it keeps one in the table ``configuration`` of its
database. From the database of a site the key of earlier versions is moved out, so that the database alone, or a copy of
it, decrypts nothing; blocks stay as they are.
"""

import base64
import json
import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from deployments.server.private import make_private_folder, read_secret, write_private
from imaging.errors import StorageError

VARIABLE = "PREFECT_SERVER_ENCRYPTION_KEY"
"""Environment variable with the key, as Prefect reads it."""

ROW = "ENCRYPTION_KEY"
"""Key of Prefect's row in the table ``configuration``."""


def key_path(folder: Path) -> Path:
    """Return the file of the key of a server folder."""
    return folder.parent / "keys" / "blocks"


def take_key(folder: Path, database: Path) -> str:
    """Return the key of a site's blocks; move it out of the database, or create it, if it has no file yet.

    Parameters
    ----------
    folder
        Folder of the server.
    database
        SQLite file, which no server uses; it may be missing.

    Raises
    ------
    InputError
        If others may read the file of the key.
    StorageError
        If the database cannot be read.
    """
    path = key_path(folder)
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            noted = _noted(connection)
            if not path.exists():
                make_private_folder(path.parent)
                write_private(path, f"{noted or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}\n")
            if noted == (key := read_secret(path)):
                _forget(connection)
    except sqlite3.Error as error:
        remedy = "restore the site's backup, or move the file away: runs of the past are lost, results are not"
        raise StorageError(
            "the server's database cannot be read", value=f"{database}: {error}", remedy=remedy
        ) from error
    return key


def set_key(folder: Path, address: str) -> None:
    """Let Prefect in this process use the site's key, if the database is the site's own and no key is set."""
    database = folder / "prefect.db"
    if not os.environ.get(VARIABLE) and address.endswith(f":///{database}"):
        os.environ[VARIABLE] = take_key(folder, database)


def _noted(connection: sqlite3.Connection) -> str | None:
    """Return the key in a database; None if there is none."""
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'configuration'")
    if not tables.fetchone():
        return None
    row = connection.execute("SELECT value FROM configuration WHERE key = ?", (ROW,)).fetchone()
    return str(json.loads(row[0])["fernet_key"]) if row else None


def _forget(connection: sqlite3.Connection) -> None:
    """Remove the key from a database so that no page of the file holds it."""
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("DELETE FROM configuration WHERE key = ?", (ROW,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
