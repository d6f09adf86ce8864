"""What a step costs (CPU seconds, wall seconds, peak memory), and the limit of its time."""

import faulthandler
import resource
import sys
import time
from pathlib import Path
from typing import Any

from distributed import get_worker

PROCESS = Path("/proc/self")


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


class TimeLimit:
    """Ends the process of a Dask worker that stays too long inside, printing where it was.

    A limit inside Python cannot interrupt compiled code in a thread, which is where Dask runs steps. Elsewhere than in
    a worker process there is no limit, because the process is the flow's.

    Parameters
    ----------
    seconds
        Wall-clock limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed = False

    def __enter__(self) -> None:
        """Start to count."""
        try:
            in_own_process = bool(get_worker().nanny)
        except ValueError:
            return
        if not in_own_process:
            return
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        self._armed = True

    def __exit__(self, *error: object) -> None:
        """Stop to count."""
        if self._armed:
            faulthandler.cancel_dump_traceback_later()
