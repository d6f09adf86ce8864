"""Image processing and analysis: pure functions of arrays and small frozen records.

This package does not depend on Prefect or Dask, and only :mod:`imaging.io` opens files. Importing the package pins the
thread pools of the numerical libraries to one thread per process, because the unit of parallelism is the CCD: one
process per core, one thread per process.
"""

from pathlib import Path

from imaging.kernel_cache import keep_kernels_apart
from imaging.memory import return_freed_memory
from imaging.threads import pin_library_threads

pin_library_threads()
return_freed_memory()
keep_kernels_apart(Path(__file__).parent)
