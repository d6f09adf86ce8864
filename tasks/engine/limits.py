"""Concurrency limits and time limits of steps, and measurement of their CPU time and memory.

Slots are those of Prefect's global concurrency limits, which are created on deployment. A step waits for a free slot. A
slot is a lease that its holder renews, so the slot of a killed run is free again after :data:`LEASE_S`. If a limit does
not exist or the server is unavailable, steps run without a slot: limits only reduce the load on disks and datasets.
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
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

logger = logging.getLogger(__name__)

SERVER_AWAY = (httpx.HTTPError, PrefectException, ConcurrencySlotAcquisitionError)
"""Errors of Prefect's client if the server is unavailable or does not respond in time."""

LEASE_S = 60.0
"""Lease of a slot, seconds: the slot of a dead holder is free again after it. The minimum that Prefect accepts."""


@contextmanager
def slot(name: str | None) -> Iterator[None]:
    """Hold a slot of a global concurrency limit inside the ``with`` block; wait for it without a timeout.

    Parameters
    ----------
    name
        Name of the limit; None for no limit.
    """
    if name is None or not PREFECT_API_URL.value():
        yield
        return
    held = ExitStack()
    try:
        held.enter_context(concurrency(name, lease_duration=LEASE_S, strict=False))
    except SERVER_AWAY as error:
        logger.warning("continuing without a slot of %s: %s", name, error)
    try:
        yield
    finally:
        try:
            held.close()
        except SERVER_AWAY as error:
            logger.warning("the slot of %s is released when its lease expires: %s", name, error)


PROCESS = Path("/proc/self")

TIMES_STUCK = 2
"""Number of times a step may exceed its time limit before it fails."""

TRACE_BEGIN = "Timeout ("
"""First characters of a traceback that ``faulthandler`` writes on a timeout."""

OWN_FOLDERS = ("imaging", "tasks")
"""Folders of the steps' code; the first stack frame in them is quoted in messages."""


class ResourceMeter:
    """Measures time and memory from its construction to :meth:`read`.

    CPU seconds and memory are those of the whole process. A worker process runs one step at a time; threads of one
    process are counted together.
    """

    def __init__(self) -> None:
        _reset_peak_memory()
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def read(self) -> dict[str, Any]:
        """Return ``total_cpu_s`` and ``wall_s``, seconds, and ``peak_memory_mb``, MiB."""
        return {
            "total_cpu_s": round(time.process_time() - self._cpu, 4),
            "wall_s": round(time.perf_counter() - self._wall, 4),
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }


def _reset_peak_memory() -> None:
    """Reset the kernel's peak memory counter of this process (Linux only)."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process since the last reset, MiB."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class StuckError(Exception):
    """A step exceeded its time limit :data:`TIMES_STUCK` times."""


def _is_worker_process() -> bool:
    """Whether this is a process of Dask that a nanny restarts; without Dask's module it is none."""
    dask = sys.modules.get("distributed")
    try:
        return dask is not None and bool(dask.get_worker().nanny)
    except ValueError:
        return False


class TimeLimit:
    """Context manager that terminates a Dask worker process if a step exceeds its time limit.

    The step is retried once on another worker. A timeout inside Python, such as Prefect's, cannot interrupt compiled
    code in the threads in which Dask runs steps. Outside of a worker process there is no limit, because terminating the
    process would end the flow.

    Parameters
    ----------
    seconds
        Wall-clock limit.
    trace
        File to which a terminated process writes its traceback; deleted when the step ends by itself.
    """

    def __init__(self, seconds: float, trace: Path) -> None:
        self._seconds = seconds
        self._trace = trace
        self._stream: IO[str] | None = None

    def __enter__(self) -> None:
        """Start the timer.

        Raises
        ------
        StuckError
            If :data:`TIMES_STUCK` processes have already been terminated in this step.
        """
        if not _is_worker_process():
            return
        self._trace.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._trace.open("a+")
        self._stream.seek(0)
        left = self._stream.read()
        if left.count(TRACE_BEGIN) >= TIMES_STUCK:
            self.__exit__()
            raise StuckError(
                f"{TIMES_STUCK} worker processes exceeded the time limit of {self._seconds:g} s{_place_in(left)}"
            )
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._stream)

    def __exit__(self, *error: object) -> None:
        """Stop the timer."""
        if self._stream is not None:
            faulthandler.cancel_dump_traceback_later()
            self._stream.close()
            self._stream = None
            self._trace.unlink(missing_ok=True)


def _place_in(trace: str) -> str:
    """Return ``, in FILE, line N, in FUNCTION``: the first frame of the last traceback in a step's code, or ``""``."""
    frames = [line.strip() for line in trace.rpartition(TRACE_BEGIN)[2].splitlines() if line.startswith("  File ")]
    own = [frame for frame in frames if any(f"/{folder}/" in frame for folder in OWN_FOLDERS)]
    return f", in {own[0].removeprefix('File ')}" if own else ""
