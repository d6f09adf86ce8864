"""Scaling of one run, one server and one cluster: a night whose steps only wait, extrapolated to larger nights.

20 exposures of 60 CCDs run through all stages with the real server, Dask and records, but with steps that only wait a
fraction of the real time. The cost of the orchestration in each process is measured; from it the duration of a night of
200 exposures and its bottleneck are derived for any number of cores.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.orchestration import Cost, database_bytes, measured, server_process
from bench.report import Row, at_least, at_most, main
from bench.step_times import CCD_S, CCD_STEPS, CCDS, EXPOSURE_S, EXPOSURE_STEPS, NIGHT_STEPS, TASKS_PER_EXPOSURE
from blocks.site import Site
from deployments.cli.running import quiet_console
from deployments.server.server import server_for

EXPOSURES = 20
COMPRESSION = 10.0
"""Real duration of a step over its waiting time."""

WORKERS = 4
"""Number of worker processes; waiting ones need no core."""

NIGHT_EXPOSURES = 200
CORES = (32, 64, 128, 256, 512)
FLOW_RUNS = (1, 2, 4, 8)
"""Numbers of processes that share the exposures of a night: runs of ``process-exposure`` beside that of the night."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Cost of the orchestration per task run, seconds.

    Attributes
    ----------
    flow_s, worker_s, server_s
        CPU seconds of the run's own process, of the worker and of the server.
    """

    flow_s: float
    worker_s: float
    server_s: float

    @classmethod
    def of(cls, cost: Cost, n_tasks: int) -> "Overhead":
        """Return the overhead from the cost of ``n_tasks`` task runs."""
        return cls(cost.flow_cpu_s / n_tasks, cost.worker_cpu_s / n_tasks, cost.server_cpu_s / n_tasks)

    @property
    def share_percent(self) -> float:
        """Total overhead in percent of the science of an exposure."""
        science_s = len(CCDS) * CCD_S + EXPOSURE_S
        return 100 * TASKS_PER_EXPOSURE * (self.flow_s + self.worker_s + self.server_s) / science_s


SETTINGS_THAT_HELP = {
    "cores": "more cores",
    "exposures at a time": "concurrent_exposures of the night's settings",
    "the run's process": "runs of process-exposure before the night's, deploy --limit",
    "the server": "a server per site",
}
"""Bottleneck to the setting that removes it."""


def night_hours(
    cores: int, overhead: Overhead, *, exposures: int = NIGHT_EXPOSURES, at_once: int = 2, processes: int = 1
) -> dict[str, float]:
    """Return the hours that each resource needs for a night; the largest is the bottleneck.

    Parameters
    ----------
    cores
        Number of worker processes.
    overhead
        Overhead per task run.
    exposures
        Number of exposures of 60 CCDs, all searched.
    at_once
        Number of exposures that one run processes at the same time.
    processes
        Number of runs that share the exposures.
    """
    tasks = exposures * TASKS_PER_EXPOSURE
    steps_s = [-(-len(CCDS) // cores) * (seconds + overhead.worker_s) for seconds in CCD_STEPS.values()]
    steps_s += [seconds + overhead.worker_s for seconds in EXPOSURE_STEPS.values()]
    science_s = exposures * (len(CCDS) * CCD_S + EXPOSURE_S)
    return {
        "cores": (science_s + tasks * overhead.worker_s) / cores / 3600,
        "exposures at a time": exposures * sum(steps_s) / (at_once * processes) / 3600,
        "the run's process": tasks * overhead.flow_s / processes / 3600,
        "the server": tasks * overhead.server_s / 3600,
    }


def bottleneck(hours: dict[str, float]) -> str:
    """Return the name of the resource that needs most time."""
    return max(hours, key=hours.__getitem__)


def extrapolated(overhead: Overhead) -> list[Row]:
    """Return the hours of a night for each number of cores, with default settings and with the bottleneck removed."""
    rows = []
    for cores in CORES:
        rows.append(_row(f"{NIGHT_EXPOSURES} exposures, {cores} cores", night_hours(cores, overhead)))
        at_once = max(2, -(-2 * cores // len(CCDS)))
        moved = [night_hours(cores, overhead, at_once=at_once, processes=processes) for processes in FLOW_RUNS]
        best = min(range(len(moved)), key=lambda k: round(max(moved[k].values()), 3))
        if max(moved[best].values()) < 0.95 * max(night_hours(cores, overhead).values()):
            rows.append(_row(f"  {at_once} exposures at a time, {FLOW_RUNS[best]} runs", moved[best]))
    return rows


def _row(what: str, hours: dict[str, float]) -> Row:
    limit = bottleneck(hours)
    return Row(f"{what}: limited by {limit} ({SETTINGS_THAT_HELP[limit]})", hours[limit], "h")


def rehearse(site: Site, server: psutil.Process, exposures: Sequence[int]) -> tuple[list[Row], Overhead]:
    """Run the waiting night, then again fully cached; return the rows and the overhead."""
    from bench.dry_night import dry_night
    from blocks.cluster import ComputeCluster
    from tasks.engine.task_runner import with_options

    n_tasks = len(exposures) * TASKS_PER_EXPOSURE
    before = database_bytes(site)
    arguments = (tuple(exposures), CCDS, str(site.root), COMPRESSION)
    memory = psutil.Process().memory_info().rss
    run = with_options(dry_night, cluster=ComputeCluster(n_workers=WORKERS, memory_limit_gb=2))
    with measured(server) as cost:
        done = run(*arguments)
    grown = psutil.Process().memory_info().rss - memory
    with measured(server) as known:
        dry_night(*arguments)
    overhead = Overhead.of(cost, n_tasks)
    n = len(exposures)
    return [
        at_least("steps done", done["records"], "", n_tasks + len(NIGHT_STEPS), n=n),
        Row("wall of the night", cost.wall_s, "s", n=n),
        Row("wall without overhead", n * (len(CCDS) * CCD_S + EXPOSURE_S) / COMPRESSION / WORKERS, "s", n=n),
        Row("CPU of the run's process per task run", 1e3 * overhead.flow_s, "ms", n=n_tasks),
        Row("CPU of the workers per task run", 1e3 * overhead.worker_s, "ms", n=n_tasks),
        Row("CPU of the server per task run", 1e3 * overhead.server_s, "ms", n=n_tasks),
        at_most("share of the science", overhead.share_percent, "%", 5.0, n=n_tasks),
        at_most("cached re-run per exposure: wall", known.wall_s / n, "s", 15.0, n=n),
        Row("cached re-run per exposure: CPU of all processes", known.cpu_s / n, "s", n=n),
        Row("growth of the database per exposure", (database_bytes(site) - before) / 2**20 / n, "MB", n=n),
        Row("growth of the run's memory per exposure", grown / 2**20 / n, "MB", n=n),
    ], overhead


def measure(quick: bool) -> list[Row]:
    """Rehearse a night on a site of its own, and extrapolate."""
    quiet_console(verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        site = Site.at(Path(folder))
        with server_for(site):
            rows, overhead = rehearse(site, server_process(site), range(1, 1 + (2 if quick else EXPOSURES)))
    about = [Row("science per CCD", CCD_S, "CPU s"), Row("time is compressed by", COMPRESSION, "")]
    return [*about, *rows, *extrapolated(overhead)]


if __name__ == "__main__":
    main("Scaling of a night", measure)
