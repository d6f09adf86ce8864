"""Convert cosmic rays and streaks to and from Arrow tables."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from imaging.identity import ExposureId
from imaging.masks.cosmic_rays import CosmicRays
from imaging.masks.streak_model import Streak
from imaging.schemas.masks import COSMIC_RAYS, STREAKS

_STREAK_FIELDS = tuple(field.name for field in fields(Streak))


def cosmic_ray_table(rays: CosmicRays, exposure: ExposureId, ccdnum: int) -> pa.Table:
    """Return the cosmic rays of a CCD as a table of schema ``COSMIC_RAYS``."""
    columns = _identity(exposure, ccdnum, rays.x.size)
    columns |= {"x": rays.x, "y": rays.y, "n_pixels": rays.n_pixels, "flux": rays.flux}
    return _table(columns, COSMIC_RAYS)


def streak_table(streaks: Iterable[Streak], exposure: ExposureId, ccdnum: int) -> pa.Table:
    """Return the streaks of a CCD, found or predicted, as a table of schema ``STREAKS``."""
    items = list(streaks)
    columns = _identity(exposure, ccdnum, len(items))
    columns |= {name: np.array([getattr(s, name) for s in items], dtype=float) for name in _STREAK_FIELDS}
    columns["predicted"] = [s.significance == 0.0 for s in items]
    return _table(columns, STREAKS)


def streaks_from_table(table: pa.Table) -> dict[int, list[Streak]]:
    """Return streaks from a table: CCD number to the streaks found on it, without predicted ones."""
    found: dict[int, list[Streak]] = {}
    for row in table.to_pylist():
        if not row["predicted"]:
            found.setdefault(row["ccd"], []).append(Streak(**{name: row[name] for name in _STREAK_FIELDS}))
    return found


def _identity(exposure: ExposureId, ccdnum: int, n: int) -> dict[str, Any]:
    return {
        "expnum": np.full(n, exposure.expnum),
        "band": [exposure.band] * n,
        "night": np.full(n, exposure.night),
        "ccd": np.full(n, ccdnum),
    }


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[field.name]).cast(field.type, safe=False) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
