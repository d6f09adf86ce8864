"""A lock per step record that is released when its process dies.

A lock of Prefect's own ``FileSystemLockManager`` is a file that survives its process: after a kill every later run of
that step waits without end. These locks use ``flock``, which the kernel releases when the process ends. With them two
concurrent runs of a night compute each step once: the second run waits and uses the record of the first.

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
"""Polling interval for a lock that is held elsewhere, seconds."""


class FileLocks(LockManager):
    """Lock manager for Prefect's task transactions, with lock files below a folder.

    Parameters
    ----------
    folder
        Folder of the lock files, created on first use, on a file system that supports ``flock``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._held: dict[str, tuple[str, int]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["FileLocks"], tuple[Path]]:
        """Pickle the folder only; locks that are held stay in this process."""
        return FileLocks, (self.folder,)

    def __deepcopy__(self, memo: object) -> "FileLocks":
        """Return the same object, because a copy would not know which locks are held."""
        return self

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,  # noqa: ARG002
    ) -> bool:
        """Acquire the lock of a record; wait at most ``acquire_timeout`` seconds, without limit if it is None.

        ``hold_timeout`` is ignored, because a lock is released when its process ends.

        Returns
        -------
        acquired
            Whether the lock was acquired in time.
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
        """Call :meth:`acquire_lock` in a thread."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Release the lock of a record.

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
        """Whether the lock of a record is held, by any process."""
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
        """Whether the lock of a record is held by ``holder`` in this process."""
        with self._guard:
            return self._held.get(key, ("", 0))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock of a record is free; return False if it is still held after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_locked(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Call :meth:`wait_for_lock` in a thread."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.lock"

    def _try(self, key: str) -> int | None:
        """Try to acquire the lock; return its file descriptor, or None if it is held elsewhere."""
        path = self._file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass  # held, or deleted by the holder on release
        os.close(descriptor)
        return None
