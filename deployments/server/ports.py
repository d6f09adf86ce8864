"""The port at which the embedded server listens."""

import errno
import socket
import time
from collections.abc import Callable

from deployments.server.identity import listener
from imaging.errors import InputError

HOST = "127.0.0.1"
"""Address at which the embedded server listens."""

RELEASE_S = 2.0
"""Time within which a port becomes free, seconds."""


def becomes(condition: Callable[[], bool], within_s: float, give_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait until a condition holds; return False after a timeout or when there is nothing to wait for."""
    deadline = time.monotonic() + within_s
    while not condition():
        if give_up() or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def bind(port: int | None) -> socket.socket:
    """Return a socket at a port of this machine, any free one for None.

    Raises
    ------
    InputError
        If the port is in use, or the machine has no such address.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # A process that is killed gives its locks back a moment before its port.
        if not becomes(lambda: _binds(listening, port or 0), RELEASE_S):
            listening.bind((HOST, port or 0))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            remedy = f"add it (ip address add {HOST}/8 dev lo), or set PREFECT_API_URL to a server"
            raise InputError("this machine has no IPv4 address of its own", value=HOST, remedy=remedy) from error
        value, remedy = f"{port}, by {listener(port or 0)}", "choose another port, or none for any free one"
        raise InputError("port is in use", value=value, limit="a free port", remedy=remedy) from error
    return listening


def _binds(listening: socket.socket, port: int) -> bool:
    """Bind a socket; return whether this succeeded, False while the port is in use."""
    try:
        listening.bind((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
