"""Workers of this machine are forked from one process that has imported what they need.

A worker that starts by itself imports Prefect, Dask and the steps, for 4 CPU s; a forked one has them at once, also
where it takes the place of one that was killed. It is not forked from this process, whose threads may hold locks; the
only second thread of the other one is that of Arrow's allocator (jemalloc), which is made for forks.
"""

import atexit
import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Dask's ``distributed.worker.multiprocessing-method``; on other systems not all libraries can be forked."""

DASK = ("distributed.nanny", "distributed.worker", "distributed.http.worker", "distributed.comm.tcp")
"""Modules of Dask that a worker imports."""

OWN = ("deployments", "flows", "tasks")
"""Packages of whose modules a worker imports those that this process has imported: steps and flows are sent by name."""

_environment: dict[str, str] = {}
"""Environment variables with which the process was started; empty before."""


def start_fork_server(environment: Mapping[str, str]) -> bool:
    """Start the process from which workers are forked, unless it runs, without waiting for its imports.

    Parameters
    ----------
    environment
        Environment variables that its imports depend on: settings of Prefect, threads of libraries.

    Returns
    -------
    is_current
        Whether workers will have these variables; False if the process was started with others.
    """
    if METHOD == "spawn":
        return True
    import distributed.utils

    # Dask has no public way to choose what the process imports, and would import pandas, there and here.
    distributed.utils._forkserver_preload_set = True
    own = sorted(name for name in sys.modules if name.partition(".")[0] in OWN)
    forkserver.set_forkserver_preload(["imaging", *DASK, "prefect.task_engine", *own])
    if not _environment:
        _environment.update(environment)
        atexit.register(_stop)
    before = dict(os.environ)
    # python -c would search the working folder first, where a package of the same name may be.
    os.environ.update(environment, PYTHONSAFEPATH="1", PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    try:
        forkserver.ensure_running()
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    return _environment == dict(environment)


def _stop() -> None:
    """Wait until the process ends: nothing is left of a command, and its CPU time contains that of its workers."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
