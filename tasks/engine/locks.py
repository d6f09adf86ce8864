"""A lock per step record that dies with its holder.

Prefect's own file lock is a file that outlives the process which made it: kill the holder, and every later run of that
step waits for ever. These locks are the operating system's (``flock``), which releases them when the process ends, in
whatever way. Two runs of the same night then do each step once: the second waits and finds the record of the first.

``filelock`` 4.3 was measured: it leaves every lock file behind on purpose (3.20.4 to 3.29 removed them, which let two
hold one lock: its issue 574), so a night would leave one per step; a second wait in the thread that took the lock,
which ``asyncio.to_thread`` may reuse, raises "Deadlock"; taking and giving back costs 216 us of CPU against 75 us.
"""

import asyncio
import fcntl
import os
import threading
import time
from pathlib import Path

from prefect.locking.protocol import LockManager

POLL_S = 0.05
"""Seconds between two looks at a lock that is taken."""


class FileLocks(LockManager):
    """Locks below a folder, for the transactions in which Prefect runs a task.

    Parameters
    ----------
    folder
        Folder of the lock files; made when first needed. It must be on a file system that supports ``flock``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._held: dict[str, tuple[str, int]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["FileLocks"], tuple[Path]]:
        """Travel to a worker without the locks that are held here."""
        return FileLocks, (self.folder,)

    def __deepcopy__(self, memo: object) -> "FileLocks":
        """Stay one object in this process: a copy would not know what is held."""
        return self

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,  # noqa: ARG002
    ) -> bool:
        """Take the lock of a record; wait for it at most ``acquire_timeout`` seconds, or as long as it takes.

        ``hold_timeout`` is not needed, because a lock ends with its holder.
        """
        if self.is_lock_holder(key, holder):
            return True
        deadline = None if acquire_timeout is None else time.monotonic() + acquire_timeout
        while (descriptor := self._try(key)) is None:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        with self._guard:
            self._held[key] = (holder, descriptor)
        return True

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Do as :meth:`acquire_lock`, in a thread."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock of a record back.

        Raises
        ------
        ValueError
            If ``holder`` does not hold it.
        """
        with self._guard:
            if self._held.get(key, ("", 0))[0] != holder:
                raise ValueError(f"the lock of {key} is not held by {holder}")
            _, descriptor = self._held.pop(key)
        self._file(key).unlink(missing_ok=True)
        os.close(descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anybody holds the lock of a record."""
        with self._guard:
            if key in self._held:
                return True
        if not self._file(key).exists():
            return False
        descriptor = self._try(key)
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether ``holder``, in this process, holds the lock of a record."""
        with self._guard:
            return self._held.get(key, ("", 0))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock of a record; False if ``timeout`` seconds did not suffice."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_locked(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do as :meth:`wait_for_lock`, in a thread."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.lock"

    def _try(self, key: str) -> int | None:
        """Take the lock if it is free; return its file descriptor or None."""
        path = self._file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass  # taken, or removed by the holder who has just finished
        os.close(descriptor)
        return None
