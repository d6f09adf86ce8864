"""The process of the embedded server: ``python -m deployments.server.server_process PORT USERS_LOCK``.

It serves until its last user has ended: every user holds a shared lock on a file, which the operating system releases
however the user ends.
"""

import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path

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
    """Serve Prefect's API and pages on a port of this machine."""
    port, users = int(sys.argv[1]), Path(sys.argv[2])
    threading.Thread(target=stop_when_unused, args=(users,), daemon=True).start()

    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(final=True), host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
