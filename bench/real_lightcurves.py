"""Light-curve classes of real contaminants, by the number of their points: none is a kilonova.

The folder with the photometry is beside a developer's checkout and not part of the project. ``python -m
bench.real_lightcurves [--json]`` prints the table.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.real_stamps import REAL_STAMPS
from bench.report import Row, at_most, main
from imaging.candidates.classify import Classes, classify
from imaging.candidates.lightcurve import lightcurve_likelihood, marginal_kilonova
from imaging.candidates.settings import LightcurveSettings, RankSettings
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.tables import make_table

MERGER_MJD = 60209.085936
"""S230922g, a merger of black holes."""

MAPS = ((150.0, 100.0), (200.0, 40.0))
"""Distance and its error in the sky map, Mpc: the default, and about that of the event's neighbours."""

Point = tuple[float, str, float, float]
"""MJD, band, flux and error in nanojansky."""


def real_curves(folder: Path) -> Iterator[list[Point]]:
    """Yield the photometry of each candidate after the merger, in order of time."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as z:
            points = zip(*(z[name].tolist() for name in ("mjd", "band", "flux_njy", "flux_error_njy")), strict=True)
        yield sorted(p for p in points if np.isfinite(p[2]) and p[0] > MERGER_MJD)


def classes_of(curves: Sequence[Sequence[Point]], mjd_event: float, distance_mpc: float, error_mpc: float) -> Classes:
    """Classify light curves with the default settings, at one distance of the sky map."""
    rows = [(f"C{k}", *point) for k, curve in enumerate(curves) for point in curve]
    n = len(rows)
    name, mjd, band, flux, error = ([row[k] for row in rows] for k in range(5))
    unknown = pa.nulls(n, pa.float32())
    columns: dict[str, Any] = {
        "candidate_id": name,
        "expnum": np.arange(n),
        "band": band,
        "night": np.zeros(n),
        "ccd": np.ones(n),
    }
    columns |= {"mjd": mjd, "flux": flux, "flux_error": error, "snr": np.array(flux) / np.array(error)}
    columns |= {"mag": unknown, "mag_error": unknown, "limit_mag": unknown, "masked": np.zeros(n, bool)}
    settings = LightcurveSettings()
    ids = pa.array([f"C{k}" for k in range(len(curves))])
    likelihood = lightcurve_likelihood(make_table(columns, FORCED_PHOTOMETRY), ids, mjd_event, settings)
    spread = np.hypot(5.0 / np.log(10.0) * error_mpc / distance_mpc, settings.luminosity_scatter_mag)
    modulus = 5.0 * np.log10(distance_mpc) + 25.0
    kilonova = marginal_kilonova(likelihood, np.full(len(curves), modulus), np.full(len(curves), spread))
    return classify(kilonova, likelihood, RankSettings())


def measure(quick: bool) -> Sequence[Row]:
    """Count the contaminants called kilonova with 1 to 6 points."""
    del quick
    if not REAL_STAMPS.is_dir():
        return [Row("real light curves: absent", None, "")]
    curves, rows = list(real_curves(REAL_STAMPS)), []
    for n in range(1, 7):
        for distance, error in MAPS:
            name = classes_of([curve[:n] for curve in curves], MERGER_MJD, distance, error).name
            about = f"real contaminants, first {n} points, map {distance:.0f} +- {error:.0f} Mpc"
            rows.append(at_most(f"{about}: called kilonova", float((name == "kilonova").sum()), "", 1.0, n=len(curves)))
            rows.append(Row(f"{about}: undecided", float((name == "undecided").sum()), ""))
    return rows


if __name__ == "__main__":
    main("Real light curves", measure)
