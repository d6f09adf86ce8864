"""The Dask cluster of a run, started on first use, and shared or exclusive access to it.

The first of these that is available is used: the running scheduler at the address in ``GW_WORKFLOW_DASK_ADDRESS``; the
``ComputeCluster`` block passed in, or saved as ``default``; one worker process per core of this machine.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL, get_current_settings

from blocks.cluster import ComputeCluster, load_cluster
from imaging.errors import InputError
from imaging.threads import LIBRARY_THREAD_VARIABLES
from tasks.engine.dask_security import (
    HTTP_ROUTES,
    WORKER_HTTP_ROUTES,
    read_certificate,
    require_encryption,
    with_certificate,
)
from tasks.engine.fork_server import METHOD, start_fork_server
from tasks.engine.running_scheduler import REMEDY, SchedulerError, require_answer

if TYPE_CHECKING:
    from distributed import LocalCluster
    from prefect_dask.client import PrefectDaskClient

ADDRESS_VARIABLE = "GW_WORKFLOW_DASK_ADDRESS"
"""Environment variable with the address of a running scheduler, such as ``tls://10.0.0.1:8786``."""

CERTIFICATE_VARIABLE = "GW_WORKFLOW_DASK_CERTIFICATE"
"""Environment variable with the folder of its certificate."""

INSECURE_VARIABLE = "GW_WORKFLOW_DASK_INSECURE"
"""Environment variable that accepts a scheduler without TLS if it is 1."""

ALLOWED_FAILURES = 3
"""Worker deaths per task that Dask tolerates (``distributed.scheduler.allowed-failures``). With a lower value tasks
that shared a dying worker with the task that killed it would fail, too."""

START_ATTEMPTS = 3
"""Attempts to start the local workers if they die during start-up, for example by the kernel's OOM killer."""

DASK_SETTINGS = {
    # A killed worker is started again. On a busy machine its start may take more than the default of 15 s, after which
    # the cluster would close the nanny and have no workers for the rest of the run.
    "distributed.deploy.lost-worker-timeout": "1h",
    # Profiles and monitors that nobody looks at took a tenth of a core while two workers waited.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    # Worker and nanny look at the worker's memory, by default every 100 ms: half of what two waiting workers cost.
    "distributed.worker.memory.monitor-interval": "500ms",
    # Without it results stay where they are; they are small, and nothing is kept twice.
    "distributed.scheduler.active-memory-manager.start": False,
}


class Turns:
    """A readers-writer lock with writer preference: shared use by many threads, or exclusive use by one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._waiting = 0
        self._alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold shared access inside the ``with`` block; wait for holders of, and waiters for, exclusive access."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold exclusive access inside the ``with`` block; wait until all shared access has ended."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._together)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class Cluster:
    """A Dask cluster that starts on first use; its creator closes it.

    Parameters
    ----------
    configuration
        The block that describes it; None to load the saved one on first use.
    allowed_failures
        Worker deaths per task that Dask tolerates before the task fails.

    Attributes
    ----------
    knows_settings
        Whether the workers inherited this process's Prefect settings, so that tasks need not carry them.
    turns
        Lock for shared and exclusive use.
    """

    def __init__(
        self, configuration: ComputeCluster | None = None, *, allowed_failures: int = ALLOWED_FAILURES
    ) -> None:
        self._configuration = configuration
        self._allowed_failures = allowed_failures
        self._client: PrefectDaskClient | None = None
        self._is_closed = False
        self._unreachable: SchedulerError | None = None
        self.knows_settings = False
        self.turns = Turns()
        self._lock = threading.Lock()
        self._opened = ExitStack()

    @property
    def is_started(self) -> bool:
        """Whether the cluster has been started."""
        return self._client is not None

    @property
    def configuration(self) -> ComputeCluster:
        """The block that describes the cluster."""
        if self._configuration is None:
            self._configuration = load_cluster()
        return self._configuration

    @property
    def runs_here(self) -> bool:
        """Whether there are no workers: the steps run in the flow's process."""
        return not self._address and not self.configuration.cluster_class and not self.configuration.processes

    @contextmanager
    def with_more_memory(self) -> Iterator["Cluster"]:
        """Yield a cluster of one worker with more memory, with exclusive access to this cluster.

        Raises
        ------
        RuntimeError
            If this cluster has been closed.
        SchedulerError
            If its running scheduler was lost and has not come back.
        """
        with self.turns.alone():
            if self._is_closed or self.is_started:
                self.client()  # raises if the run has ended or its scheduler is lost
            roomy = Cluster(self.configuration.with_more_memory(), allowed_failures=0)
            try:
                yield roomy
            finally:
                roomy.close()

    def client(self) -> "PrefectDaskClient":
        """Return the client; start the cluster, or connect to its scheduler, on first use.

        A client that loses a running scheduler connects to it again for as long as a task waits for a first worker;
        what is submitted in the meantime waits. After that this and every later call fails.

        Raises
        ------
        RuntimeError
            If the cluster has been closed because its run ended.
        InputError
            If ``PREFECT_API_URL`` is not set.
        SchedulerError
            If a running scheduler does not answer, or was lost and has not come back.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the run and its cluster have ended")
            if self._unreachable is not None:
                raise self._unreachable
            if self._client is None:
                import dask

                _require_server()
                logging.getLogger("distributed").setLevel(logging.WARNING)
                self._opened.enter_context(dask.config.set(DASK_SETTINGS | self._limits()))
                self._client = self._opened.enter_context(self._connected())
            elif self._address and self._client.status in ("closing", "closed"):
                where = f"{self._address}, lost, not back within {self.configuration.patience_s:g} s"
                self._unreachable = SchedulerError("the Dask scheduler has ended", value=where, remedy=REMEDY)
                raise self._unreachable
            return self._client

    def _limits(self) -> dict[str, Any]:
        return {
            "distributed.scheduler.allowed-failures": self._allowed_failures,
            "distributed.scheduler.no-workers-timeout": f"{self.configuration.patience_s:g}s",
            "distributed.scheduler.http.routes": HTTP_ROUTES,
        }

    @property
    def _address(self) -> str | None:
        """Address of a running scheduler; None if none is named."""
        return os.environ.get(ADDRESS_VARIABLE) or self.configuration.address

    def _connected(self) -> "PrefectDaskClient":
        """Connect to the running scheduler, or start a cluster."""
        from prefect_dask.client import PrefectDaskClient

        address = self._address
        if not address:
            return PrefectDaskClient(self._start(self.configuration), set_as_default=False)
        require_encryption(address, is_allowed=self._is_insecure_allowed())
        folder = os.environ.get(CERTIFICATE_VARIABLE) or self.configuration.certificate
        security = read_certificate(Path(folder).expanduser()) if folder else None
        get_logger(__name__).info("Using the Dask scheduler at %s", address)
        try:
            require_answer(address, security)
        except SchedulerError as error:
            self._unreachable = error
            raise
        timeout_s = self.configuration.patience_s
        return PrefectDaskClient(address, security=security, timeout=timeout_s, set_as_default=False)

    def _is_insecure_allowed(self) -> bool:
        return self.configuration.insecure or os.environ.get(INSECURE_VARIABLE) == "1"

    def _start(self, configuration: ComputeCluster) -> Any:  # noqa: ANN401
        logger = get_logger(__name__)
        if configuration.cluster_class:
            module, _, name = configuration.cluster_class.rpartition(".")
            logger.info("Starting a cluster of class %s", configuration.cluster_class)
            arguments = self._opened.enter_context(
                with_certificate(configuration.cluster_class, configuration.cluster_arguments)
            )
            cluster = self._opened.enter_context(getattr(import_module(module), name)(**arguments))
            require_encryption(cluster.scheduler_address, is_allowed=self._is_insecure_allowed())
            if configuration.n_workers:
                cluster.scale(configuration.n_workers)
            return cluster
        workers, memory = configuration.local_workers, configuration.local_memory_bytes
        logger.info("Starting %d workers with a memory limit of %.1f GB each", workers, memory / 2**30)
        environment = get_current_settings().to_environment_variables(exclude_unset=True)
        environment |= {name: os.environ.get(name, "1") for name in LIBRARY_THREAD_VARIABLES}
        environment["DASK_DISTRIBUTED__WORKER__HTTP__ROUTES"] = str(WORKER_HTTP_ROUTES)
        # Workers only log that connections close at the end of the run; their deaths are logged by the nannies here.
        environment["DASK_LOGGING__DISTRIBUTED"] = "critical"
        import dask
        from distributed import Security

        self.knows_settings = start_fork_server(environment)
        self._opened.enter_context(dask.config.set({"distributed.worker.multiprocessing-method": METHOD}))
        return self._opened.enter_context(
            _local_cluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                env=environment,
                security=Security.temporary(),
            )
        )

    def close(self) -> None:
        """Close the client and, if it was started here, the cluster."""
        with self._lock:
            self._is_closed = True
            self._client = None
            self._opened.close()


def _local_cluster(**options: Any) -> "LocalCluster":  # noqa: ANN401
    """Start worker processes on this machine; try again if one of them dies during start-up.

    Raises
    ------
    RuntimeError
        If workers die in each of the attempts.
    """
    from distributed import LocalCluster

    for _ in range(START_ATTEMPTS - 1):
        try:
            return LocalCluster(**options)
        except RuntimeError as error:
            get_logger(__name__).warning("The workers did not start (%s); starting them again", error)
    return LocalCluster(**options)


def _require_server() -> None:
    """Require a Prefect server: without one every worker process would start a temporary server of its own.

    Raises
    ------
    InputError
        If ``PREFECT_API_URL`` is not set.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "worker processes need a Prefect server",
            value="PREFECT_API_URL is not set",
            remedy="use the command gw-workflow, which starts one, or start one and set PREFECT_API_URL",
        )
