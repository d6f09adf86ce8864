"""Set the number of threads of the numerical libraries before they are imported."""

import os

LIBRARY_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def pin_library_threads(threads: int = 1) -> None:
    """Set every library's thread count, unless the user has set it.

    The libraries read these variables once, when they are first imported, so this runs in ``imaging/__init__.py``
    before NumPy. Child processes inherit the setting.

    Parameters
    ----------
    threads
        Threads per process.
    """
    for name in LIBRARY_THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))
