"""Cost of the orchestration: per task run, per cached exposure, until the first pixel, and in the database.

CPU seconds are those of all processes: flow, workers and server.
"""

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.postgresql import own_postgresql, postgresql_bytes
from bench.report import Row, at_most, main
from bench.step_times import CCD_S, CCD_STEPS, CCDS
from blocks.site import Site
from deployments.cli.running import quiet_console
from deployments.server.database import VARIABLE
from deployments.server.server import embedded_server, server_for, wait_until_stopped

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

SETTLE_S = 6.0
"""Seconds to wait before the server's CPU time is read, because it records task runs in batches with a delay."""

WAIT_S = 60.0
"""Seconds in which nothing runs, to measure what waiting costs."""

EXPOSURES = 2
"""Exposures of the cached night: one search exposure and one template."""


@dataclass
class Cost:
    """CPU and wall-clock seconds of a measured block."""

    flow_cpu_s: float = 0.0
    worker_cpu_s: float = 0.0
    server_cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes."""
        return self.flow_cpu_s + self.worker_cpu_s + self.server_cpu_s


@contextmanager
def measured(server: psutil.Process) -> Iterator[Cost]:
    """Measure the cost of the ``with`` block."""
    cost = Cost()
    workers, served = _children_cpu_s(server), _cpu_s(server)
    own, began = time.process_time(), time.perf_counter()
    yield cost
    cost.wall_s = time.perf_counter() - began
    cost.flow_cpu_s = time.process_time() - own
    after = _children_cpu_s(server)
    cost.worker_cpu_s = sum(seconds - workers.get(pid, 0.0) for pid, seconds in after.items())
    time.sleep(SETTLE_S)
    cost.server_cpu_s = _cpu_s(server) - served


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _children_cpu_s(server: psutil.Process) -> dict[int, float]:
    """Return the CPU seconds of the descendants of this process, without the server."""
    children = [child for child in psutil.Process().children(recursive=True) if child.pid != server.pid]
    return {child.pid: _cpu_s(child) for child in children}


def database_bytes(site: Site) -> int:
    """Return the size of the server's database."""
    address = os.environ.get(VARIABLE, "")
    if address.startswith("postgresql"):
        return postgresql_bytes(address)
    with sqlite3.connect(f"file:{site.state / 'server' / 'prefect.db'}?mode=ro", uri=True) as database:
        pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)


def measure_runner(
    name: str, site: Site, server: psutil.Process, ccds: Sequence[int], runner: "TaskRunner[Any]"
) -> list[Row]:
    """Measure the overhead per task run of a task runner, with trivial steps."""
    from bench.toy_steps import toy_exposure

    flow = toy_exposure.with_options(task_runner=runner)
    expnum = 100 + sum(map(ord, name))
    flow(str(site.root), (1, 2), ("verify",), expnum)  # workers load their libraries once per run, not per task
    with measured(server) as cost:
        flow(str(site.root), tuple(ccds), ("detrend",), expnum)
    n = len(ccds)
    return [
        Row(f"{name}: wall per task run", 1e3 * cost.wall_s / n, "ms", n=n),
        Row(f"{name}: CPU of the flow per task run", 1e3 * cost.flow_cpu_s / n, "ms", n=n),
        Row(f"{name}: CPU of the workers per task run", 1e3 * cost.worker_cpu_s / n, "ms", n=n),
        Row(f"{name}: CPU of the server per task run", 1e3 * cost.server_cpu_s / n, "ms", n=n),
    ]


def measure_dask(site: Site, server: psutil.Process, ccds: Sequence[int]) -> list[Row]:
    """Measure Dask's overhead per task run, and the time from a cold start to the first pixel."""
    from bench.toy_steps import BEGUN, toy_exposure
    from blocks.cluster import ComputeCluster
    from tasks.engine.task_runner import ComputeTaskRunner

    submitted = time.time()
    first = toy_exposure(str(site.root), (1, 2), ("detrend",), 2)
    begun = min(float(o.result.quality[BEGUN]) for o in first if o.result is not None)  # type: ignore[arg-type]
    rows = measure_runner("Dask", site, server, ccds, ComputeTaskRunner(ComputeCluster()))
    per_task_s = sum(row.value or 0.0 for row in rows if "CPU" in row.name) / 1e3
    share = 100 * per_task_s * len(CCD_STEPS) / CCD_S
    return [
        Row("Dask: from the start of the flow to the first pixel", begun - submitted, "s"),
        *rows,
        at_most(
            f"share of {CCD_S:.3g} CPU s of science per CCD, {len(CCD_STEPS)} task runs",
            share,
            "%",
            5.0,
            n=len(ccds),
        ),
    ]


def measure_waiting(server: psutil.Process) -> list[Row]:
    """Measure what a server, and two workers with their command, cost while nothing runs."""
    from blocks.cluster import ComputeCluster
    from tasks.engine.cluster import Cluster

    cluster = Cluster(ComputeCluster(n_workers=2))
    cluster.client()
    time.sleep(SETTLE_S)
    with measured(server) as cost:
        time.sleep(WAIT_S)
    cluster.close()
    workers, served = cost.flow_cpu_s + cost.worker_cpu_s, cost.server_cpu_s
    return [
        Row("nothing runs: CPU of the server per minute", 60.0 * served / (WAIT_S + SETTLE_S), "s"),
        Row("nothing runs: CPU of two workers and their command per minute", 60.0 * workers / WAIT_S, "s"),
    ]


def measure_cached(site: Site, server: psutil.Process, ccds: Sequence[int]) -> list[Row]:
    """Measure an exposure of 5 steps, its cached re-run, and the growth of the database."""
    from prefect.task_runners import ThreadPoolTaskRunner

    from bench.toy_steps import NAMES, toy_exposure

    flow = toy_exposure.with_options(task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
    before = database_bytes(site)
    with measured(server):
        flow(str(site.root), tuple(ccds), NAMES, 3)
    grown = database_bytes(site) - before
    with measured(server) as cost:
        outcomes = toy_exposure(str(site.root), tuple(ccds), NAMES, 3)
    n = len(outcomes)
    if not all(outcome.cached for outcome in outcomes):
        raise AssertionError("the re-run recomputed cached steps")
    return [
        at_most("cached re-run of an exposure, 5 steps: wall", cost.wall_s, "s", 15.0, n=n),
        Row("cached re-run of an exposure, 5 steps: CPU", cost.cpu_s, "s", n=n),
        Row("cached task run: CPU of all processes", 1e3 * cost.cpu_s / n, "ms", n=n),
        Row("growth of the database per exposure", grown / 2**20, "MB", n=n),
        Row("growth of the database per task run", grown / 2**10 / n, "kB", n=n),
    ]


def measure_known() -> list[Row]:
    """Measure the command of a fully cached night: two whole exposures with the real steps."""
    from bench.known_exposure import Lender

    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        lender = Lender.simulate(Path(folder) / "lender")
        site, costs = lender.known_site(Path(folder) / "known")
        night = lender.simulated.settings.night
        with embedded_server(site):
            run_night(site, night)
            done = record_times(site)
            server = server_process(site)
            served = _cpu_s(server)
            known = run_night(site, night)
            time.sleep(SETTLE_S)
            known.server_cpu_s = _cpu_s(server) - served
        wait_until_stopped(site)
        alone = run_night(site, night)
        if record_times(site) != done:
            raise AssertionError("a run recomputed cached steps")
    n = len(done)
    what = "real steps cached, search exposure and template of 60 CCDs"
    whole = {cost.step: cost.cpu_s for cost in costs}
    return [
        Row(f"{what}: wall of gw-workflow night", known.wall_s, "s", n=n),
        at_most("the same, per exposure", known.wall_s / EXPOSURES, "s", 15.0, n=EXPOSURES),
        Row(f"{what}: CPU of the command, its start included", known.flow_cpu_s, "s", n=n),
        Row(f"{what}: CPU of the server", known.server_cpu_s, "s", n=n),
        Row(f"{what}: wall with the start of a server", alone.wall_s, "s", n=n),
        *(Row(f"CPU of the step {step} of 60 CCDs, once", seconds, "s") for step, seconds in whole.items()),
    ]


def run_night(site: Site, night: int) -> Cost:
    """Process a registered night by its command, in a separate process, and measure its cost."""
    command = [sys.executable, "-m", "deployments.cli.main", "night", str(night), "--site", str(site.root), "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(flow_cpu_s=cpu_s, wall_s=wall_s)


def record_times(site: Site) -> dict[str, int]:
    """Return the modification time of each step record of a site, ns."""
    return {path.name: path.stat().st_mtime_ns for path in site.records.glob("*/*.json")}


def measure(quick: bool) -> list[Row]:
    """Measure everything with each database available on this machine, on separate temporary sites."""
    quiet_console(verbose=False)
    ccds = CCDS[:20] if quick else CCDS
    rows = measure_database("SQLite", ccds)
    if not quick:
        with own_postgresql() as address, using_database(address):
            if address:
                rows += measure_database("PostgreSQL", ccds)
        rows += measure_known()
    return rows


@contextmanager
def using_database(address: str | None) -> Iterator[None]:
    """Set the database of servers that start inside the ``with`` block."""
    if address:
        os.environ[VARIABLE] = address
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def measure_database(name: str, ccds: Sequence[int]) -> list[Row]:
    """Measure everything with one database."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site.at(folder)
        began = time.perf_counter()
        with server_for(site):
            first_start_s = time.perf_counter() - began
            server = server_process(site)
            from prefect.task_runners import ThreadPoolTaskRunner

            rows = measure_runner("threads", site, server, ccds, ThreadPoolTaskRunner(max_workers=2))
            rows += measure_dask(site, server, ccds)
            rows += measure_waiting(server)
            rows += measure_cached(site, server, CCDS)
        wait_until_stopped(site)
        began = time.perf_counter()
        with server_for(site):
            rows.append(Row("start of the server on a new database", first_start_s, "s"))
            rows.append(Row("start of the server on an existing database", time.perf_counter() - began, "s"))
        wait_until_stopped(site)
    return [replace(row, name=f"{name}: {row.name}") for row in rows]


def server_process(site: Site) -> psutil.Process:
    """Return the process of the site's own server."""
    return psutil.Process(json.loads((Path(site.state) / "server" / "address.json").read_text())["pid"])


if __name__ == "__main__":
    main("The cost of orchestration", measure)
