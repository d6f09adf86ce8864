"""The step records of a site: list, verify against their products, prune, and their costs as a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from blocks.nights import read_night
from blocks.site import Site
from imaging.io.atomic import content_hash
from imaging.io.tables import write_table
from tasks.engine.cache import parse_record_name, read_record
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.tidied import expected
from tasks.jobs import ccd_of


@dataclass(frozen=True)
class Recorded:
    """One step record.

    Attributes
    ----------
    path
        Its file.
    subject
        Exposure number, or ``night-YYYYMMDD``.
    step, ccd
        Step, and its CCD; None for a step without one.
    result
        Content; None if it is damaged.
    """

    path: Path
    subject: str
    step: str
    ccd: int | None
    result: StepResult | None

    @property
    def products(self) -> frozenset[str]:
        """Names of the products."""
        return frozenset(product.path for product in self.result.products.values()) if self.result else frozenset()

    @property
    def size(self) -> int:
        """Bytes of the products."""
        return sum(product.size for product in self.result.products.values()) if self.result else 0


def all_records(site: Site) -> Iterator[Recorded]:
    """Yield all records of a site by subject, the latest last."""
    for folder in sorted(path for path in site.records.glob("*") if path.is_dir()):
        for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            found = parse_record_name(path.name)
            if found:
                step, unit = found
                yield Recorded(path, folder.name, step, ccd_of(unit), read_record(path))


def damage_of(site: Site, record: Recorded, *, deep: bool = False) -> str | None:
    """Return the damage of a record or its products; None if there is none.

    Parameters
    ----------
    site
        The site.
    record
        The record.
    deep
        Whether to compare the content of the products, instead of size and time.
    """
    if record.result is None:
        return "record damaged"
    for product in record.result.products.values():
        path, now = site.path(product.path), expected(site, product)
        if now is None and not path.exists():
            continue
        if not path.is_file():
            return f"product missing: {product.path}"
        if now is None or not now.is_intact(site) or (deep and content_hash(path) != now.content_hash):
            return f"product altered: {product.path}"
    return None


def prune(site: Site) -> dict[str, int]:
    """Remove useless records; products stay.

    These are damaged records, records of products that a later step has rewritten, errors stored by Prefect, hashes of
    files that no longer exist, and notes of killed workers about their time limits.

    Returns
    -------
    counts
        Number of removed files by reason.
    """
    records = list(all_records(site))
    damaged = {record.path for record in records if damage_of(site, record)}
    # Of several records of the same products that one holds which describes them; the time decides between equals.
    in_turn = sorted(records, key=lambda record: record.path not in damaged)
    latest = {record.products: record.path for record in in_turn if record.products}
    counts = {"damaged": 0, "replaced": 0, "errors": 0, "forgotten": 0}
    for record in records:
        if latest.get(record.products, record.path) != record.path:
            counts["replaced"] += _remove(record.path)
        elif record.path in damaged:
            counts["damaged"] += _remove(record.path)
    for path in site.records.glob("*"):
        if path.is_file():
            counts["errors"] += _remove(path)
    for path in (site.state / "stuck").glob("*.txt"):
        counts["forgotten"] += _remove(path)
    for path in (site.state / "fingerprints").glob("*.json"):
        try:
            known = FileRecord.model_validate_json(path.read_bytes())
        except ValueError:
            counts["forgotten"] += _remove(path)
            continue
        if not site.path(known.path).exists():
            counts["forgotten"] += _remove(path)
    return counts


def _remove(path: Path) -> int:
    path.unlink(missing_ok=True)
    return 1


TIMINGS = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("ccd", pa.int16()),
        pa.field("finished_mjd", pa.float64(), nullable=False),
        pa.field("wall_s", pa.float32(), nullable=False),
        pa.field("cpu_s", pa.float32(), nullable=False),
        pa.field("peak_memory_mb", pa.float32(), nullable=False),
        pa.field("product_bytes", pa.int64(), nullable=False),
        pa.field("parts_cpu_s", pa.map_(pa.string(), pa.float32()), nullable=False),
    ]
)
"""Subject (exposure number or ``night-YYYYMMDD``), step, CCD, end, wall and CPU time, memory, bytes, CPU by part."""

MJD_OF_1970 = 40587.0


def timing_table(site: Site, night: int | None = None) -> pa.Table:
    """Return the cost of every recorded step, the earliest first.

    Parameters
    ----------
    site
        The site.
    night
        Restrict to the exposures and templates of this registered night and the night itself; None for all.

    Raises
    ------
    InputError
        If the night is not registered.
    """
    subjects = None
    if night is not None:
        record = read_night(site, night).record
        subjects = {str(number) for number in (*record.exposures, *record.templates)} | {f"night-{night}"}
    rows: list[dict[str, Any]] = []
    for known in all_records(site):
        if known.result is None or (subjects is not None and known.subject not in subjects):
            continue
        rows.append(
            {
                "subject": known.subject,
                "step": known.step,
                "ccd": known.ccd,
                "finished_mjd": MJD_OF_1970 + known.path.stat().st_mtime / 86400.0,
                "wall_s": known.result.wall_s,
                "cpu_s": known.result.total_cpu_s,
                "peak_memory_mb": known.result.peak_memory_mb,
                "product_bytes": known.size,
                "parts_cpu_s": list(known.result.cpu_s.items()),
            }
        )
    rows.sort(key=lambda row: row["finished_mjd"])
    return pa.Table.from_pylist(rows, schema=TIMINGS)


def write_timings(site: Site, path: Path, night: int | None = None) -> pa.Table:
    """Write the cost of every recorded step as Parquet; return the table."""
    table = timing_table(site, night)
    write_table(path, table)
    return table
