"""Locks that die with their holder."""

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.engine.locks import FileLocks

KEY = "1300001/toy-ccd01-abc.json"

HOLD = """
import sys, time
from pathlib import Path
from tasks.engine.locks import FileLocks
FileLocks(Path(sys.argv[1])).acquire_lock(sys.argv[2], "other")
print("held", flush=True)
time.sleep(60)
"""


def test_one_holds_and_the_other_waits(tmp_path):
    one, other = FileLocks(tmp_path), FileLocks(tmp_path)
    assert one.acquire_lock(KEY, "one")
    assert one.is_lock_holder(KEY, "one")
    assert not one.is_lock_holder(KEY, "other")
    assert other.is_locked(KEY)
    assert not other.acquire_lock(KEY, "other", acquire_timeout=0.1)
    assert not other.wait_for_lock(KEY, timeout=0.1)
    one.release_lock(KEY, "one")
    assert not other.is_locked(KEY)
    assert other.acquire_lock(KEY, "other", acquire_timeout=1)
    other.release_lock(KEY, "other")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "no lock file stays behind"


def test_a_lock_of_somebody_else_cannot_be_released(tmp_path):
    locks = FileLocks(tmp_path)
    locks.acquire_lock(KEY, "one")
    with pytest.raises(ValueError, match="not held"):
        locks.release_lock(KEY, "other")
    locks.release_lock(KEY, "one")


def test_a_killed_holder_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, KEY], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        locks = FileLocks(tmp_path)
        assert locks.is_locked(KEY)
        holder.kill()
        holder.wait()
        assert locks.acquire_lock(KEY, "one", acquire_timeout=5)
        locks.release_lock(KEY, "one")


def test_threads_take_turns(tmp_path):
    inside, most = 0, 0

    def work(number):
        nonlocal inside, most
        locks = FileLocks(tmp_path)
        locks.acquire_lock(KEY, str(number))
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        inside -= 1
        locks.release_lock(KEY, str(number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_locks_travel_without_what_is_held(tmp_path):
    locks = FileLocks(tmp_path)
    locks.acquire_lock(KEY, "one")
    assert not pickle.loads(pickle.dumps(locks)).is_lock_holder(KEY, "one")
    locks.release_lock(KEY, "one")


def test_a_copy_is_the_same_object(tmp_path):
    locks = FileLocks(tmp_path)
    locks.acquire_lock(KEY, "one")
    assert copy.deepcopy(locks).is_lock_holder(KEY, "one")
    locks.release_lock(KEY, "one")


def test_two_coroutines_whose_waits_share_a_thread_take_turns(tmp_path):
    """One thread takes the lock, is reused to wait for it, and goes on when the other coroutine gives it back."""

    async def turns():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        one, other = FileLocks(tmp_path), FileLocks(tmp_path)
        assert await one.aacquire_lock(KEY, "one")
        loop.call_later(0.2, one.release_lock, KEY, "one")
        assert await other.aacquire_lock(KEY, "other")
        other.release_lock(KEY, "other")

    asyncio.run(turns())


@pytest.mark.optional
def test_filelock_leaves_its_files_behind(tmp_path):
    """The reason why it is not used; should it ever remove them safely, this test says so."""
    filelock = pytest.importorskip("filelock", reason="filelock is not installed")
    for number in range(3):
        with filelock.FileLock(tmp_path / f"{number}.lock"):
            pass
    assert len(list(tmp_path.iterdir())) == 3
