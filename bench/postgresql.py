"""A temporary PostgreSQL server, from Debian's package, in a temporary folder."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 30.0


def programs() -> Path | None:
    """Return the program folder of the newest PostgreSQL; None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@dataclass
class PostgreSQL:
    """A server in a temporary folder.

    Attributes
    ----------
    command
        Program and arguments.
    owner
        User ID to run it with; None for the current user.
    folder, port
        Its folder and port, on the loopback.
    process
        Its process, once started.
    """

    command: list[str]
    owner: int | None
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """URL of the database for a Prefect server."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        """Start the server."""
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, user=self.owner, cwd=self.folder, **quiet)

    def stop(self) -> None:
        """Stop the server; its clients lose their connections."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=START_S)


@contextmanager
def own_postgresql() -> Iterator[str | None]:
    """Yield the URL of a new database for a Prefect server; None if it cannot be created."""
    with running_postgresql() as server:
        yield server.address if server else None


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL | None]:
    """Yield a new server with a database for a Prefect server; None if it cannot be created."""
    folder_of_programs = programs()
    owner = _owner()
    if folder_of_programs is None or (owner is None and os.geteuid() == 0):
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="gw-postgresql-"))
    if owner is not None:
        os.chown(folder, owner, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--pgdata", str(folder / "data"), "--username=prefect", "--no-sync", "--auth=trust"]
    subprocess.run(
        [str(folder_of_programs / "initdb"), *words], check=True, capture_output=True, user=owner, cwd=folder
    )
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": port}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(folder_of_programs / "postgres"), "-D", str(folder / "data"), *options]
    server = PostgreSQL(command, owner, folder, port)
    server.start()
    try:
        asyncio.run(_prepare(port))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def postgresql_bytes(address: str) -> int:
    """Return the size of a database, bytes."""
    return int(str(asyncio.run(_ask(address, "SELECT pg_database_size(current_database())"))))


def _owner() -> int | None:
    """Return the user ID to run PostgreSQL with, which refuses to run as root; None for the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        return None


async def _prepare(port: int) -> None:
    import asyncpg

    deadline = time.monotonic() + START_S
    while True:
        try:
            connection = await asyncpg.connect(f"postgresql://prefect@127.0.0.1:{port}/postgres")
            break
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
    await connection.execute("CREATE DATABASE prefect")
    await connection.close()
    await _ask(f"postgresql://prefect@127.0.0.1:{port}/prefect", "CREATE EXTENSION pg_trgm")


async def _ask(address: str, question: str) -> object:
    import asyncpg

    connection = await asyncpg.connect(address.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()
