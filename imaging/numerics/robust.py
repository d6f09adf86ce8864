"""Robust statistics: sigma clipping, median absolute deviation, weighted median."""

from collections.abc import Sequence
from math import erf, exp, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAD_TO_SIGMA = 1.482602218505602
"""Gaussian sigma over median absolute deviation."""


def mad_sigma(values: ArrayLike) -> float:
    """Return 1.4826 times the median absolute deviation; NaN for an empty sample."""
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(array - np.median(array))))


def excess_scatter(values: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """Return the robust standard deviation of values beyond their known errors; zero if the errors explain it."""
    if values.size < 3:
        return 0.0
    low, high = 0.0, 2.0 * mad_sigma(values) + 1e-12
    if mad_sigma(values / np.maximum(errors, 1e-12)) <= 1.0:
        return 0.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if mad_sigma(values / np.sqrt(errors**2 + middle**2)) > 1.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def clipped(values: ArrayLike, n_sigma: float = 3.0, max_iterations: int = 10) -> NDArray[np.bool_]:
    """Return which values survive iterative clipping about the median.

    The width is the median absolute deviation in the first iteration, then the standard deviation corrected for the
    truncation of a Gaussian.

    Parameters
    ----------
    values
        (n,) sample; non-finite values are rejected.
    n_sigma
        Clipping limit, sigma.
    max_iterations
        Largest number of iterations.

    Returns
    -------
    keep
        (n,) bool.
    """
    array = np.asarray(values, dtype=float)
    keep = np.isfinite(array)
    if not keep.any():
        return keep
    centre, sigma = float(np.median(array[keep])), mad_sigma(array[keep])
    for _ in range(max_iterations):
        if sigma == 0.0:
            break
        new = np.isfinite(array) & (np.abs(array - centre) <= n_sigma * sigma)
        if np.array_equal(new, keep):
            break
        keep = new
        centre, sigma = float(np.median(array[keep])), float(array[keep].std()) / _truncation(n_sigma)
    return keep


def clipped_mean(values: ArrayLike, n_sigma: float = 3.0) -> tuple[float, float, int]:
    """Return mean, standard deviation and number of the values that survive clipping (NaN, NaN, 0 for none)."""
    array = np.asarray(values, dtype=float)
    kept = array[clipped(array, n_sigma)]
    if kept.size == 0:
        return float("nan"), float("nan"), 0
    return float(kept.mean()), float(kept.std() / _truncation(n_sigma)), int(kept.size)


def weighted_median(values: ArrayLike, weights: ArrayLike) -> float:
    """Return the weighted median; NaN for an empty sample."""
    array, weight = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    return float(np.quantile(array, 0.5, weights=weight, method="inverted_cdf")) if array.size else float("nan")


def finite_median(values: Sequence[float | None]) -> float:
    """Return the median of the finite values that are not None; NaN if there are none."""
    known = np.array([value for value in values if value is not None], dtype=float)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size else float("nan")


def _truncation(n_sigma: float) -> float:
    """Return the standard deviation of a unit Gaussian truncated at plus and minus ``n_sigma``."""
    inside = erf(n_sigma / sqrt(2.0))
    return sqrt(max(1.0 - 2.0 * n_sigma * exp(-0.5 * n_sigma**2) / sqrt(2.0 * pi) / inside, 1e-6))
