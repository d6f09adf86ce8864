"""Make glibc return freed arrays to the system, so that workers do not grow from CCD to CCD."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""

LARGE_BYTES = 8 << 20
"""Arrays of at least this size are allocated with mmap and returned to the system when freed."""


def return_freed_memory(large_bytes: int = LARGE_BYTES) -> bool:
    """Fix glibc's mmap threshold, so that freed arrays do not fragment the heap of a worker.

    By default glibc raises the threshold up to the size of a CCD's pixels; smaller arrays then fragment a heap that
    never shrinks, which costs a worker 100 MB after two CCDs.

    Parameters
    ----------
    large_bytes
        Size above which arrays are allocated with mmap.

    Returns
    -------
    done
        False if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, large_bytes) and mallopt(M_TRIM_THRESHOLD, large_bytes))
