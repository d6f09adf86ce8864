"""CPU seconds and memory of every step on a full-size CCD, from the raw file to detections.

``python -m bench.chain [--json] [--quick]``: a simulated night of 4 CCDs (2 quick), each step as a plain function in
one process on one core, with kernels compiled before; medians over CCDs and exposures.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from bench.plain_night import Cost, PlainNight, simulated_site
from bench.report import Row, at_most, main
from imaging.simulation.settings import demo_settings
from tasks.steps import CCD, STEPS

SINGLE_EPOCH = ("detrend", "measure", "calibrate")
LIMITS = {"single epoch, raw to catalogue": 5.0, "difference": 6.5}
"""Limits, core seconds per CCD: 5 to the catalogue; stack 2.0, subtraction 2.0, detection and fakes 2.5."""

MEMORY_LIMIT_MB = 1.2 * 1024


def measure(quick: bool) -> list[Row]:
    """Process a simulated night and report medians per CCD."""
    settings = demo_settings(ccds=(27, 34)) if quick else demo_settings()
    with simulated_site(settings) as root:
        night = PlainNight.at(root)
        searches = [night.identity(item) for item in night.listed(settings.night, search=True)]
        templates = [night.identity(item) for item in night.listed(settings.night, search=False)]
        night.single_epoch(templates[0])  # compiles the kernels
        night.costs.clear()
        for who in [*templates, *searches[:1]]:
            night.single_epoch(who)
        # Peak memory never falls: after the first difference it no longer shows that of the single epoch.
        night.difference(searches[0], templates)
        compiled = len(night.costs)
        night.difference(searches[0], templates)
    costs = [c for c in night.costs[:compiled] if c.step != "difference"]
    return rows_of(costs + night.costs[compiled:], (settings.seed,))


def rows_of(costs: Sequence[Cost], seeds: tuple[int, ...]) -> list[Row]:
    """Return the rows: total and parts of each step, then the sums that have limits."""
    by_step: dict[str, list[Cost]] = defaultdict(list)
    for cost in costs:
        by_step[cost.step].append(cost)
    rows, medians = [], {}
    for step, items in by_step.items():
        medians[step] = statistics.median(item.cpu_s for item in items)
        rows.append(Row(step, medians[step], "CPU s", n=len(items), seeds=seeds))
        parts: dict[str, list[float]] = defaultdict(list)
        for item in items:
            for name, seconds in item.parts.items():
                parts[name].append(seconds)
        rows += [
            Row(f"  {step}: {name}", statistics.median(values), "CPU s", n=len(values), seeds=seeds)
            for name, values in parts.items()
        ]
    total = sum(medians.get(step, 0.0) for step in SINGLE_EPOCH)
    rows.append(_limited("single epoch, raw to catalogue", total, len(by_step["measure"]), seeds))
    if "difference" in medians:
        rows.append(_limited("difference", medians["difference"], len(by_step["difference"]), seeds))
    ratios = [medians[name] / STEPS[name].cpu_s for name in medians if STEPS[name].mapped_over == CCD]
    rows.append(at_most("measured cost over the one in tasks/steps.py, largest", max(ratios), "", 1.5, n=len(ratios)))
    single = [cost.peak_memory_mb for cost in costs if cost.step in SINGLE_EPOCH]
    rows.append(
        at_most("peak memory, raw to catalogue", max(single), "MB", MEMORY_LIMIT_MB, n=len(single), seeds=seeds)
    )
    peak = max(cost.peak_memory_mb for cost in costs)
    rows.append(at_most("peak memory of the process", peak, "MB", MEMORY_LIMIT_MB, n=len(costs), seeds=seeds))
    return rows


def _limited(name: str, value: float, n: int, seeds: tuple[int, ...]) -> Row:
    return at_most(f"{name}, per CCD", value, "CPU s", LIMITS[name], n=n, seeds=seeds)


if __name__ == "__main__":
    main("Cost of the chain, one core", measure)
