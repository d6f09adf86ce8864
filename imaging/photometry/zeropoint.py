"""Compute the zero point of one CCD from its matched stars."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.photometry.settings import PhotometrySettings
from imaging.tables import column

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CcdZeropoint:
    """Zero point from a CCD's own stars.

    Attributes
    ----------
    zeropoint_mag
        AB magnitude of a source of one electron; None if there are too few stars.
    zeropoint_error_mag
        Standard error of the zero point, floor included; None if there are too few stars.
    scatter_mag
        Weighted rms of the stars about the zero point; None if there are too few stars.
    n_matched, n_used
        Numbers of matched stars and of stars used.
    """

    zeropoint_mag: float | None
    zeropoint_error_mag: float | None
    scatter_mag: float | None
    n_matched: int
    n_used: int


def ccd_zeropoint(matches: pa.Table, settings: PhotometrySettings) -> tuple[CcdZeropoint, NDArray[np.bool_]]:
    """Average the stars' zero points.

    Inverse-variance weights with an intrinsic scatter that makes the reduced chi-square one, clipped first about the
    weighted median, then about the mean.

    Parameters
    ----------
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`.
    settings
        Clipping and limits.

    Returns
    -------
    zeropoint
        The CCD's own zero point.
    used
        (n,) bool, matches used.
    """
    used = np.asarray(column(matches, "used"), dtype=bool).copy()
    values = column(matches, "zeropoint_mag").astype(float)
    errors = column(matches, "zeropoint_error_mag").astype(float)
    n_matched = matches.num_rows
    none = CcdZeropoint(None, None, None, n_matched, int(used.sum()))
    if used.sum() < settings.minimum_stars:
        return none, used
    candidates = used.copy()
    centre = float(np.median(values[used]))
    for _ in range(20):
        intrinsic = intrinsic_scatter(values[used] - centre, errors[used])
        total = np.hypot(errors, intrinsic)
        new = candidates & (np.abs(values - centre) < settings.clip_sigma * total)
        if new.sum() < settings.minimum_stars:
            return none, used
        weight = 1.0 / total[new] ** 2
        new_centre = float(np.average(values[new], weights=weight))
        settled = np.array_equal(new, used) and abs(new_centre - centre) < 1e-6
        used, centre = new, new_centre
        if settled:
            break
    standard = 1.0 / np.sqrt(weight.sum())
    scatter = float(np.sqrt(np.average((values[used] - centre) ** 2, weights=weight)))
    error = float(np.hypot(standard, settings.error_floor_mag))
    if error > settings.maximum_error_mag:
        return none, used
    return CcdZeropoint(centre, error, scatter, n_matched, int(used.sum())), used


def intrinsic_scatter(deviations: FloatArray, errors: FloatArray, largest: float = 1.0) -> float:
    """Return the scatter that, added to the errors, makes the chi-square of deviations one per degree of freedom.

    Parameters
    ----------
    deviations
        (n,) deviations from the mean.
    errors
        (n,) known errors.
    largest
        Upper limit of the search.
    """
    freedom = max(deviations.size - 1, 1)

    def excess(scatter: float) -> float:
        return float((deviations**2 / (errors**2 + scatter**2)).sum()) - freedom

    if deviations.size < 2 or excess(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, largest
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return 0.5 * (low + high)
