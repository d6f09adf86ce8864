"""Two hosts, one fails: nights on a running Dask scheduler while links, hosts and servers fail.

``python -m bench.hosts [--json] [--quick]``, as root: this machine becomes two hosts (:mod:`bench.two_hosts`) as in
``docs/clusters.md``, with TLS between them: Dask scheduler, Prefect server, PostgreSQL, the night's process and a
worker on the first, a worker on the second. A night of four exposures is played calmly, then 20 times (quick: 2; others
by ``GW_WORKFLOW_NIGHTS=FIRST:END``) with one of six faults at a seeded moment. Each night must complete by itself, with
products identical, byte for byte, to those of the calm one, without a finished step that ran again.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench import storm_steps
from bench.report import Row, at_least, at_most, main
from bench.served_hosts import COMMAND, SEED, START_S, TwoHosts, hosts_at_work, n_workers, wait_for
from bench.storm_night import CCDS, Records, products_of, registered_copy
from bench.two_hosts import enter, frozen, why_not
from blocks.site import Site
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import demo_settings

NIGHTS, QUICK = 20, 2

STUCK_S = 1800.0
"""Seconds after which a night counts as hanging."""


def cut_off(hosts: TwoHosts, rng: random.Random) -> None:
    """Cut the second host off for longer than Dask and TCP are patient, or for less."""
    hosts.second.cut_off()
    time.sleep(rng.uniform(10.0, 70.0))
    hosts.second.connect()


def kill_host(hosts: TwoHosts, rng: random.Random) -> None:  # noqa: ARG001
    """Kill the second host; it stays away until the night has ended."""
    hosts.second.kill()


def restart_database(hosts: TwoHosts, rng: random.Random) -> None:
    """Stop the database and start it again."""
    if hosts.database is not None:
        hosts.database.stop()
        time.sleep(rng.uniform(2.0, 20.0))
        hosts.database.start()


def kill_scheduler(hosts: TwoHosts, rng: random.Random) -> None:  # noqa: ARG001
    """Kill the scheduler; the command that runs it starts it again."""
    for process in psutil.process_iter(["cmdline"]):
        if "distributed.cli.dask_scheduler" in (process.info["cmdline"] or ()):
            process.kill()


def spoil_link(hosts: TwoHosts, rng: random.Random) -> None:  # noqa: ARG001
    """Let the link lose 5 % of its packets until the night has ended, and hold all of them for 30 s."""
    hosts.second.cable.loss = 0.05
    time.sleep(10.0)
    hosts.second.cable.is_stalled = True
    time.sleep(30.0)
    hosts.second.cable.is_stalled = False


def hang_folder(hosts: TwoHosts, rng: random.Random) -> None:  # noqa: ARG001
    """Let all writes to the shared folder wait for 60 s."""
    with frozen(hosts.shared):
        time.sleep(60.0)


FAULTS = {
    "a host is cut off and comes back": cut_off,
    "a host is killed": kill_host,
    "the database restarts": restart_database,
    "the scheduler is killed": kill_scheduler,
    "the link loses 5 % and stalls 30 s": spoil_link,
    "the shared folder hangs 60 s": hang_folder,
}


def plan(n: int = NIGHTS, seed: int = SEED) -> list[tuple[str, float]]:
    """Return the fault of each night, and at which share of its steps it happens."""
    rng = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < n:
        kinds += rng.sample(list(FAULTS), len(FAULTS))
    return [(kind, rng.uniform(0.05, 0.75)) for kind in kinds[:n]]


@dataclass
class Played:
    """How a night ended.

    Attributes
    ----------
    said
        Its message if it did not complete by itself, otherwise empty.
    products
        Name of each product to its content hash.
    n_records, redone
        Step records, and finished steps that ran again.
    struck
        Whether the fault came before the end of the night.
    wall_s, whole_s
        Seconds to its end, and from then until both workers served again.
    """

    said: str
    products: dict[str, str]
    n_records: int
    redone: list[str] = field(default_factory=list)
    struck: bool = False
    wall_s: float = 0.0
    whole_s: float = 0.0


def play(
    hosts: TwoHosts, night: SimulatedNight, name: str, strike: Callable[[], None] | None, after: float = 0.0
) -> Played:
    """Process the night; let a fault happen after a number of finished steps."""
    site, _ = registered_copy(night, hosts.shared / name)
    records, struck, began = Records(site), False, time.monotonic()
    words = [*COMMAND, "night", str(night.settings.night), "--site", str(site.root), "--json"]
    process = subprocess.Popen(
        words, env=hosts.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        while process.poll() is None and time.monotonic() - began < STUCK_S:
            records.look()
            if strike is not None and not struck and len(records.seen) >= after:
                struck = True
                strike()
            time.sleep(0.3)
    finally:
        is_stuck = process.poll() is None
        process.kill()
    answer = process.communicate()[0]
    records.look()
    wall_s, said = time.monotonic() - began, "hangs" if is_stuck else ""
    if process.returncode and not said:
        with suppress(ValueError):
            answer = json.loads(answer).get("message") or json.loads(answer).get("error")
        said = f"exit code {process.returncode}: {answer}"
    began = time.monotonic()
    hosts.make_whole()
    whole_s = time.monotonic() - began
    played = Played(said, products_of(site), len(records.seen), records.redone, struck, wall_s, whole_s)
    shutil.rmtree(site.root, ignore_errors=True)
    return played


def differing(calm: Played, played: Played) -> list[str]:
    """Return the products that are missing, additional or different."""
    names = calm.products.keys() | played.products.keys()
    return sorted(name for name in names if calm.products.get(name) != played.products.get(name))


def play_all(shared: Path, first: int, end: int) -> list[Row]:
    """Play a calm night and a part of the plan, and summarize them."""
    settings = demo_settings(ccds=CCDS, n_search_exposures=2, n_template_epochs=2)
    results: dict[str, list[Played]] = {kind: [] for kind in FAULTS}
    with tempfile.TemporaryDirectory(prefix="gw-lender-") as folder, hosts_at_work(shared, postgresql=True) as hosts:
        if hosts.database is None:
            return [Row("not run: PostgreSQL is not installed", None, "", ok=False)]
        night = simulate_night(Path(folder), settings)
        calm = play(hosts, night, "calm", None)
        if calm.said:
            raise RuntimeError(f"the calm night: {calm.said}")
        sys.stderr.write(f"calm: {calm.n_records} steps in {calm.wall_s:.0f} s\n")
        for number, (kind, moment) in list(enumerate(plan()))[first:end]:
            strike = partial(FAULTS[kind], hosts, random.Random(f"{SEED} {number}"))
            played = play(hosts, night, f"night{number:02d}", strike, moment * calm.n_records)
            results[kind].append(played)
            sys.stderr.write(
                f"{number:2d} {kind} after {moment * calm.n_records:.0f} steps: {played.said or 'complete'} in "
                f"{played.wall_s:.0f} s, whole after {played.whole_s:.0f} s; struck {played.struck}; differ "
                f"{differing(calm, played)}; again {played.redone}; {played.n_records} steps\n"
            )
    return rows_of(calm, results, end - first)


def rows_of(calm: Played, results: dict[str, list[Played]], wanted: int) -> list[Row]:
    """Return the rows of the report."""
    every = [played for nights in results.values() for played in nights]
    rows = [
        at_least("nights", len(every), "", wanted, seeds=(SEED,)),
        Row("steps of a night", calm.n_records, ""),
        Row("calm: wall", calm.wall_s, "s"),
    ]
    for kind, nights in results.items():
        if not nights:
            continue
        n, seeds = len(nights), (SEED,)
        rows += [
            at_least(f"{kind}: nights that it met", sum(p.struck for p in nights), "", n, n=n, seeds=seeds),
            at_most(f"{kind}: not completed by themselves", sum(bool(p.said) for p in nights), "", 0, n=n, seeds=seeds),
            at_most(f"{kind}: products that differ", sum(len(differing(calm, p)) for p in nights), "", 0, n=n),
            at_most(f"{kind}: finished steps that ran again", sum(len(p.redone) for p in nights), "", 0, n=n),
            at_most(f"{kind}: steps in excess", sum(abs(p.n_records - calm.n_records) for p in nights), "", 0, n=n),
            Row(f"{kind}: longest wall", max(p.wall_s for p in nights), "s", n=n),
        ]
    return rows


def measure(quick: bool) -> list[Row]:
    """Play the nights on two hosts, or say why not."""
    reason = why_not()
    if reason:
        return [Row(f"not run: {reason}", None, "")]
    first, _, end = os.environ.get("GW_WORKFLOW_NIGHTS", f"0:{QUICK if quick else NIGHTS}").rpartition(":")
    with tempfile.NamedTemporaryFile() as result:
        code = enter("bench.hosts", [str(int(first or 0)), str(int(end)), result.name], stdout=subprocess.DEVNULL)
        if code:
            raise RuntimeError(f"the first host ended with exit code {code}")
        return [Row(**row | {"seeds": tuple(row["seeds"])}) for row in json.loads(Path(result.name).read_text())]


def cut_off_once(shared: Path) -> dict[str, Any]:
    """Process an exposure with trivial steps while the second host is cut off for 45 s; return how it ended."""
    site, ccds = Site.at(shared / "site"), tuple(range(1, 13))
    site.root.mkdir()
    done = site.root / storm_steps.EXECUTIONS
    with hosts_at_work(shared, postgresql=False, more={"STORM_PAUSE_S": "2"}) as hosts:
        program = "from bench import storm_steps; storm_steps.main()"
        words = [sys.executable, "-c", program, str(site.root), "1", str(len(ccds))]
        with (shared / "run.log").open("wb") as log:
            run = subprocess.Popen(words, env=hosts.environment, stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: run.poll() is not None or done.exists(), START_S, "first step")
        hosts.second.cut_off()
        time.sleep(45.0)
        while_away = n_workers()
        hosts.second.connect()
        code = run.wait(timeout=STUCK_S)
        hosts.make_whole()
        found = storm_steps.products_of(site, 1)
        expected = storm_steps.expected_products(Site.at(shared / "calm"), 1, ccds)
    steps = done.read_text().splitlines()
    return {
        "exit_code": code,
        "differing": sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)),
        "steps": len(set(steps)),
        "again": len(steps) - len(set(steps)),
        "workers_while_away": while_away,
        "said": (shared / "run.log").read_text()[-2000:],
    }


def _as_first_host(shared: str, first: str, end: str, result: str) -> None:
    from dataclasses import asdict

    rows = play_all(Path(shared), int(first), int(end))
    Path(result).write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    if len(sys.argv) == 5:
        _as_first_host(*sys.argv[1:])
    elif len(sys.argv) == 3:
        Path(sys.argv[2]).write_text(json.dumps(cut_off_once(Path(sys.argv[1]))))
    else:
        main("Two hosts, one fails", measure)
