"""What a command for one CCD costs: processed anew, and with nothing to do.

``python -m bench.command_cost [--json] [--quick]``: ``gw-workflow single-epoch -C -c 27`` on a simulated exposure whose
products and compiled kernels exist, on a site whose server does not run. CPU time is that of the command, of the server
that it starts and of all their processes, the least of three (quick: of one). Linux only: the server outlives the
command, and its CPU time is counted by adopting it.
"""

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import Row, at_most, main
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import demo_settings

CCD = 27

TIMES = 3

PROCESS_CPU_S, NOTHING_CPU_S = 15.0, 4.0
"""Largest CPU times of a command that processes a CCD, and of one with nothing to do."""

PR_SET_CHILD_SUBREAPER = 36
"""Option of ``prctl``: processes whose parents have ended become children of this one."""


def cpu_of(words: list[str]) -> float:
    """Run a command; return the CPU seconds of all processes that it has started, those that outlive it included.

    Raises
    ------
    CalledProcessError
        If it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True)
    while True:  # the server ends a second after its last user
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(quick: bool) -> list[Row]:
    """Simulate an exposure of one CCD, process it, and measure the command."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    times = 1 if quick else TIMES
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        simulated = simulate_night(Path(folder), demo_settings(ccds=(CCD,), n_search_exposures=1, n_template_epochs=0))
        (exposure,) = (one for one in simulated.exposures if one.obstype == "object")
        options = {"-E": exposure.expnum, "-b": exposure.band, "-n": exposure.night, "-r": 1, "-p": 1, "-S": 1}
        words = [sys.executable, "-m", "deployments.cli.main", "single-epoch", "-C", "-c", str(CCD), "--site", folder]
        words += [str(word) for option in options.items() for word in option]
        first = cpu_of(words)
        again = min(cpu_of([*words, "-O"]) for _ in range(times))
        nothing = min(cpu_of(words) for _ in range(times))
    what = "single-epoch -C of one CCD"
    return [
        Row(f"{what}, on a new site", first, "CPU s"),
        at_most(f"{what}, processed anew", again, "CPU s", PROCESS_CPU_S, n=times),
        at_most(f"{what}, nothing to do", nothing, "CPU s", NOTHING_CPU_S, n=times),
    ]


if __name__ == "__main__":
    main("The cost of a command", measure)
