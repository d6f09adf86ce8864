"""Times of calls, for tests."""

import gc
import time
from collections.abc import Callable


def least_s(call: Callable[[], object], *, clock: Callable[[], float] = time.process_time, times: int = 4) -> float:
    """Return the least time of several calls, seconds.

    The CPU time of one call depends on what else the machine and this process do: shared cores, threads, and garbage
    of the tests before.
    """
    gc.collect()
    spent = []
    for _ in range(times):
        began = clock()
        call()
        spent.append(clock() - began)
    return min(spent)
