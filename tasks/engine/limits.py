"""What a step may take: slots of what runs share, time and memory; and what it has taken.

Slots are those of Prefect's global concurrency limits, which are made when the project is deployed. A run that finds no
free slot waits. A slot is a lease that its holder renews, so a killed run gives it back within :data:`LEASE_S`. A limit
that does not exist, or a server that is away, holds nobody up: limits protect disks and datasets from too much at once,
and steps are safe without them.
"""

import faulthandler
import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
from distributed import get_worker
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

logger = logging.getLogger(__name__)

SERVER_AWAY = (httpx.HTTPError, PrefectException, ConcurrencySlotAcquisitionError)
"""What Prefect's client raises where a server is away, or does not answer in time."""

LEASE_S = 60.0
"""Seconds after which the slot of a holder that has died is free again; Prefect takes no shorter lease."""


@contextmanager
def slot(name: str | None) -> Iterator[None]:
    """Hold a slot of a limit inside the ``with`` block; wait for it as long as it takes.

    Parameters
    ----------
    name
        Name of the limit; None to hold nothing.
    """
    if name is None or not PREFECT_API_URL.value():
        yield
        return
    held = ExitStack()
    try:
        held.enter_context(concurrency(name, lease_duration=LEASE_S, strict=False))
    except SERVER_AWAY as error:
        logger.warning("going on without a slot of %s: %s", name, error)
    try:
        yield
    finally:
        try:
            held.close()
        except SERVER_AWAY as error:
            logger.warning("the slot of %s is given back when its lease ends: %s", name, error)


PROCESS = Path("/proc/self")

TIMES_STUCK = 2
"""A step that was past its time limit this often is not tried again."""

TRACE_BEGIN = "Timeout ("
"""How the traceback of a process past its limit begins."""

OWN_FOLDERS = ("imaging", "tasks")
"""Where the code of steps lies, of which a person wants to know the line."""


class ResourceMeter:
    """Measures from its making until :meth:`read`.

    CPU seconds and memory are those of the process, which is the step's own where each worker runs one step at a time;
    with threads they include the neighbours.
    """

    def __init__(self) -> None:
        _reset_peak_memory()
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def read(self) -> dict[str, Any]:
        """Return ``total_cpu_s``, ``wall_s`` and ``peak_memory_mb``."""
        return {
            "total_cpu_s": round(time.process_time() - self._cpu, 4),
            "wall_s": round(time.perf_counter() - self._wall, 4),
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }


def _reset_peak_memory() -> None:
    """Forget the peak so far, where the system can (Linux)."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process since the last reset, in MiB."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class StuckError(Exception):
    """A step was past its time limit as often as it may."""


class TimeLimit:
    """Ends the process of a Dask worker that stays too long inside; the next one that begins the same is the last.

    A limit inside Python cannot interrupt compiled code in a thread, which is where Dask runs steps. Elsewhere than in
    a worker process there is no limit, because the process is the flow's.

    Parameters
    ----------
    seconds
        Wall-clock limit.
    trace
        File in which a process that is ended leaves where it was; removed when the step ends by itself.
    """

    def __init__(self, seconds: float, trace: Path) -> None:
        self._seconds = seconds
        self._trace = trace
        self._stream: IO[str] | None = None

    def __enter__(self) -> None:
        """Start to count.

        Raises
        ------
        StuckError
            If two processes have been ended already.
        """
        try:
            in_own_process = bool(get_worker().nanny)
        except ValueError:
            return
        if not in_own_process:
            return
        self._trace.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._trace.open("a+")
        self._stream.seek(0)
        left = self._stream.read()
        if left.count(TRACE_BEGIN) >= TIMES_STUCK:
            self.__exit__()
            raise StuckError(
                f"{TIMES_STUCK} worker processes were past the time limit of {self._seconds:g} s{_place_in(left)}"
            )
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._stream)

    def __exit__(self, *error: object) -> None:
        """Stop to count."""
        if self._stream is not None:
            faulthandler.cancel_dump_traceback_later()
            self._stream.close()
            self._stream = None
            self._trace.unlink(missing_ok=True)


def _place_in(trace: str) -> str:
    """Say where the last process was, in the words of its traceback: that of the first thread in a step's own code."""
    frames = [line.strip() for line in trace.rpartition(TRACE_BEGIN)[2].splitlines() if line.startswith("  File ")]
    own = [frame for frame in frames if any(f"/{folder}/" in frame for folder in OWN_FOLDERS)]
    return f", in {own[0].removeprefix('File ')}" if own else ""
