"""The block that configures the compute cluster of a run."""

from typing import Any, Self

from prefect.blocks.core import Block
from pydantic import Field

from blocks.saved import saved_block

LOCAL_PATIENCE_S = 120.0
"""Seconds to wait for a first worker, except with a batch system; without a limit a task would wait without end."""

MORE_MEMORY = 4
"""Factor by which the memory of a batch job is increased for the retry of a CCD that ran out of memory."""


class ComputeCluster(Block):
    """The Dask cluster of a run: processes on this machine, a running scheduler, or a cluster class."""

    _block_type_name = "Compute Cluster"
    _block_type_slug = "gw-compute-cluster"
    _description = "Dask cluster that runs the tasks: local processes, a running scheduler, or a cluster class."

    n_workers: int | None = Field(
        default=None, ge=1, title="Workers", description="Worker processes; empty: one per core of this machine."
    )
    memory_limit_gb: float | None = Field(
        default=None,
        gt=0,
        title="Memory limit",
        description="GiB per worker process; a worker above it is restarted. Empty: an equal share of this machine's "
        "memory.",
    )
    retry_memory_gb: float | None = Field(
        default=None,
        gt=0,
        title="Memory for a retry",
        description="GiB for the single worker that retries a CCD which ran out of memory. Empty: all memory of this "
        "machine, or four times the argument memory of the cluster class.",
    )
    processes: bool = Field(
        default=True, description="Run workers as processes; off: one step after another in the flow's process."
    )
    address: str | None = Field(
        default=None,
        description="Address of a running Dask scheduler, such as tls://host:8786. Tasks there continue after their "
        "run is cancelled; a cluster started per run ends with it.",
    )
    certificate: str | None = Field(
        default=None,
        description="Folder with the certificate of the running scheduler, made by gw-workflow make-certificate.",
    )
    insecure: bool = Field(
        default=False,
        description="Accept a scheduler without TLS: everybody who reaches it can run programs as its user.",
    )
    cluster_class: str | None = Field(
        default=None,
        title="Cluster class",
        description="Import path of a Dask cluster class, such as dask_jobqueue.HTCondorCluster.",
    )
    cluster_arguments: dict[str, Any] = Field(
        default_factory=dict, title="Cluster arguments", description="Keyword arguments of the cluster class."
    )
    queue_hours: float = Field(
        default=12.0,
        gt=0,
        title="Queue timeout",
        description="Hours to wait for the batch system to start a first worker; after that the CCDs fail.",
    )

    @property
    def patience_s(self) -> float:
        """Seconds that a task waits for a first worker: the queue timeout of a cluster class; otherwise two minutes."""
        return 3600.0 * self.queue_hours if self.cluster_class else LOCAL_PATIENCE_S

    @property
    def local_workers(self) -> int:
        """Number of worker processes on this machine."""
        if self.n_workers:
            return self.n_workers
        from dask.system import CPU_COUNT

        return int(CPU_COUNT)

    @property
    def local_memory_bytes(self) -> int:
        """Memory limit of each worker process on this machine, bytes."""
        if self.memory_limit_gb is None:
            return machine_memory_bytes() // self.local_workers
        return min(int(self.memory_limit_gb * 2**30), machine_memory_bytes())

    def with_at_most(self, n_workers: int) -> Self:
        """Return the configuration with at most so many worker processes on this machine; others are unchanged.

        A single one is this process itself, unless the block limits its memory.
        """
        if self.address or self.cluster_class or not self.processes:
            return self
        if n_workers == 1 and self.memory_limit_gb is None:
            return self.model_copy(update={"n_workers": 1, "processes": False})
        if self.local_workers <= n_workers:
            return self
        return self.model_copy(update={"n_workers": n_workers})

    def with_more_memory(self) -> Self:
        """Return the configuration of one worker with more memory; that of a running scheduler is unchanged."""
        if self.address:
            return self
        if not self.cluster_class:
            memory = max(self.retry_memory_gb or machine_memory_bytes() / 2**30, self.local_memory_bytes / 2**30)
            return self.model_copy(update={"n_workers": 1, "memory_limit_gb": memory})
        arguments = dict(self.cluster_arguments)
        if self.retry_memory_gb:
            arguments["memory"] = f"{self.retry_memory_gb:g} GiB"
        elif "memory" in arguments:
            from dask.utils import parse_bytes

            arguments["memory"] = f"{MORE_MEMORY * parse_bytes(arguments['memory'])} B"
        return self.model_copy(update={"n_workers": 1, "cluster_arguments": arguments})


def machine_memory_bytes() -> int:
    """Return the memory that processes of this machine may use, bytes."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def load_cluster(name: str = "default") -> ComputeCluster:
    """Return the saved block of this name; local worker processes if there is no server or no such block."""
    return saved_block(ComputeCluster, name) or ComputeCluster()
