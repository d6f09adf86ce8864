"""Output of the benches: rows with a value, a unit, a limit and whether it is met."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.sky_night import SkyNight, add_options, processed_nights


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value.

    Attributes
    ----------
    name
        What was measured.
    value
        The value; None if it could not be measured.
    unit
        Its unit.
    limit
        The required value; None if there is none.
    ok
        Whether the limit is met; None without a limit or a value.
    n
        Number of independent measurements.
    seeds
        Seeds of the simulations.
    """

    name: str
    value: float | None
    unit: str
    limit: float | None = None
    ok: bool | None = None
    n: int = 1
    seeds: tuple[int, ...] = field(default_factory=tuple)


def at_most(name: str, value: float | None, unit: str, limit: float, *, n: int = 1, seeds: Sequence[int] = ()) -> Row:
    """Return a row whose value must not exceed its limit."""
    return Row(name, value, unit, limit, None if value is None else bool(value <= limit), n, tuple(seeds))


def at_least(name: str, value: float | None, unit: str, limit: float, *, n: int = 1, seeds: Sequence[int] = ()) -> Row:
    """Return a row whose value must reach its limit."""
    return Row(name, value, unit, limit, None if value is None else bool(value >= limit), n, tuple(seeds))


def none_wrong(name: str, wrong: Sequence[bool]) -> Row:
    """Return a row that counts what is wrong, which must be nothing; without anything to check it is not met."""
    if not wrong:
        return at_least(f"{name}: nothing to check", 0, "", 1)
    return at_most(name, int(sum(wrong)), "", 0, n=len(wrong))


def commit() -> str:
    """Return the commit of the code, with ``+`` if the tree has changes; ``unknown`` outside a checkout."""
    folder = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30, 1),
        "python": platform.python_version(),
    }


HEADINGS = ("", "value", "unit", "limit", "met", "n", "seeds")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text, one per heading."""
    met = {True: "yes", False: "NO", None: ""}[row.ok]
    absent = "-" if row.limit is None else "not measured"
    value = absent if row.value is None else f"{row.value:.4g}"
    limit = "" if row.limit is None else f"{row.limit:g}"
    return row.name, value, row.unit, limit, met, str(row.n), ",".join(map(str, row.seeds))


def print_report(rows: Sequence[Row], *, as_json: bool, title: str) -> None:
    """Print rows as a table, or as one JSON document on standard output."""
    if as_json:
        document = {"title": title, "commit": commit(), "machine": machine(), "rows": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    table = Table(title=f"{title} ({commit()}, {machine()['processor']})")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=160).print(table)


def main(
    title: str,
    measure: Callable[[bool], Sequence[Row]],
    on_sky: Callable[[Iterator[SkyNight]], Sequence[Row]] | None = None,
    night: type[SkyNight] = SkyNight,
) -> None:
    """Run a bench from the command line.

    Parameters
    ----------
    title
        Heading of the table.
    measure
        Function of one flag, ``quick`` (about a minute instead of the full measurement), that returns the rows.
    on_sky
        Function of processed nights, for the options of :mod:`bench.sky_night`; None if the bench has none.
    night
        Class of these nights.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="take about a minute")
    if on_sky is not None:
        add_options(parser)
    options = parser.parse_args()
    rows = measure(options.quick) if on_sky is None or options.sky is None else on_sky(processed_nights(options, night))
    print_report(rows, as_json=options.json, title=title)
