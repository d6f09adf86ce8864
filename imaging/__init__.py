"""The science: pure functions of arrays and small frozen records.

Nothing in this package knows that an orchestrator exists, and only :mod:`imaging.io` opens files. Importing the
package pins the thread pools of the numerical libraries to one thread per process, because the unit of parallelism
is the CCD: one process per core, one thread per process.
"""

from imaging.threads import pin_library_threads

pin_library_threads()
