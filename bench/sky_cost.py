"""CPU seconds of the steps on nights of the named skies, as :mod:`bench.chain` counts them."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.chain import LIMITS, SINGLE_EPOCH
from bench.plain_night import Cost
from bench.report import Row, at_most
from bench.sky_goals import GOALS, Family, Goals
from bench.sky_night import SkyNight


@dataclass
class Spent:
    """Costs of the steps of nights."""

    costs: list[Cost] = field(default_factory=list)


def collect(night: SkyNight) -> Spent:
    """Return the costs of a processed night."""
    return Spent(night.costs())


def absent(night: SkyNight) -> Spent:  # noqa: ARG001
    """Return the costs of a night that could not be processed."""
    return Spent()


def rows_of(spent: Spent, label: str, seeds: Sequence[int], goals: Goals = GOALS) -> list[Row]:  # noqa: ARG001
    """Return the sums of the steps' medians over CCDs; the limits are those of the easy sky."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for cost in spent.costs:
        seconds[cost.step].append(cost.cpu_s)
    rows = []
    for (name, limit), steps in zip(LIMITS.items(), (SINGLE_EPOCH, ("difference",)), strict=True):
        known = all(seconds[step] for step in steps)
        total = sum(statistics.median(seconds[step]) for step in steps) if known else None
        n = min(len(seconds[step]) for step in steps)
        rows.append(at_most(f"{label}: cost: {name}, per CCD", total, "CPU s", limit, n=n, seeds=seeds))
    return rows


COSTS = Family(Spent, collect, absent, rows_of)
