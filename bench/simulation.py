"""Cost of the simulation: core seconds per raw CCD, in total. ``python -m bench.simulation [--json] [--quick]``."""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.report import Row, at_most, main
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings, demo_settings

FULL_CCDS = (3, 7, 12, 20, 27, 31, 35, 40, 46, 52, 58, 62)
SECONDS_PER_CCD = 8.0
TYPICAL_OVER_EASY = 1.5
"""Largest ratio of the cost of a typical sky to that of the easy one, which is the sky of the first version."""


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
    """Measure the night of the demonstration on two skies, and unless quick exposures of twelve CCDs in i and z."""
    small = {"ccds": (27,), "n_search_exposures": 1} if quick else {}
    cost("compiles the kernels", demo_settings(sky="typical", ccds=(27,), n_search_exposures=1, n_template_epochs=0), 1)
    easy, typical = (
        cost(f"the demonstration's night, sky {sky}, one process", demo_settings(sky=sky, **small), 1)
        for sky in ("easy", "typical")
    )
    ratio = (typical.value or math.nan) / (easy.value or math.nan)
    rows = [easy, typical, at_most("typical over easy", ratio, "", TYPICAL_OVER_EASY, n=easy.n or 0)]
    if not quick:
        wide = SimulationSettings(ccds=FULL_CCDS, bands=("i", "z"), n_search_exposures=1, n_template_epochs=0)
        rows.append(cost("twelve CCDs in i and z, two processes", wide, 2))
    return rows


if __name__ == "__main__":
    main("Simulated nights", measure)
