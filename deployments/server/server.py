"""The embedded Prefect server of a site: started on demand, shared by all its users, ended after the last one.

Its database is below the site's state folder, or where ``PREFECT_SERVER_DATABASE_CONNECTION_URL`` says. If
``PREFECT_API_URL`` is set, that server is used and none is started.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from blocks.site import Site
from deployments.server.database import VARIABLE, prepare_sqlite
from deployments.server.server_settings import client_environment, server_environment
from imaging.errors import InputError, StorageError
from imaging.io.atomic import write_text

START_TIMEOUT_S = 120.0
"""Timeout of the start; the first one migrates an empty database, half a minute on a busy machine."""

HEALTH_TIMEOUT_S = 5.0
"""Timeout of one request to the server."""

PATIENCE_S = 10.0
"""Timeout for the server of ``PREFECT_API_URL``, which may be restarting."""

STALL_S = 60.0
"""Timeout for the embedded server while its port is open but it does not answer; its disk may be busy."""

WATCH_S = 1.0
"""Seconds between two checks that the server runs."""

_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process has started; kept to notice their end."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes
    ----------
    api_url
        Address of the API.
    embedded
        Whether it is the site's embedded server; False for the one of ``PREFECT_API_URL``.
    """

    api_url: str
    embedded: bool

    @property
    def ui_url(self) -> str:
        """Address of the pages."""
        return self.api_url.removesuffix("/api")


def is_healthy(api_url: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """Whether a Prefect server answers at this address."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout_s) as answer:  # noqa: S310
            return answer.status == 200
    except (OSError, ValueError):
        return False


def ask_server(api_url: str, what: str, question: dict[str, Any]) -> Any:  # noqa: ANN401
    """Send a query to the server's API and return the result.

    Raises
    ------
    OSError, ValueError
        If it does not answer, or not correctly.
    """
    request = urllib.request.Request(  # noqa: S310
        f"{api_url}/{what}", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310
        return json.load(answer)


def _answers(api_url: str, within_s: float, is_there: Callable[[], bool] = lambda: True) -> bool:
    """Wait until a server is healthy; return False after a timeout or when it is gone."""
    deadline = time.monotonic() + within_s
    while not is_healthy(api_url):
        if not is_there() or time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@contextmanager
def server_for(site: Site, *, port: int | None = None) -> Iterator[Server]:
    """Use a Prefect server inside the ``with`` block: the one of ``PREFECT_API_URL``, else the site's embedded one.

    Prefect's settings of this process, and of those it starts, name the server inside the block.

    Parameters
    ----------
    site
        The site.
    port
        Port of the embedded server, if it is started here; None for any free port.

    Raises
    ------
    InputError
        If ``PREFECT_API_URL`` is set and nothing answers there, or if the port is in use.
    StorageError
        If the embedded server does not start.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        if not _answers(named, PATIENCE_S):
            raise InputError(
                "no Prefect server answers",
                value=named,
                remedy="start it, or unset PREFECT_API_URL to use an embedded server",
            )
        with _settings(client_environment(named, site.state / "server")):
            yield Server(named, embedded=False)
        return
    with embedded_server(site, port=port) as server, _settings(client_environment(server.api_url, _folder(site))):
        try:
            yield server
        finally:
            drain()


@contextmanager
def embedded_server(site: Site, *, port: int | None = None) -> Iterator[Server]:
    """Keep the site's embedded server running inside the ``with`` block; change no setting of this process.

    A server that dies is restarted at the same address with the same database; Prefect's clients wait for it.

    Raises
    ------
    InputError
        If the port is in use.
    StorageError
        If the server does not start.
    """
    folder = _folder(site)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users.lock").open("ab") as users:
        with (folder / "start.lock").open("ab") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            api_url = _noted_address(site)
            if api_url is None or not _answers(api_url, STALL_S, partial(_is_open, _port_of(api_url))):
                api_url = _start(folder, port or _free_port())
        with _kept_alive(folder, api_url):
            yield Server(api_url, embedded=True)
    # The server ends within a second after the last user has released the lock.


@contextmanager
def _kept_alive(folder: Path, api_url: str) -> Iterator[None]:
    """Restart the server if it dies inside the ``with`` block, from a thread."""
    port = _port_of(api_url)
    stopped = threading.Event()

    def keep() -> None:
        while not stopped.wait(WATCH_S):
            if _is_open(port):
                continue
            with (folder / "start.lock").open("ab") as starting, suppress(InputError, StorageError):
                fcntl.flock(starting, fcntl.LOCK_EX)
                if not stopped.is_set() and not _is_open(port):  # another user may have restarted it
                    _start(folder, port)

    thread = threading.Thread(target=keep, name="keep-server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=START_TIMEOUT_S)


def _port_of(api_url: str) -> int:
    return urlsplit(api_url).port or 0


def _is_open(port: int) -> bool:
    """Whether a process listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def known_address(site: Site) -> str | None:
    """Return the address of the site's embedded server if it answers."""
    api_url = _noted_address(site)
    return api_url if api_url and is_healthy(api_url) else None


def _noted_address(site: Site) -> str | None:
    """Return the last address of the site's embedded server."""
    try:
        return str(json.loads((_folder(site) / "address.json").read_text())["api_url"])
    except (OSError, ValueError, KeyError):
        return None


def wait_until_stopped(site: Site, timeout_s: float = 30.0) -> bool:
    """Wait until the site's embedded server has ended; False if it still runs after the timeout."""
    deadline = time.monotonic() + timeout_s
    while known_address(site) is not None or any(process.poll() is None for process in _started):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    _started.clear()
    return True


def drain() -> None:
    """Send the logs and events in Prefect's queues before the server ends."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()


def _folder(site: Site) -> Path:
    return site.state / "server"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(folder: Path, port: int) -> str:
    """Start the server's process and wait until it answers; return the address of the API."""
    if _is_open(port):
        raise InputError("port is in use", value=port, limit="a free port", remedy="choose another port")
    api_url = f"http://127.0.0.1:{port}/api"
    if not os.environ.get(VARIABLE):
        prepare_sqlite(folder / "prefect.db")
    with (folder / "server.log").open("ab") as log:
        process = _spawn(folder, port, log)
    _started.append(process)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_healthy(api_url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise StorageError(
                "the Prefect server does not start",
                value=f"port {port}",
                limit=f"{START_TIMEOUT_S:g} s",
                remedy=f"read the end of {folder / 'server.log'}",
            )
        time.sleep(0.1)
    write_text(folder / "address.json", json.dumps({"api_url": api_url, "pid": process.pid}) + "\n")
    return api_url


def _spawn(folder: Path, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.server.server_process", str(port), str(folder / "users.lock")],
        env=os.environ
        | server_environment(folder)
        | {"PREFECT_UI_URL": f"http://127.0.0.1:{port}", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@contextmanager
def _settings(environment: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the ``with`` block, and Prefect's settings if it is imported already."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    with ExitStack() as stack:
        if "prefect" in sys.modules:
            stack.enter_context(_prefect_settings(environment))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _prefect_settings(environment: dict[str, str]) -> AbstractContextManager[object]:
    import prefect.settings

    known = {name: value for name, value in environment.items() if hasattr(prefect.settings, name)}
    return prefect.settings.temporary_settings(
        {getattr(prefect.settings, name): value for name, value in known.items()}
    )
