"""Damaged files: what each reader makes of every kind of damage.

``python -m bench.faults [--json] [--quick]``: at least 60 seeded mutations of every kind of file that is read, some of
bytes, the others knowing the format (:mod:`bench.mutations`). Each is read in a forked process with limits of time and
of address space. It ends ``right`` (the value of the undamaged file), ``refused`` (our own typed error that names file
and remedy, or treated as absent where that is the rule), ``changed`` (another value that a file without checksum may
hold), ``wrong`` (another value although the file carries a checksum, or an impossible one), ``untyped`` (any other
exception), ``hang`` or ``crash``. The last four must be zero.
"""

import argparse
import math
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from bench.fault_kinds import INPUTS, Kind
from bench.fault_products import PRODUCTS
from bench.mutations import Mutation, mutations
from bench.report import Row, at_least, at_most, print_report
from imaging.errors import GWWorkflowError

KINDS = (*INPUTS, *PRODUCTS)
"""All kinds."""

COLUMNS = ("right", "refused", "changed", "wrong", "untyped", "hang", "crash")
BAD = COLUMNS[3:]

CPU_LIMIT_S, WALL_LIMIT_S = 20.0, 300.0
"""Processor and wall time after which a reader hangs."""

ADDRESS_BYTES = 2 << 30
"""Address space that a reader may add to that of its process."""

QUICK = 5
"""One mutation of this many is read by a quick bench."""

HUGE = 1e20
"""Magnitude that no value of the files has."""


@dataclass(frozen=True, slots=True)
class End:
    """How one reading ended.

    Attributes
    ----------
    kind, mutation
        What was read, and what was done to it.
    column
        One of :data:`COLUMNS`.
    about
        The error.
    """

    kind: str
    mutation: str
    column: str
    about: str = ""


def plain(value: object) -> Any:  # noqa: ANN401
    """Return a value as nested lists, text and numbers, for comparison."""
    match value:
        case np.ndarray():
            return ["array", str(value.dtype.kind), list(value.shape), value.tolist()]
        case pa.Table():
            return [value.schema.names, [str(kind) for kind in value.schema.types], value.to_pydict()]
        case BaseModel():
            return [type(value).__name__, plain(dict(value))]
        case Mapping():
            return sorted(([str(key), plain(entry)] for key, entry in value.items()), key=lambda pair: str(pair[0]))
        case str() | bytes() | int() | float() | None | bool():
            return repr(value)
        case np.generic():
            return repr(value.item())
        case _ if is_dataclass(value):
            return [type(value).__name__, [plain(getattr(value, field.name)) for field in fields(value)]]
        case Iterable():
            return [plain(entry) for entry in value]
    return [type(value).__name__, plain(vars(value))] if hasattr(value, "__dict__") else repr(value)


def census(value: object) -> tuple[int, float]:
    """Return how many numbers of a value are not finite, and the largest of the others."""
    numbers: list[float] = []

    def walk(item: Any) -> None:  # noqa: ANN401
        if isinstance(item, float):
            numbers.append(item)
        elif isinstance(item, str) and item in ("nan", "inf", "-inf"):
            numbers.append(float(item))
        elif isinstance(item, list | tuple):
            for entry in item:
                walk(entry)
        elif isinstance(item, dict):
            for entry in item.values():
                walk(entry)
        elif isinstance(item, str):
            with suppress(ValueError):
                numbers.append(float(item) if len(item) < 30 else 0.0)

    walk(value)
    finite = [abs(number) for number in numbers if math.isfinite(number)]
    return len(numbers) - len(finite), max(finite, default=0.0)


def read_one(kind: Kind, path: Path) -> tuple[str, Any]:
    """Read a file; return how it ended, and the value or the error."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = kind.read(path)
    except GWWorkflowError as error:
        complete = error.remedy is not None and "\n" not in str(error)
        named = (kind.names or path.name) in str(error) and (complete or kind.names == "alert")  # it comes from no file
        return ("refused", "") if named else ("untyped", f"without file or remedy: {error}")
    except Exception as error:  # noqa: BLE001 (what is counted)
        return "untyped", f"{type(error).__name__}: {error}"[:300]
    return (
        ("refused", "")
        if kind.absent is not None and repr(plain(value)) == repr(plain(kind.absent()))
        else ("value", value)
    )


def serve(kind: Kind, path: Path, damaged: Sequence[Mutation], value: Any, results: Connection) -> None:  # noqa: ANN401
    """Read the damaged forms of a file, in a process of its own, and send how each ended."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_BYTES, resource.RLIM_INFINITY))
    odd, largest = census(plain(kind.numbers(value)))
    right = repr(plain(value))
    for mutation in damaged:
        path.write_bytes(mutation.content)
        column, about = read_one(kind, path)
        if column == "value":
            found = repr(plain(about))
            now, size = census(plain(kind.numbers(about)))
            is_odd = now > odd and not mutation.removes
            impossible = not kind.own and (is_odd or size > max(largest, HUGE))
            column, about = (
                "right"
                if found == right
                else "wrong"
                if (kind.sealed and mutation.keeps_sums) or impossible
                else "changed",
                "",
            )
            if column == "wrong":
                about = f"{now - odd} more not finite, largest {size:.3g}"
        results.send((column, about))
    results.close()


def examine(kind: Kind, *, quick: bool = False) -> list[End]:
    """Damage a file of a kind in every way and return how each reading ended."""
    with tempfile.TemporaryDirectory(prefix="gw-workflow-faults-") as name:
        path = kind.write(Path(name))
        content = path.read_bytes()
        column, value = read_one(kind, path)
        if column != "value":
            raise RuntimeError(f"{kind.name}: the undamaged file is not read: {column} {value}")
        damaged = mutations(content, kind.form, zlib.crc32(kind.name.encode()))
        if quick:
            damaged = damaged[zlib.crc32(kind.name.encode()) % QUICK :: QUICK]
        ends: list[End] = []
        while len(ends) < len(damaged):
            ends += _in_a_process(kind, path, damaged[len(ends) :], value)
        return ends


def _in_a_process(kind: Kind, path: Path, damaged: Sequence[Mutation], value: Any) -> list[End]:  # noqa: ANN401
    """Read in one process until it ends, hangs or crashes."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(kind, path, damaged, value, theirs), daemon=True)
    process.start()
    theirs.close()
    ends: list[End] = []
    try:
        for mutation in damaged:
            state = _wait(mine, process.pid or 0)
            if state:
                ends.append(End(kind.name, mutation.name, state))
                break
            ends.append(End(kind.name, mutation.name, *mine.recv()))
    except EOFError:
        ends.append(End(kind.name, damaged[len(ends)].name, "crash"))
    finally:
        process.kill()
        process.join()
    return ends


def _wait(results: Connection, pid: int) -> str:
    """Wait for the next result; return ``hang`` if the process takes too long."""
    began, cpu = time.monotonic(), _cpu_s(pid)
    while not results.poll(0.5):
        if time.monotonic() - began > WALL_LIMIT_S or _cpu_s(pid) - cpu > CPU_LIMIT_S:
            return "hang"
    return ""


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def rows_of(ends: Sequence[End], *, quick: bool) -> list[Row]:
    """Return the counts of all kinds together, with their limits."""
    counts = Counter(end.column for end in ends)
    fewest = min(Counter(end.kind for end in ends).values())
    rows = [Row("kinds", len({end.kind for end in ends}), ""), Row("mutations", len(ends), "")]
    rows += [at_least("fewest mutations of a kind", fewest, "", 60 // QUICK if quick else 60)]
    rows += [Row(column, counts[column], "", n=len(ends)) for column in COLUMNS[:3]]
    return rows + [at_most(column, counts[column], "", 0, n=len(ends)) for column in BAD]


def main() -> None:
    """Examine all kinds, or those named, and print kinds by columns."""
    parser = argparse.ArgumentParser(description="Damaged files")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help=f"one mutation of {QUICK}")
    parser.add_argument("--ends", action="store_true", help="print every end that is not allowed, with its error")
    parser.add_argument("kinds", nargs="*", help="kinds to examine; all by default")
    options = parser.parse_args()
    table = Table(title="damaged files")
    for heading in ("kind", "mutations", *COLUMNS):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    ends: list[End] = []
    for kind in (kind for kind in KINDS if not options.kinds or kind.name in options.kinds):
        found = examine(kind, quick=options.quick)
        counts = Counter(end.column for end in found)
        table.add_row(kind.name, str(len(found)), *(str(counts[column]) for column in COLUMNS))
        ends += found
    if options.ends:
        bad = [end for end in ends if end.column in BAD]
        sys.stdout.write("".join(f"{end.kind}: {end.mutation}: {end.column}: {end.about}\n" for end in bad))
    if not options.json:
        Console(width=120).print(table)
    print_report(rows_of(ends, quick=options.quick), as_json=options.json, title="damaged files")


if __name__ == "__main__":
    main()
