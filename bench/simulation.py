"""Cost of the simulation: core seconds per raw CCD, in total. ``python -m bench.simulation``."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.report import Row, at_most, main
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings, demo_settings

FULL_CCDS = (3, 7, 12, 20, 27, 31, 35, 40, 46, 52, 58, 62)
SECONDS_PER_CCD = 8.0


def core_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def cost(name: str, settings: SimulationSettings, processes: int) -> Row:
    """Simulate a night into a temporary folder, and return its cost per raw CCD."""
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        before = core_seconds()
        night = simulate_night(Path(folder), settings, processes=processes)
        spent = core_seconds() - before
    n = len(settings.ccds) * len(night.exposures)
    return at_most(name, spent / n, "core-s per raw CCD", SECONDS_PER_CCD, n=n, seeds=(settings.seed,))


def measure(quick: bool) -> Sequence[Row]:
    """Measure the night of the demonstration, and unless quick exposures of twelve CCDs in i and z."""
    rows = [cost("the demonstration's night, one process", demo_settings(), 1)]
    if not quick:
        wide = SimulationSettings(ccds=FULL_CCDS, bands=("i", "z"), n_search_exposures=1, n_template_epochs=0)
        rows.append(cost("twelve CCDs in i and z, two processes", wide, 2))
    return rows


if __name__ == "__main__":
    main("Simulated nights", measure)
