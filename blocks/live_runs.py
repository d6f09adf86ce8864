"""Locks of the flow runs of a site: which of them have a live process on this machine.

Every flow run that no other run has called holds a lock in ``state/runs`` while its function runs. The operating system
releases it when the process dies, so that a dead run is told from one whose process is stopped for a while.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import UUID

from blocks.site import Site

FOLDER = "runs"
"""Subfolder of the site's state with the locks."""


@contextmanager
def live_run(site: Site, run: UUID) -> Iterator[None]:
    """Hold the lock of a flow run inside the ``with`` block; where it cannot be written, only heartbeats tell."""
    path = site.state / FOLDER / f"{run}.lock"
    part = path.with_suffix(f".{os.getpid()}")
    with ExitStack() as stack:
        with suppress(OSError):  # what the run itself cannot write, it reports
            path.parent.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(part.open("wb"))
            held.write(socket.gethostname().encode())
            held.flush()
            fcntl.flock(held, fcntl.LOCK_EX)
            part.replace(path)  # nobody sees it before it is locked
            stack.callback(path.unlink, missing_ok=True)
        yield


def runs_of_this_machine(site: Site) -> dict[UUID, bool]:
    """Return the runs that were started on this machine and have not ended, and whether their process is alive."""
    found = {}
    for path in (site.state / FOLDER).glob("*.lock"):
        with suppress(OSError, ValueError):
            if path.read_text(errors="replace") == socket.gethostname():
                state = _is_held(path)
                if state is not None:
                    found[UUID(path.stem)] = state
    return found


def forget_run(site: Site, run: UUID) -> None:
    """Remove the lock of a dead run."""
    (site.state / FOLDER / f"{run}.lock").unlink(missing_ok=True)


def _is_held(path: Path) -> bool | None:
    """Whether a process holds a lock; None if its run has ended in the meantime."""
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False if os.fstat(lock.fileno()).st_nlink else None
