"""Single-epoch processing in one table: accuracy of every step, and its cost, beside the programs it replaces.

``python -m bench.single_epoch [--json] [--quick]`` runs the benches of detrending (12 CCDs, three seeds, seeing 0.8,
1.1 and 1.4 arcsec, 60 clean fields), of measuring (the same CCDs and seeing; with SExtractor, PSFEx and SCAMP on the
same frames where they are installed) and of the chain (cost and memory), one after the other. The names of the rows
begin with the bench that they come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench import chain, detrend, measure
from bench.report import Row, main

Bench = Callable[[bool], Sequence[Row]]


def measure_as_wide(quick: bool) -> Sequence[Row]:
    """Run the bench of measuring on the CCDs of the bench of detrending that have both amplifiers."""
    return measure.measure(quick, tuple(ccd for ccd in (*detrend.CCDS_FULL, 40) if ccd != 31))


PARTS: dict[str, Bench] = {"detrend": detrend.measure, "measure": measure_as_wide, "chain": chain.measure}
"""Name of a bench to what runs it; each can be run alone as ``python -m bench.NAME``."""


def measure_all(quick: bool) -> list[Row]:
    """Run the benches and put their rows together."""
    return [replace(row, name=f"{part}: {row.name}") for part, run in PARTS.items() for row in run(quick)]


if __name__ == "__main__":
    main("Single-epoch processing", measure_all)
