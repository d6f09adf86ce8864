"""Grade quality metrics green, yellow, orange or red by the package's table of limits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import pyarrow as pa

from imaging.bands import band_named
from imaging.errors import InputError
from imaging.package_data import read_table
from imaging.schemas.grades import GRADES
from imaging.tables import column, make_table

ANY_BAND = "*"


class Grade(StrEnum):
    """Grade of a quality metric; ``UNKNOWN`` if the value is missing or has no limits."""

    GREEN = "green"
    YELLOW = "yellow"
    ORANGE = "orange"
    RED = "red"
    UNKNOWN = "unknown"


SEVERITY = (Grade.UNKNOWN, Grade.GREEN, Grade.YELLOW, Grade.ORANGE, Grade.RED)


@dataclass(frozen=True, slots=True)
class GradeLimits:
    """The ranges of one quality metric in one band.

    Attributes
    ----------
    key, band
        Name of the metric; band or ``*``.
    unit
        Unit of the limits.
    green, yellow, orange
        (low, high), both inclusive; infinite where open. Each contains the one before.
    meaning
        Description of the metric.
    """

    key: str
    band: str
    unit: str
    green: tuple[float, float]
    yellow: tuple[float, float]
    orange: tuple[float, float]
    meaning: str

    def grade(self, value: float) -> Grade:
        """Grade a value; NaN is unknown."""
        if math.isnan(value):
            return Grade.UNKNOWN
        for grade, (low, high) in (
            (Grade.GREEN, self.green),
            (Grade.YELLOW, self.yellow),
            (Grade.ORANGE, self.orange),
        ):
            if low <= value <= high:
                return grade
        return Grade.RED


def parse_limits(rows: Iterable[dict[str, str]]) -> dict[tuple[str, str], GradeLimits]:
    """Parse a table of limits, by key and band.

    Raises
    ------
    InputError
        If a line is repeated, a limit is not a number, a range does not contain the better one, or a band is unknown.
    """
    limits: dict[tuple[str, str], GradeLimits] = {}
    for row in rows:
        where = f"{row['key']}, band {row['band']}"
        if row["band"] != ANY_BAND:
            band_named(row["band"])
        if (row["key"], row["band"]) in limits:
            raise InputError("table of grades has a line twice", value=where)
        green, yellow, orange = (
            (_limit(row, f"{name}_low", -math.inf), _limit(row, f"{name}_high", math.inf))
            for name in ("green", "yellow", "orange")
        )
        nested = orange[0] <= yellow[0] <= green[0] <= green[1] <= yellow[1] <= orange[1]
        if not nested or (green == (-math.inf, math.inf)):
            raise InputError("table of grades has ranges that do not contain each other", value=where)
        limits[row["key"], row["band"]] = GradeLimits(
            row["key"], row["band"], row["unit"], green, yellow, orange, row["meaning"]
        )
    return limits


@lru_cache
def grade_limits() -> dict[tuple[str, str], GradeLimits]:
    """Return the package's limits, by key and band."""
    return parse_limits(read_table("imaging.quality", "grades.csv"))


def limits_of(key: str, band: str) -> GradeLimits | None:
    """Return the limits of a metric in a band, or None if there are none."""
    limits = grade_limits()
    return limits.get((key, band)) or limits.get((key, ANY_BAND))


def grade_value(key: str, band: str, value: float | None) -> Grade:
    """Grade one quality metric; missing values and metrics without limits are unknown."""
    limits = limits_of(key, band)
    return Grade.UNKNOWN if limits is None or value is None else limits.grade(float(value))


def grade_quality(quality: pa.Table, keys: Sequence[str] | None = None) -> pa.Table:
    """Grade a table of quality metrics.

    Parameters
    ----------
    quality
        Identity columns and quality metrics, such as rows of :data:`imaging.schemas.quality.QUALITY`.
    keys
        Metrics to grade; by default all columns with limits.

    Returns
    -------
    grades
        Rows of :data:`imaging.schemas.grades.GRADES`, CCD by CCD, metrics in the order of ``keys``.
    """
    graded = {key for key, _ in grade_limits()}
    chosen = [key for key in (keys if keys is not None else quality.column_names) if key in graded]
    bands = quality.column("band").to_pylist()
    n = quality.num_rows
    values = np.array([column(quality, key).astype(float) for key in chosen]).reshape(len(chosen), n)
    rows = [(i, j) for i in range(n) for j in range(len(chosen))]
    units = {(key, band): getattr(limits_of(key, band), "unit", "") for key in chosen for band in set(bands)}
    taken = quality.select([name for name in GRADES.names if name in quality.column_names])
    identity = taken.take(pa.array([i for i, _ in rows], type=pa.int64()))
    flat = values.T.ravel()
    return make_table(
        {
            **{name: identity.column(name).combine_chunks() for name in ("expnum", "band", "night", "ccd")},
            "key": [chosen[j] for _, j in rows],
            "value": pa.array(flat, type=pa.float32(), mask=np.isnan(flat)),
            "unit": [units[chosen[j], bands[i]] for i, j in rows],
            "grade": [str(grade_value(chosen[j], bands[i], values[j, i])) for i, j in rows],
        },
        GRADES,
    )


def worst(grades: Iterable[Grade | str]) -> Grade:
    """Return the worst of some grades; unknown only if all are."""
    return max((Grade(grade) for grade in grades), key=SEVERITY.index, default=Grade.UNKNOWN)


def _limit(row: dict[str, str], name: str, default: float) -> float:
    text = (row.get(name) or "").strip()
    if not text:
        return default
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            "table of grades has a limit that is not a number", value=f"{row['key']}, {row['band']}: {name} = {text!r}"
        ) from error
