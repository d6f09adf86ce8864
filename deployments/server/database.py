"""The database of the Prefect server: create it on PostgreSQL, and keep it and SQLite small.

Prefect's own services remove old runs and events (see :mod:`deployments.server.server_settings`). This module does what
they leave to the operator: role, database and extension on PostgreSQL, early autovacuum of the large tables, and on
SQLite the return of free space to the disk.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imaging.errors import InputError, StorageError

if TYPE_CHECKING:
    from asyncpg import Connection
    from sqlalchemy.engine import URL

VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Environment variable with the address of the server's database, as Prefect reads it."""

ADMINISTRATOR_VARIABLE = "GW_WORKFLOW_DATABASE_ADMINISTRATOR"
"""Environment variable with the address of the database for a user who may create roles and databases."""

LOCAL_ADMINISTRATOR = "postgresql:///postgres?host=/var/run/postgresql"
"""Address for the system user ``postgres`` on this machine, as Debian installs it."""

CONNECT_TIMEOUT_S = 10.0

LARGE_TABLES = (
    "events",
    "event_resources",
    "log",
    "task_run",
    "task_run_state",
    "flow_run",
    "flow_run_state",
    "artifact",
)
"""Tables into which every task run writes."""

CHANGED_FRACTION = 0.02
"""Fraction of changed rows at which PostgreSQL vacuums a table; with its default, 0.2, a table with the runs of a
season first grows by gigabytes."""


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a database before and after a change, bytes."""

    before: int
    after: int

    def document(self) -> dict[str, float]:
        """Return the sizes as JSON, MiB."""
        return {"size_mb": round(self.after / 2**20, 1), "freed_mb": round((self.before - self.after) / 2**20, 1)}


def parse_address(text: str) -> "URL":
    """Parse the address of a database as Prefect takes it.

    Raises
    ------
    InputError
        If it is neither PostgreSQL nor SQLite with the right driver, or names no database.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    limit = "postgresql+asyncpg://USER:PASSWORD@HOST/NAME or sqlite+aiosqlite:///FILE"
    try:
        address = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise InputError("invalid address of a database", limit=limit) from error
    if address.drivername not in ("postgresql+asyncpg", "sqlite+aiosqlite") or not address.database:
        shown = address.render_as_string(hide_password=True)
        raise InputError("invalid address of a database", value=shown, limit=limit)
    return address


def refuse_visible_password(option: str, address: str, variable: str) -> None:
    """Refuse a password in the option of a command, which other users see in the list of processes.

    Raises
    ------
    InputError
        If the address has a password and does not come from the environment variable.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if not address or address == os.environ.get(variable):
        return
    with suppress(ArgumentError, ValueError):  # refused where it is used
        if make_url(address).password:
            remedy = f"write the address into the environment variable {variable}"
            raise InputError(f"a password in {option} is shown in the list of processes", remedy=remedy)


def create_database(text: str, administrator: str = LOCAL_ADMINISTRATOR) -> tuple[str, ...]:
    """Create role, database, extension and tables for the server on PostgreSQL; existing ones stay.

    Parameters
    ----------
    text
        Address of the database for the server.
    administrator
        Address of the same PostgreSQL for a user who may create roles and databases.

    Returns
    -------
    done
        Descriptions of what was done.

    Raises
    ------
    InputError
        If the address is not one of PostgreSQL.
    StorageError
        If PostgreSQL cannot be reached or refuses.
    """
    address = parse_address(text)
    if address.get_backend_name() != "postgresql" or not address.username:
        shown = address.render_as_string(hide_password=True)
        raise InputError(
            "not an address of PostgreSQL with a user",
            value=shown,
            remedy="an SQLite database is created by the server",
        )
    done = asyncio.run(_create(address, administrator))
    _migrate(text)
    asyncio.run(_set_autovacuum(address))
    return (*done, "tables created or up to date", f"autovacuum after {CHANGED_FRACTION:.0%} of changes")


def vacuum(text: str) -> Size:
    """Return the space of removed rows to the disk, and renew the statistics of PostgreSQL.

    An SQLite database that the embedded server created can be vacuumed while the server runs; for another one the
    server must be stopped.

    Raises
    ------
    InputError
        If the address is invalid.
    StorageError
        If the database cannot be reached, or is in use.
    """
    address = parse_address(text)
    if address.get_backend_name() == "sqlite":
        return vacuum_sqlite(Path(str(address.database)))
    return asyncio.run(_vacuum_postgresql(address))


def prepare_sqlite(path: Path) -> None:
    """Create an empty SQLite database that can be vacuumed while it is used; an existing one stays unchanged."""
    if path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")  # writes the setting into the file


def may_hold_blocks(folder: Path, block_type: str) -> bool:
    """Whether the database of a server that does not run may hold blocks of a type; True if that cannot be read.

    Parameters
    ----------
    folder
        Folder of the server.
    block_type
        Name of the type.
    """
    path = folder / "prefect.db"
    if os.environ.get(VARIABLE):
        return True
    if not path.exists():
        return False
    question = "SELECT count(*) FROM block_document WHERE block_type_name = ?"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            return bool(connection.execute(question, (block_type,)).fetchone()[0])
    except sqlite3.Error:
        return True


def vacuum_sqlite(path: Path) -> Size:
    """Return the space of removed rows in an SQLite file to the disk.

    Raises
    ------
    InputError
        If there is no such file.
    StorageError
        If it is in use and was not created by :func:`prepare_sqlite`.
    """
    if not path.is_file():
        raise InputError("database missing", value=path)
    before = path.stat().st_size
    try:
        with closing(sqlite3.connect(path, timeout=CONNECT_TIMEOUT_S, isolation_level=None)) as connection:
            if connection.execute("PRAGMA auto_vacuum").fetchone() == (2,):
                connection.executescript("PRAGMA incremental_vacuum")  # one page a step, which only a script ends
            else:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise StorageError(
            "database cannot be vacuumed", value=f"{path}: {error}", remedy="stop the server, then try again"
        ) from error
    return Size(before, path.stat().st_size)


async def _connect(address: str) -> "Connection":
    import asyncpg

    try:
        return await asyncpg.connect(address, timeout=CONNECT_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise StorageError(
            "PostgreSQL cannot be reached",
            value=f"{type(error).__name__}: {error}",
            remedy="start it, and give the address of an administrator with --administrator",
        ) from error


def _plain(address: "URL") -> str:
    """Return an address without the name of the driver, as asyncpg takes it."""
    return address.set(drivername="postgresql").render_as_string(hide_password=False)


async def _create(address: "URL", administrator: str) -> list[str]:
    """Create role, database and extension."""
    import asyncpg

    done = []
    connection = await _connect(administrator)
    try:
        user, name = str(address.username), str(address.database)
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", user):
            await _execute(connection, "CREATE ROLE %I LOGIN PASSWORD %L", user, str(address.password or ""))
            done.append(f"role {user} created")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await _execute(connection, "CREATE DATABASE %I OWNER %I ENCODING 'UTF8' TEMPLATE template0", name, user)
            done.append(f"database {name} created")
    except asyncpg.PostgresError as error:
        raise StorageError("PostgreSQL refuses", value=str(error), remedy="give an administrator's address") from error
    finally:
        await connection.close()
    connection = await _connect(_plain(address))
    try:
        # Since PostgreSQL 13 the owner of a database may create this extension.
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except asyncpg.PostgresError as error:
        remedy = "install PostgreSQL's contributed extensions (Debian: they come with the package postgresql)"
        raise StorageError("PostgreSQL has no extension pg_trgm", value=str(error), remedy=remedy) from error
    finally:
        await connection.close()
    return done


async def _execute(connection: "Connection", template: str, *names: str) -> None:
    """Execute a statement with names and literals that PostgreSQL quotes."""
    places = ", ".join(f"${number}::text" for number in range(2, len(names) + 2))
    await connection.execute(await connection.fetchval(f"SELECT format($1::text, {places})", template, *names))


def _migrate(text: str) -> None:
    """Let Prefect create or migrate its tables."""
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | {VARIABLE: text}
    words = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        output = " ".join((done.stdout + done.stderr).split())[-500:]
        raise StorageError("Prefect cannot create its tables", value=output)


async def _set_autovacuum(address: "URL") -> None:
    """Let PostgreSQL vacuum the large tables early."""
    connection = await _connect(_plain(address))
    factors = ", ".join(
        f"autovacuum_{kind}_scale_factor = {CHANGED_FRACTION}" for kind in ("vacuum", "vacuum_insert", "analyze")
    )
    try:
        for table in LARGE_TABLES:
            await connection.execute(f'ALTER TABLE IF EXISTS "{table}" SET ({factors})')
    finally:
        await connection.close()


async def _vacuum_postgresql(address: "URL") -> Size:
    connection = await _connect(_plain(address))
    size = "SELECT pg_database_size(current_database())"
    try:
        before = await connection.fetchval(size)
        await connection.execute("VACUUM (ANALYZE)")
        return Size(before, await connection.fetchval(size))
    finally:
        await connection.close()


def size_of(text: str) -> int:
    """Return the size of a database, bytes.

    Raises
    ------
    InputError
        If the address is invalid, or the file is missing.
    StorageError
        If PostgreSQL cannot be reached.
    """
    address = parse_address(text)
    if address.get_backend_name() == "sqlite":
        with suppress(OSError):
            return Path(str(address.database)).stat().st_size
        raise InputError("database missing or not readable", value=address.database)
    return asyncio.run(_size_postgresql(address))


async def _size_postgresql(address: "URL") -> int:
    connection = await _connect(_plain(address))
    try:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()


def address_in_use(folder: Path, environment: Mapping[str, Any] = os.environ) -> str:
    """Return the address of the database of a site's server: the one in the environment, or the site's own.

    Parameters
    ----------
    folder
        Folder of the site's embedded server.
    environment
        Environment variables.
    """
    return environment.get(VARIABLE) or f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
