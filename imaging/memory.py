"""Let a long-lived process give the memory of one CCD back before it takes on the next."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings (malloc.h)."""

LARGE_BYTES = 8 << 20
"""Arrays of this size are mapped on their own, so that they go back to the system when they are freed."""


def return_freed_memory(large_bytes: int = LARGE_BYTES) -> bool:
    """Keep glibc from growing its heap by the masks of every CCD that a worker has seen.

    Left to itself it raises the size from which arrays are mapped on their own, up to that of a CCD's pixels; smaller
    arrays then leave holes in a heap that never shrinks, which cost a worker 100 MB after two CCDs.

    Parameters
    ----------
    large_bytes
        Size from which arrays are mapped on their own.

    Returns
    -------
    done
        False where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, large_bytes) and mallopt(M_TRIM_THRESHOLD, large_bytes))
