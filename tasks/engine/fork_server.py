"""Workers of this machine are forked from one process that has imported what they need.

A worker that starts by itself imports Prefect, Dask and the steps, for 4 CPU s; a forked one has them at once, also
where it takes the place of one that was killed. It is not forked from this process, whose threads may hold locks; the
only second thread of the other one is that of Arrow's allocator (jemalloc), which is made for forks.
"""

import atexit
import os
import sys
import threading
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

_starting = threading.Lock()


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
        # A process that was killed is started again with the next worker, and needs its variables then, too.
        forkserver._forkserver.ensure_running = _ensure_running  # type: ignore[method-assign]
    forkserver._forkserver.ensure_running()
    return _environment == dict(environment)


def _ensure_running() -> None:
    """Start the process with its environment variables, unless it runs."""
    # python -c would search the working folder first, where a package of the same name may be.
    own = _environment | {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with _starting:
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            forkserver.ForkServer.ensure_running(forkserver._forkserver)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _stop() -> None:
    """Wait until the process ends: nothing is left of a command, and its CPU time contains that of its workers."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
