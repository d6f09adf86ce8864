"""Two hosts, one fails: nights on a running Dask scheduler while links, hosts and servers fail.

``python -m bench.hosts [--json] [--quick]``, as root: this machine becomes two hosts (:mod:`bench.two_hosts`) as in
``docs/clusters.md``, with TLS between them: Dask scheduler, Prefect server, PostgreSQL, the night's process and a
worker on the first, a worker on the second. A simulated night of four exposures, from raw files to the ranked list, is
played calmly and then 20 times, each time with one of six faults at a seeded moment; ``GW_WORKFLOW_NIGHTS=FIRST:END``
plays a part of them. With ``--quick`` they are six nights of four exposures of trivial steps (``bench.storm_steps``).
Each night must complete by itself, with the products of an undisturbed one, byte for byte; no finished step may run
again, and of the others only those that were in flight.
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
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from bench.hosts_nights import PAUSE_S, RealNight, TrivialNight
from bench.report import Row, at_least, at_most, main
from bench.served_hosts import SEED, TwoHosts, hosts_at_work
from bench.two_hosts import enter, frozen, why_not

NIGHTS, QUICK = 20, 6

STUCK_S = 1800.0
"""Seconds after which a night counts as hanging."""


def cut_off(hosts: TwoHosts, rng: random.Random) -> None:
    """Cut the second host off for longer than Dask and TCP are patient, which is half a minute."""
    hosts.second.cut_off()
    time.sleep(rng.uniform(35.0, 70.0))
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


IN_FLIGHT = {"a host is cut off and comes back": 1, "a host is killed": 1, "the scheduler is killed": 2}
"""Steps that a fault can interrupt: one per worker that it takes away."""


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
    differing
        Products that are missing, additional or different.
    again
        Steps that ran again: with trivial steps all, in a real night those that had finished.
    struck
        Whether the fault came before the end of the night.
    wall_s, whole_s
        Seconds to its end, and from then until both workers served again.
    """

    said: str
    differing: list[str]
    again: int
    struck: bool
    wall_s: float
    whole_s: float


def play(hosts: TwoHosts, night: RealNight | TrivialNight, strike: Callable[[], None] | None, share: float) -> Played:
    """Process the night; let a fault happen after a share of its steps."""
    began, struck = time.monotonic(), False
    said_in = night.site.root / "answer"
    with said_in.open("w") as stream:
        process = subprocess.Popen(night.command, env=hosts.environment, stdout=stream, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and time.monotonic() - began < STUCK_S:
            if night.n_done() >= share * night.n_steps and strike is not None and not struck:
                struck = True
                strike()
            time.sleep(0.3)
    finally:
        is_stuck = process.poll() is None
        process.kill()
    process.wait()
    answer, wall_s, said = said_in.read_text(), time.monotonic() - began, "hangs" if is_stuck else ""
    if process.returncode and not said:
        with suppress(ValueError):
            answer = json.loads(answer).get("message") or json.loads(answer).get("error")
        said = f"exit code {process.returncode}: {answer}"
    whole_s = hosts.make_whole()
    return Played(said, night.differing(), night.n_again(), struck, wall_s, whole_s)


def play_all(shared: Path, first: int, end: int, *, quick: bool) -> list[Row]:
    """Play a part of the plan, and summarize it."""
    results: dict[str, list[Played]] = {kind: [] for kind in FAULTS}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="gw-lender-")))
        hosts = opened.enter_context(hosts_at_work(shared, more={"STORM_PAUSE_S": str(PAUSE_S)}))
        if hosts.database is None and not quick:
            return [Row("not run: PostgreSQL is not installed", None, "", ok=False)]
        nights = TrivialNight.of(folder) if quick else RealNight.of(folder, partial(play, hosts, strike=None, share=0))
        for number, (kind, share) in list(enumerate(plan()))[first:end]:
            strike = partial(FAULTS[kind], hosts, random.Random(f"{SEED} {number}"))
            night = nights.copied(shared / f"night{number:02d}")
            played = play(hosts, night, strike, share)
            results[kind].append(played)
            sys.stderr.write(f"{number:2d} {kind} after {share:.0%} of the steps: {played}\n")
            shutil.rmtree(night.site.root, ignore_errors=True)
    return rows_of(results, end - first, nights.n_steps)


def rows_of(results: dict[str, list[Played]], wanted: int, n_steps: int) -> list[Row]:
    """Return the rows of the report."""
    rows = [
        at_least("nights", sum(len(nights) for nights in results.values()), "", wanted, seeds=(SEED,)),
        Row("steps of a night", n_steps, ""),
    ]
    for kind, nights in results.items():
        n, in_flight = len(nights), IN_FLIGHT.get(kind, 0)
        if not n:
            continue
        rows += [
            at_least(f"{kind}: nights that it met", sum(p.struck for p in nights), "", n, n=n, seeds=(SEED,)),
            at_most(f"{kind}: not completed by themselves", sum(bool(p.said) for p in nights), "", 0, n=n),
            at_most(f"{kind}: products that differ", sum(len(p.differing) for p in nights), "", 0, n=n),
            at_most(f"{kind}: steps that ran again", sum(p.again for p in nights), "", in_flight * n, n=n * n_steps),
            Row(f"{kind}: longest wall", max(p.wall_s for p in nights), "s", n=n),
            Row(f"{kind}: both workers serve again, after the end of the night", max(p.whole_s for p in nights), "s"),
        ]
    return rows


def measure(quick: bool) -> list[Row]:
    """Play the nights on two hosts, or say why not."""
    reason = why_not()
    if reason:
        return [Row(f"not run: {reason}", None, "")]
    first, _, end = os.environ.get("GW_WORKFLOW_NIGHTS", f"0:{QUICK if quick else NIGHTS}").rpartition(":")
    return measured(int(first or 0), int(end), quick=quick)


def measured(first: int, end: int, *, quick: bool) -> list[Row]:
    """Play a part of the plan in namespaces of its own.

    Raises
    ------
    RuntimeError
        If it could not be played to its end.
    """
    with tempfile.NamedTemporaryFile() as result:
        words = [str(first), str(end), "quick" if quick else "full", result.name]
        code = enter("bench.hosts", words, stdout=subprocess.DEVNULL)
        if code:
            raise RuntimeError(f"the first host ended with exit code {code}")
        return [Row(**row | {"seeds": tuple(row["seeds"])}) for row in json.loads(Path(result.name).read_text())]


def _as_first_host(shared: str, first: str, end: str, size: str, result: str) -> None:
    rows = play_all(Path(shared), int(first), int(end), quick=size == "quick")
    Path(result).write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    if len(sys.argv) == 6:
        _as_first_host(*sys.argv[1:])
    else:
        main("Two hosts, one fails", measure)
