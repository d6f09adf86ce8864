"""The process of the embedded server: ``python -m deployments.server.server_process FOLDER SOCKET LOCK``.

It serves until its last user has ended: every user holds a shared lock on a file, which the operating system releases
however the user ends. The socket that it listens at and the lock that says that the server runs are open files of the
process that starts it.
"""

import asyncio
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from blocks.sharing import private_modes
from deployments.server.cipher import set_key
from deployments.server.database import VARIABLE

LOOK_S = 0.5
"""Seconds between two checks for users."""

GRACE_S = 10.0
"""Seconds after which a server that does not stop is killed."""


def stop_when_unused(users: Path) -> None:
    """Wait until no process holds the lock, then end this process."""
    with users.open("rb") as stream:
        while True:
            time.sleep(LOOK_S)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_S)
            os._exit(0)


def main() -> None:
    """Serve Prefect's API and pages at a socket of this machine."""
    folder, listening, lock = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])
    os.set_inheritable(lock, False)  # held by this process alone, as long as it lives
    os.umask(private_modes(folder).umask)
    threading.Thread(target=stop_when_unused, args=(folder / "users.lock",), daemon=True).start()

    set_key(folder, os.environ[VARIABLE])

    import uvicorn

    from deployments.server.gate import Gate
    from deployments.server.server_app import make_app, serve_app

    app = Gate(make_app(folder), folder)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    asyncio.run(serve_app(server.serve(sockets=[listening])))
    if not server.started:
        sys.exit("the server did not start")


if __name__ == "__main__":
    main()
