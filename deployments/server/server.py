"""The embedded Prefect server of a site: started on demand, shared by all its users, ended after the last one.

Its database is below the site's state folder, or where ``PREFECT_SERVER_DATABASE_CONNECTION_URL`` says. If
``PREFECT_API_URL`` is set, that server is used and none is started.

A site has one embedded server: its process holds the lock ``server.lock``, and it proves whose it is before anything is
sent to it (:mod:`deployments.server.identity`).
"""

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from blocks.sharing import require_site
from blocks.site import Site
from deployments.server.database import VARIABLE, prepare_sqlite
from deployments.server.gate import PUBLIC_VARIABLE
from deployments.server.identity import (
    PREVIOUS,
    auth_string,
    authorization,
    is_own,
    is_own_here,
    make_secret,
    open_url,
    require_access,
)
from deployments.server.ports import HOST, becomes, bind
from deployments.server.private import close_to_others, open_private, write_private
from deployments.server.server_settings import applied_settings, client_environment, drain, server_environment
from deployments.server.turns import AHEAD
from imaging.errors import InputError, StorageError
from imaging.io.access import user_name

START_TIMEOUT_S = 300.0
"""Timeout of the start; the first one migrates an empty database, for minutes on a machine with too many processes."""

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
    user
        Name of another user who runs it, in a site of a group; empty if it is this one's, or not embedded.
    """

    api_url: str
    embedded: bool
    user: str = ""

    @property
    def ui_url(self) -> str:
        """Address of the pages."""
        return self.api_url.removesuffix("/api")


def is_healthy(api_url: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """Whether a Prefect server answers at this address."""
    try:
        with open_url(f"{api_url}/health", timeout_s):
            return True
    except (OSError, ValueError):
        return False


def ask_server(api_url: str, what: str, question: Any, timeout_s: float = HEALTH_TIMEOUT_S) -> Any:  # noqa: ANN401
    """Send a query to the server's API, with what it asks of clients, and return the result.

    Raises
    ------
    OSError, ValueError
        If it does not answer, or not correctly.
    """
    request = urllib.request.Request(  # noqa: S310
        f"{api_url}/{what}",
        json.dumps(question).encode(),
        {"Content-Type": "application/json", AHEAD: "1", **authorization(api_url)},
    )
    with open_url(request, timeout_s) as answer:
        return json.load(answer)


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
        If nothing answers at ``PREFECT_API_URL``, or not to this process, if the port is in use, if the site's server
        runs at another port or on another machine, or if the site is another user's and not shared.
    StorageError
        If the embedded server does not start, or does not answer.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        if not becomes(lambda: is_healthy(named), PATIENCE_S):
            remedy = "start it, or unset PREFECT_API_URL to use an embedded server"
            raise InputError("no Prefect server answers", value=named, remedy=remedy)
        own = auth_string(_folder(site)) if is_own_here(named, _folder(site)) else ""
        require_access(named)
        with applied_settings(client_environment(named, _folder(site), own)):
            yield Server(named, embedded=False)
        return
    with (
        embedded_server(site, port=port) as server,
        applied_settings(client_environment(server.api_url, _folder(site), auth_string(_folder(site)))),
    ):
        _show_lone_runs(site, server.api_url)
        try:
            yield server
        finally:
            drain()


def _show_lone_runs(site: Site, api_url: str) -> None:
    from deployments.server.lone_runs import show_lone_runs

    with suppress(OSError, ValueError):  # they are kept for the next server
        show_lone_runs(site, api_url)


@contextmanager
def embedded_server(site: Site, *, port: int | None = None) -> Iterator[Server]:
    """Keep the site's embedded server running inside the ``with`` block; change no setting of this process.

    A server that dies is restarted at the same address with the same database; Prefect's clients wait for it.

    Raises
    ------
    InputError
        If the port is in use, if the site's server runs at another port or on another machine, or if the site is
        another user's and not shared.
    StorageError
        If the server does not start, or does not answer.
    """
    folder = _folder(site)
    require_site(site, "state", "server", write=True)
    make_secret(folder)
    with open_private(folder / "users.lock") as users:
        with open_private(folder / "start.lock") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            others_port = _others_port(folder, users)
            if others_port is None:
                (folder / PREVIOUS).unlink(missing_ok=True)  # nobody is left who knows no other
            fcntl.flock(users, fcntl.LOCK_SH)
            api_url = _join(folder, port) or _start(folder, port or others_port)
        with _kept_alive(folder, api_url):
            yield Server(api_url, embedded=True, user=user_of_server(site))
    # The server ends within a second after the last user has released the lock.


def _others_port(folder: Path, users: IO[bytes]) -> int | None:
    """Return the port that other users of a folder's server know, also if it has just died; None without others."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _port_of(str(_note(folder).get("api_url", ""))) or None
    return None


def _join(folder: Path, port: int | None) -> str | None:
    """Return the address of the running server of a folder, once it answers; None if none runs."""
    if not _runs(folder):
        return None
    noted = _note(folder)
    host = noted.get("host", socket.gethostname())
    if host != socket.gethostname():
        remedy = "work there, stop it there, or use a server of its own for several machines (PREFECT_API_URL)"
        raise InputError("the site's server runs on another machine", value=host, remedy=remedy)
    api_url = str(noted.get("api_url", ""))
    if not becomes(lambda: is_own(api_url, folder, HEALTH_TIMEOUT_S), STALL_S, lambda: not _runs(folder)):
        if not _runs(folder):
            return None
        raise StorageError(
            "the site's server runs, but does not answer",
            value=f"process {noted.get('pid')} at {api_url}",
            limit=f"{STALL_S:g} s",
            remedy=f"stop that process, or wait; was {folder} moved while it ran?",
        )
    if port not in (None, _port_of(api_url)):
        remedy = f"leave out the port or give {_port_of(api_url)}, or stop what uses that server"
        raise InputError("the site's server already runs at another port", value=_port_of(api_url), remedy=remedy)
    return api_url


def is_running(site: Site) -> bool:
    """Whether the site's embedded server runs, on whatever machine."""
    return _runs(_folder(site))


def _runs(folder: Path) -> bool:
    """Whether the server of a folder runs, on whatever machine."""
    try:
        with (folder / "server.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def _kept_alive(folder: Path, api_url: str) -> Iterator[None]:
    """Restart the server if it dies inside the ``with`` block, from a thread."""
    stopped = threading.Event()

    def keep() -> None:
        while not stopped.wait(WATCH_S):
            if _runs(folder):
                continue
            with open_private(folder / "start.lock") as starting, suppress(InputError, StorageError):
                fcntl.flock(starting, fcntl.LOCK_EX)
                if not stopped.is_set() and not _runs(folder):  # another user may have restarted it
                    _start(folder, _port_of(api_url))

    thread = threading.Thread(target=keep, name="keep-server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=START_TIMEOUT_S)


def _port_of(api_url: str) -> int:
    return urlsplit(api_url).port or 0


def user_of_server(site: Site) -> str:
    """Return the name of the user who has started the site's embedded server, if it is another one; else empty."""
    user = str(_note(_folder(site)).get("user", ""))
    return "" if user == user_name(os.geteuid()) else user


def known_address(site: Site) -> str | None:
    """Return the address of the site's embedded server if it answers and proves that it is.

    Raises
    ------
    InputError
        If this user may not read what it has noted.
    """
    folder = _folder(site)
    require_site(site, "server")
    api_url = str(_note(folder).get("api_url", ""))
    return api_url if api_url and is_own(api_url, folder, HEALTH_TIMEOUT_S) else None


def api_address(site: Site) -> str | None:
    """Return the address of ``PREFECT_API_URL``, else of the site's embedded server; None if there is neither."""
    named = os.environ.get("PREFECT_API_URL")
    if named:
        is_own_here(named, _folder(site))  # then it is asked with the site's string
    return named or known_address(site)


def _note(folder: Path) -> dict[str, Any]:
    """Return what the last start of the server has noted: address, process, machine."""
    try:
        return dict(json.loads((folder / "address.json").read_text()))
    except (OSError, ValueError):
        return {}


def wait_until_stopped(site: Site, timeout_s: float = 30.0) -> bool:
    """Wait until the site's embedded server has ended; False if it still runs after the timeout."""
    ended = becomes(
        lambda: not _runs(_folder(site)) and all(process.poll() is not None for process in _started), timeout_s
    )
    if ended:
        _started.clear()
    return ended


def _folder(site: Site) -> Path:
    return site.state / "server"


def _start(folder: Path, port: int | None) -> str:
    """Start the server's process and wait until it answers; return the address of the API."""
    with bind(port) as listening, open_private(folder / "server.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = listening.getsockname()[1]
        api_url = f"http://{HOST}:{port}/api"
        if not os.environ.get(VARIABLE):
            prepare_sqlite(folder / "prefect.db")
        close_to_others(folder)
        with open_private(folder / "server.log") as log:
            began = log.seek(0, os.SEEK_END)
            process = _spawn(folder, listening, lock, log)
    _started.append(process)
    note = {"api_url": api_url, "pid": process.pid, "host": socket.gethostname()}
    note["user"] = user_name(os.geteuid())
    write_private(folder / "address.json", json.dumps(note) + "\n")
    if not becomes(
        lambda: is_own(api_url, folder, HEALTH_TIMEOUT_S), START_TIMEOUT_S, lambda: process.poll() is not None
    ):
        process.kill()
        process.wait()
        raise StorageError(
            "the Prefect server does not start",
            value=f"port {port}{_last_error(folder / 'server.log', began)}",
            limit=f"{START_TIMEOUT_S:g} s",
            remedy=f"read the end of {folder / 'server.log'}",
        )
    return api_url


def _last_error(log: Path, began: int) -> str:
    """Return the last error in a log after a position, for a message; empty if there is none."""
    lines = log.read_bytes()[began:].decode(errors="replace").splitlines()
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    if errors and "Can't locate revision" in errors[-1]:
        return "; its database was written by a newer version of Prefect, which is needed to read it"
    return f"; {errors[-1][:200]}" if errors else ""


def _spawn(folder: Path, listening: socket.socket, lock: IO[bytes], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process; it inherits the socket and the lock, which it holds until it ends."""
    passed = (listening.fileno(), lock.fileno())
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_SERVER_API_AUTH_STRING"}
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.server.server_process", str(folder), *map(str, passed)],
        env=inherited
        | server_environment(folder)
        | {
            "PREFECT_UI_URL": os.environ.get(PUBLIC_VARIABLE) or f"http://{HOST}:{listening.getsockname()[1]}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=passed,
        start_new_session=True,
    )
