"""Memory of a process: freed arrays go back to the system, and a lack of it is known in every disguise."""

import ctypes
import errno
import re
import resource
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
"""Parameters of glibc's mallopt (malloc.h)."""

MMAP_MAX = 65536
"""Default of glibc for the number of arrays that are allocated with mmap."""

LARGE_BYTES, LARGEST_BYTES = 8 << 20, (1 << 31) - 1
"""Arrays of at least this size are allocated with mmap and returned to the system when freed; largest such size."""

DISGUISE = re.compile(
    r"cannot allocate|can't allocate|could not allocate|unable to allocate|failed to allocate|failed to map"
    r"|out of memory|memory allocation|bad_alloc|can't start new thread|failed to create intent",
    re.IGNORECASE,
)
"""What C libraries (CFITSIO, SEP, Arrow, LAPACK by f2py) say in exceptions of other classes when memory is lacking."""


def memory_limit_bytes() -> int | None:
    """Return the limit of this process's memory that its user has set (``ulimit -v``, ``-d``); None without one."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def is_lack_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, says that memory is lacking."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        is_errno = isinstance(error, OSError) and error.errno == errno.ENOMEM
        if isinstance(error, MemoryError) or is_errno or DISGUISE.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def return_freed_memory(large_bytes: int = LARGE_BYTES) -> bool:
    """Fix glibc's mmap threshold, so that freed arrays do not fragment the heap of a worker.

    By default glibc raises the threshold up to the size of a CCD's pixels; smaller arrays then fragment a heap that
    never shrinks, which costs a worker 100 MB after two CCDs. All threads share one heap, as those of their own, of 64
    MiB at most, are too small for arrays.

    Parameters
    ----------
    large_bytes
        Size above which arrays are allocated with mmap.

    Returns
    -------
    done
        False if the C library is not glibc.
    """
    return _set_malloc(
        {M_MMAP_THRESHOLD: large_bytes, M_TRIM_THRESHOLD: large_bytes, M_MMAP_MAX: MMAP_MAX, M_ARENA_MAX: 1}
    )


_reusing, _changing = 0, threading.Lock()
"""Number of blocks of :func:`freed_memory_reused` that are open, and the lock of that number."""


@contextmanager
def freed_memory_reused() -> Iterator[None]:
    """Use the memory of freed arrays again inside the ``with`` block; then give it back to the system.

    Every new array otherwise costs the system a fault per 4 KiB, a fifth of the CPU time of a step. Blocks may be
    nested or overlap in threads; the last one to end gives the memory back. Nothing happens without glibc.
    """
    global _reusing
    with _changing:
        _reusing += 1
        if _reusing == 1:
            _set_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: LARGEST_BYTES})
    try:
        yield
    finally:
        with _changing:
            _reusing -= 1
            if _reusing == 0 and return_freed_memory():
                ctypes.CDLL(None).malloc_trim(0)


def _set_malloc(options: Mapping[int, int]) -> bool:
    """Set options of glibc's malloc; return False if the C library is another one."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) for option, value in options.items())
