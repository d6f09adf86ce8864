"""Process nights with a server that loses requests, whose database is locked, or that stalls; compare the products.

A small but complete night is processed on worker processes, from raw exposures to the ranked list: once undisturbed,
then with each fault. The run must complete, with products identical, byte for byte, to those of the undisturbed one.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.report import Row, at_most, main
from bench.storm_night import N_WORKERS, products_of, registered_copy, simulate_small_night
from bench.unreliable import WAYS, Fault, Faults, unreliable
from blocks.site import Site
from deployments.server.server import embedded_server
from imaging.simulation.night import SimulatedNight

SEED = 20170817
FRACTION = 0.2
"""Share of requests that fail, in one of three ways."""

BEGIN_S, LOCKED_S, STALLED_S = 15.0, 25.0, 70.0
"""Seconds before each fault, and durations of a database lock and of a stall. Prefect's client gives up a request after
60 s, its server a locked database after 10 s."""


@dataclass
class Nights:
    """Results of nights with a fault.

    Attributes
    ----------
    n
        Number of processed nights.
    incomplete
        Messages of nights that did not complete.
    differing
        Products that are missing, additional or different.
    more_records
        Number of step records in excess of the undisturbed night.
    requests, failed
        Number of requests to the server, and of requests with a fault.
    """

    n: int = 0
    incomplete: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    more_records: int = 0
    requests: int = 0
    failed: int = 0


@contextmanager
def losing(api_url: str, folder: Path, rng: random.Random, nights: Nights) -> Iterator[str]:  # noqa: ARG001
    """Yield the address of a proxy that loses requests and responses."""

    def decide(_kind: str, _n: int) -> Fault | None:
        return rng.choice(WAYS) if rng.random() < FRACTION else None

    faults = Faults(decide)
    with unreliable(urlsplit(api_url).port or 0, faults) as port:
        yield f"http://127.0.0.1:{port}/api"
    nights.requests += faults.seen.total()
    nights.failed += faults.met.total()


@contextmanager
def locking(api_url: str, folder: Path, rng: random.Random, nights: Nights) -> Iterator[str]:  # noqa: ARG001
    """Lock the server's SQLite database repeatedly, as a long transaction does."""

    def lock(ended: threading.Event) -> None:
        with sqlite3.connect(folder / "prefect.db", timeout=60.0, isolation_level=None) as database:
            database.execute("BEGIN IMMEDIATE")
            ended.wait(LOCKED_S)
            database.execute("ROLLBACK")
        database.close()
        nights.failed += 1

    with _again_and_again(lock):
        yield api_url


@contextmanager
def stalling(api_url: str, folder: Path, rng: random.Random, nights: Nights) -> Iterator[str]:  # noqa: ARG001
    """Suspend the server's process repeatedly, as a swapping machine or a hanging disk does."""
    server = int(json.loads((folder / "address.json").read_text())["pid"])

    def stop(ended: threading.Event) -> None:
        os.kill(server, signal.SIGSTOP)
        ended.wait(STALLED_S)
        os.kill(server, signal.SIGCONT)
        nights.failed += 1

    with _again_and_again(stop):
        yield api_url


FAULTS = {"one request of five fails": losing, "database locked": locking, "server stalls": stalling}


@dataclass(frozen=True)
class CalmNight:
    """A night processed with an undisturbed server.

    Attributes
    ----------
    simulated
        The raw night.
    site
        Site of the run; its server is used for the other nights, too.
    products
        Name of each product to its content hash.
    n_records
        Number of step records.
    """

    simulated: SimulatedNight
    site: Site
    products: dict[str, str]
    n_records: int


def calm_night(root: Path) -> CalmNight:
    """Simulate and process a small night.

    Raises
    ------
    RuntimeError
        If the run does not complete.
    """
    simulated = simulate_small_night(root / "lender")
    site, _ = registered_copy(simulated, root / "calm")
    with embedded_server(site) as server:
        said = process(site, simulated.settings.night, server.api_url)
    if said:
        raise RuntimeError(f"the undisturbed night: {said}")
    return CalmNight(simulated, site, products_of(site), len(list(site.records.glob("*/*.json"))))


def nights_with(fault: str, calm: CalmNight, root: Path, n: int, *, seed: int = SEED) -> Nights:
    """Process the same night repeatedly with a fault, and compare its products with those of the undisturbed one.

    Parameters
    ----------
    fault
        One of :data:`FAULTS`.
    calm
        The undisturbed night.
    root
        Working folder.
    n
        Number of nights.
    seed
        Seed of the requests that fail.
    """
    rng, result = random.Random(seed), Nights()
    with embedded_server(calm.site) as server:
        for _ in range(n):
            site, _ = registered_copy(calm.simulated, root / f"faulty{result.n:03d}")
            with FAULTS[fault](server.api_url, calm.site.state / "server", rng, result) as api_url:
                said = process(site, calm.simulated.settings.night, api_url)
            found, result.n = products_of(site), result.n + 1
            result.incomplete += [said] if said else []
            result.differing += sorted(
                name for name in calm.products.keys() | found.keys() if calm.products.get(name) != found.get(name)
            )
            result.more_records += len(list(site.records.glob("*/*.json"))) - calm.n_records
            shutil.rmtree(site.root, ignore_errors=True)
    return result


def process(site: Site, night: int, api_url: str) -> str:
    """Process a night in a separate process; return its message if it does not complete, otherwise ``""``."""
    words = ("night", str(night), "--site", str(site.root), "--workers", str(N_WORKERS), "--json")
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli.main", *words],
        env=os.environ | {"PREFECT_API_URL": api_url, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return done.stderr[-1000:]
    return str(told.get("error") or told.get("message"))


def rows_of(fault: str, result: Nights) -> list[Row]:
    """Return the rows of nights with a fault."""
    for said in result.incomplete:
        sys.stderr.write(f"{fault}: {said}\n")
    n, seeds = result.n, (SEED,)
    return [
        Row(f"{fault}: nights", result.n, ""),
        Row(f"{fault}: faults", result.failed, "", n=max(result.requests, result.failed)),
        at_most(f"{fault}: nights that did not complete", len(result.incomplete), "", 0, n=n, seeds=seeds),
        at_most(f"{fault}: products that differ", len(result.differing), "", 0, n=n, seeds=seeds),
        at_most(f"{fault}: steps in excess of an undisturbed run", result.more_records, "", 0, n=n, seeds=seeds),
    ]


@contextmanager
def _again_and_again(happen: Callable[[threading.Event], None]) -> Iterator[None]:
    """Call a function repeatedly from a thread inside the ``with`` block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(BEGIN_S):
            happen(ended)

    thread = threading.Thread(target=repeat, name="fault")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(quick: bool) -> list[Row]:
    """Process nights with each fault."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        calm = calm_night(Path(folder))
        for fault in FAULTS:
            rows += rows_of(fault, nights_with(fault, calm, Path(folder), 1 if quick else 3))
    return rows


if __name__ == "__main__":
    main("Faulty server: lost requests, a locked database, stalls", measure)
