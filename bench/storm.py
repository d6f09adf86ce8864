"""Kill processes of a run at random times, and restart the run until it finishes."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from blocks.site import Site

VICTIMS = {"worker": 6, "flow": 2, "server": 1}
"""Kind of victim to its relative frequency."""

STUCK_S = 900.0
"""Seconds after which a process counts as hanging."""

LOOK_S = 0.1
"""Polling interval, seconds."""


@dataclass
class Storm:
    """Results of a test with random kills.

    Attributes
    ----------
    kills
        Number of kills by kind of victim.
    starts
        Number of process starts.
    executed, needed
        Number of executed steps, and of steps in an undisturbed run.
    redone
        Number of finished steps that ran again.
    differing
        Products that are missing or different.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    executed: int = 0
    needed: int = 0
    redone: int = 0
    differing: list[str] = field(default_factory=list)

    def interrupted(self, n_workers: int) -> int:
        """Return the maximum number of interrupted steps: one per killed worker, those of all workers of a flow."""
        return self.kills["worker"] + n_workers * (self.kills["flow"] + self.kills["server"])


@dataclass
class Prey:
    """A run whose processes are killed repeatedly.

    Attributes
    ----------
    site
        Site of the run.
    command
        Module and arguments of its process.
    environment
        Environment variables of its process.
    has_begun
        Whether a newly started process has begun to work; kills start after that.
    look
        Called before each kill, to record finished steps.
    calm_s
        Range of the time between two kills, seconds, drawn uniformly.
    """

    site: Site
    command: Sequence[str]
    environment: dict[str, str]
    has_begun: Callable[[subprocess.Popen[bytes]], bool]
    look: Callable[[], None]
    calm_s: tuple[float, float]


def finish_under_fire(prey: Prey, n_kills: int, rng: random.Random, result: Storm) -> None:
    """Restart the run until it finishes; kill one of its processes at random times, at most ``n_kills`` times.

    Raises
    ------
    TimeoutError
        If a process hangs.
    """
    goal = result.kills.total() + n_kills
    while True:
        process = _start(prey)
        result.starts += 1
        deadline = time.monotonic() + STUCK_S
        at_work = False
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise TimeoutError(f"{' '.join(prey.command)} hangs after {dict(result.kills)}")
            at_work = at_work or prey.has_begun(process)
            if result.kills.total() >= goal or not at_work:
                time.sleep(LOOK_S)
                continue
            time.sleep(rng.uniform(*prey.calm_s))
            prey.look()
            victim = rng.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
            if process.poll() is None and _kill(victim, process, prey.site, rng):
                result.kills[victim] += 1
        prey.look()
        if process.returncode == 0:
            return


def _start(prey: Prey) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | prey.environment
    with (prey.site.root / "storm.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *prey.command], env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the worker processes of a run."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        return sorted((c for c in children if _is_worker(c, process.pid)), key=lambda child: child.pid)
    return []


def _is_worker(child: psutil.Process, run: int) -> bool:
    """Whether a process is a worker of a run: spawned, or forked from a child of the run."""
    words = " ".join(child.cmdline())
    return "spawn_main" in words or ("forkserver" in words and child.ppid() != run)


def _kill(victim: str, process: subprocess.Popen[bytes], site: Site, rng: random.Random) -> bool:
    """Kill one process; return False if there is none of this kind."""
    with suppress(psutil.NoSuchProcess, OSError, ValueError, KeyError):
        if victim == "flow":
            process.kill()
            process.wait()
            return True
        if victim == "server":
            address = json.loads((site.state / "server" / "address.json").read_text())
            psutil.Process(address["pid"]).kill()
            return True
        workers = workers_of(process)
        if workers:
            rng.choice(workers).kill()
            return True
    return False
