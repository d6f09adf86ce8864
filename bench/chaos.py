"""Kill workers, flows and servers at random instants, and see whether the night comes out the same.

Every exposure is processed by a process of its own; while it works, one of its worker processes, itself, or the server
is killed (SIGKILL) again and again; when it has ended without having finished, it is started again, as a person or a
restarted service would. In the end the products must be, byte by byte, those of plain functions that nobody has killed.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.report import Row, at_least, at_most, main
from bench.storm_steps import EXECUTIONS, expected_products, products_of
from blocks.site import Site

SEED = 20170817
N_CCDS = 8
N_WORKERS = 2
PAUSE_S = 0.4
"""Seconds that a step works."""

CALM_S = (0.1, 2.5)
"""Between two kills, drawn evenly, counted from the first step of the process."""

STUCK_S = 300.0
"""A process that has not ended after as long hangs."""

VICTIMS = {"worker": 6, "flow": 2, "server": 1}
"""What is killed, and how often compared with the others."""


@dataclass
class Storm:
    """What a storm did and what it left.

    Attributes
    ----------
    kills
        Kills by victim.
    starts
        How often a process was started.
    executed, needed
        Executions of steps, and how many there would have been in calm.
    differing
        Products that are missing or not as they should be.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    executed: int = 0
    needed: int = 0
    differing: list[str] = field(default_factory=list)

    @property
    def allowed(self) -> int:
        """Executions that may have been interrupted, and so done again: one per worker killed, all those of a flow."""
        return self.kills["worker"] + N_WORKERS * (self.kills["flow"] + self.kills["server"])


def storm(root: Path, n_kills: int, *, seed: int = SEED, kills_per_exposure: int = 8) -> Storm:
    """Process exposures under fire until so many kills have fallen, and check what comes out.

    Parameters
    ----------
    root
        Folder to work in.
    n_kills
        Kills, all together.
    seed
        Seed of victims and instants.
    kills_per_exposure
        After so many kills an exposure is left in peace to be finished.

    Raises
    ------
    TimeoutError
        If a process hangs.
    """
    rng = random.Random(seed)
    site, quiet = Site.at(root / "storm"), Site.at(root / "calm")
    site.root.mkdir(parents=True)
    result = Storm()
    expnum = 0
    while result.kills.total() < n_kills:
        expnum += 1
        left = min(kills_per_exposure, n_kills - result.kills.total())
        before = _executions(site)
        _finish_under_fire(site, expnum, left, rng, result)
        result.executed += _executions(site) - before
        expected = expected_products(quiet, expnum, tuple(range(1, N_CCDS + 1)))
        result.needed += 2 * N_CCDS + 2
        found = products_of(site, expnum)
        wrong = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
        result.differing += sorted(wrong)
    return result


def _finish_under_fire(site: Site, expnum: int, n_kills: int, rng: random.Random, result: Storm) -> None:
    """Start the exposure's process until it finishes; kill something meanwhile, at most ``n_kills`` times."""
    goal = result.kills.total() + n_kills
    while True:
        process = _start(site, expnum)
        result.starts += 1
        deadline = time.monotonic() + STUCK_S
        begun = _executions(site)
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise TimeoutError(f"exposure {expnum} hangs after {dict(result.kills)}")
            if result.kills.total() >= goal or _executions(site) == begun:
                time.sleep(0.05)
                continue
            time.sleep(rng.uniform(*CALM_S))
            victim = rng.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
            if process.poll() is None and _kill(victim, process, site, rng):
                result.kills[victim] += 1
                begun = _executions(site) if victim != "worker" else -1
        if process.returncode == 0:
            return


def _start(site: Site, expnum: int) -> subprocess.Popen[bytes]:
    with (site.root / "storm.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.storm_steps", str(site.root), str(expnum), str(N_CCDS)],
            env=os.environ | {"STORM_PAUSE_S": str(PAUSE_S), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _kill(victim: str, process: subprocess.Popen[bytes], site: Site, rng: random.Random) -> bool:
    """Kill one process; False if there was none of this kind."""
    with suppress(psutil.NoSuchProcess, OSError, ValueError, KeyError):
        if victim == "flow":
            process.kill()
            return True
        if victim == "server":
            address = json.loads((site.state / "server" / "address.json").read_text())
            psutil.Process(address["pid"]).kill()
            return True
        workers = [
            c for c in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(c.cmdline())
        ]
        if workers:
            rng.choice(sorted(workers, key=lambda worker: worker.pid)).kill()
            return True
    return False


def _executions(site: Site) -> int:
    path = site.root / EXECUTIONS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def measure(quick: bool) -> list[Row]:
    """Raise the storm."""
    wanted = 20 if quick else 200
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = storm(Path(folder), wanted)
    redone = result.executed - result.needed
    seeds = (SEED,)
    return [
        at_least("kills", result.kills.total(), "", wanted, n=result.starts, seeds=seeds),
        *(Row(f"kills: {victim}", result.kills[victim], "") for victim in VICTIMS),
        at_most("products that differ from those in calm", len(result.differing), "", 0, n=result.needed, seeds=seeds),
        at_most("steps done again", redone, "", result.allowed, n=result.needed, seeds=seeds),
        Row("processes started", result.starts, ""),
        Row("wall", time.perf_counter() - began, "s"),
    ]


if __name__ == "__main__":
    main("Chaos: SIGKILL of workers, flows and servers", measure)
