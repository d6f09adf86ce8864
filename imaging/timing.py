"""Measure CPU and wall time of the steps of a processing chain."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class StepTimes:
    """CPU and wall seconds by step, in the order in which the steps first ran."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time spent inside the ``with`` block to step ``name``."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - cpu
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall

    def add(self, *others: "StepTimes") -> None:
        """Add the times of other chains."""
        for other in others:
            for mine, theirs in ((self.cpu_s, other.cpu_s), (self.wall_s, other.wall_s)):
                for name, seconds in theirs.items():
                    mine[name] = mine.get(name, 0.0) + seconds

    def total_cpu_s(self) -> float:
        """Return the CPU seconds of all steps."""
        return sum(self.cpu_s.values())
