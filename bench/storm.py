"""Kill what takes part in a run at random instants, until the run has finished in spite of it."""

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
"""What is killed, and how often compared with the others."""

STUCK_S = 900.0
"""A process that has not ended after as long hangs."""

LOOK_S = 0.1
"""Seconds between two looks at a process."""


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
        Steps that were done, and how many there would have been in calm.
    redone
        Steps that were finished and yet done again.
    differing
        Products that are missing or not as they should be.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    executed: int = 0
    needed: int = 0
    redone: int = 0
    differing: list[str] = field(default_factory=list)

    def interrupted(self, n_workers: int) -> int:
        """Return how many steps may have been interrupted: one per worker killed, those of all workers of a flow."""
        return self.kills["worker"] + n_workers * (self.kills["flow"] + self.kills["server"])


@dataclass
class Prey:
    """A run that is to be killed again and again.

    Attributes
    ----------
    site
        Where it works.
    command
        Module and arguments of its process.
    environment
        Variables of its process.
    has_begun
        Whether the process that has just been started is at work, and so worth a kill.
    look
        Called before each kill, to see what is finished.
    calm_s
        Seconds between two kills, drawn evenly.
    """

    site: Site
    command: Sequence[str]
    environment: dict[str, str]
    has_begun: Callable[[subprocess.Popen[bytes]], bool]
    look: Callable[[], None]
    calm_s: tuple[float, float]


def finish_under_fire(prey: Prey, n_kills: int, rng: random.Random, result: Storm) -> None:
    """Start the run until it finishes; kill something meanwhile, at most ``n_kills`` times.

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
        return sorted((c for c in children if "spawn_main" in " ".join(c.cmdline())), key=lambda child: child.pid)
    return []


def _kill(victim: str, process: subprocess.Popen[bytes], site: Site, rng: random.Random) -> bool:
    """Kill one process; False if there was none of this kind."""
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
