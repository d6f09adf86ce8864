"""Detection efficiency: fraction of recovered fakes by magnitude, signal to noise and host surface brightness."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erf

from imaging.difference.fakes import Fakes
from imaging.schemas.difference import EFFICIENCY
from imaging.tables import column, make_table

FloatArray = NDArray[np.float64]

MIN_FAKES = 20

HOST_EDGES = (21.0, 22.5, 24.0)
"""Bin edges of the host surface brightness of fakes, mag/arcsec2."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A fitted efficiency curve: a maximum times a Gaussian integral.

    Attributes
    ----------
    half
        Magnitude or signal to noise at which half of the maximum is reached.
    half_error
        Standard error of ``half``.
    width
        Standard deviation of the Gaussian.
    efficiency_max
        Efficiency at the bright end.
    n
        Number of fakes.
    """

    half: float
    half_error: float
    width: float
    efficiency_max: float
    n: int


@dataclass(frozen=True, eq=False)
class Efficiency:
    """Efficiency of one search.

    Attributes
    ----------
    edges
        (k + 1,) edges of the magnitude bins.
    n_injected, n_detected, n_passed
        (k,) fakes per bin.
    mag
        Curve of the fakes that passed all cuts, against magnitude.
    snr
        Curve of the fakes detected on good pixels, against expected signal to noise.
    """

    edges: FloatArray
    n_injected: NDArray[np.int64]
    n_detected: NDArray[np.int64]
    n_passed: NDArray[np.int64]
    mag: Curve
    snr: Curve

    def share_passed(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the fraction that passed per bin, with the bounds of its 68 % (Wilson) interval."""
        return wilson_interval(self.n_passed, self.n_injected)


def measure_efficiency(fakes: Fakes, bin_mag: float) -> Efficiency:
    """Count fakes per magnitude and fit the curves.

    Parameters
    ----------
    fakes
        Fakes with their detections.
    bin_mag
        Width of the bins, magnitudes.
    """
    low, high = math.floor(fakes.mag.min() / bin_mag), math.ceil(fakes.mag.max() / bin_mag)
    edges = np.arange(low, high + 1) * bin_mag
    injected, detected, passed = (
        np.histogram(fakes.mag[chosen], edges)[0]
        for chosen in (np.ones(len(fakes), dtype=bool), fakes.detected, fakes.passed)
    )
    good = fakes.on_good_pixels & np.isfinite(fakes.snr_expected)
    return Efficiency(
        edges,
        injected,
        detected,
        passed,
        mag=fit_curve(-fakes.mag, fakes.passed, width=None, sign=-1.0),
        snr=fit_curve(fakes.snr_expected[good], fakes.detected[good], width=1.0, sign=1.0),
    )


def efficiency_by_place(fakes: pa.Table, bin_mag: float) -> pa.Table:
    """Return the efficiency against magnitude in blank sky and on hosts by surface brightness.

    Parameters
    ----------
    fakes
        Rows of :data:`imaging.schemas.difference.FAKES`, of one CCD or of many.
    bin_mag
        Width of the bins, magnitudes.

    Returns
    -------
    efficiency
        Table EFFICIENCY: one row per place and non-empty magnitude bin.
    """
    mag, place = column(fakes, "mag").astype(float), np.array(_places(fakes), dtype=object)
    detected, passed = (column(fakes, name).astype(bool) for name in ("detected", "passed"))
    number = np.floor(mag / bin_mag).astype(int)
    rows: list[dict[str, object]] = []
    for name in sorted(set(place)):
        here = place == name
        curve = fit_curve(-mag[here], passed[here], width=None, sign=-1.0)
        known = math.isfinite(curve.half)
        half = {"m50_mag": curve.half if known else None, "m50_error_mag": curve.half_error if known else None}
        for k in np.unique(number[here]).tolist():
            inside = here & (number == k)
            injected, found = int(inside.sum()), int(passed[inside].sum())
            bounds = wilson_interval(np.array([found]), np.array([injected]))
            share = dict(zip(("share_passed", "share_low", "share_high"), (float(b[0]) for b in bounds), strict=True))
            counts = {"n_injected": injected, "n_detected": int(detected[inside].sum()), "n_passed": found}
            edges = {"mag_low": k * bin_mag, "mag_high": (k + 1) * bin_mag}
            rows.append({"place": name} | edges | counts | share | half)
    return make_table({name: [row[name] for row in rows] for name in EFFICIENCY.names}, EFFICIENCY)


def _places(fakes: pa.Table) -> list[str]:
    """Name the place of each fake by the surface brightness of its host."""
    words = [f"host {low:g} to {high:g}" for low, high in itertools.pairwise(HOST_EDGES)]
    words = [f"host brighter than {HOST_EDGES[0]:g}", *words, f"host fainter than {HOST_EDGES[-1]:g}"]
    surface = fakes.column("host_surface_brightness").to_pylist()
    return ["blank sky" if v is None else words[int(np.searchsorted(HOST_EDGES, v))] for v in surface]


def fit_curve(brightness: FloatArray, found: NDArray[np.bool_], *, width: float | None, sign: float = 1.0) -> Curve:
    """Fit the efficiency by maximum likelihood.

    Parameters
    ----------
    brightness
        (n,) a quantity that increases with the detection probability.
    found
        (n,) whether detected.
    width
        Width of the transition if known (one for a significance), else None.
    sign
        Factor from the brightness at half efficiency to the reported quantity.

    Returns
    -------
    curve
        NaN if there are too few fakes, or if all or none were detected.
    """
    n = found.size
    if n < MIN_FAKES or found.all() or not found.any():
        nan = float("nan")
        return Curve(nan, nan, nan, float(found.mean()) if n else nan, n)

    def negative_log_likelihood(parameters: FloatArray) -> float:
        half, highest = parameters[0], 1.0 / (1.0 + math.exp(-parameters[1]))
        sigma = width if width is not None else math.exp(parameters[2])
        p = np.clip(highest * 0.5 * (1.0 + erf((brightness - half) / (math.sqrt(2.0) * sigma))), 1e-6, 1 - 1e-6)
        prior = 0.5 * ((parameters[2] - math.log(0.25)) / 0.7) ** 2 if width is None else 0.0
        return -float(np.sum(np.where(found, np.log(p), np.log1p(-p)))) + prior + 0.01 * (parameters[1] - 4.0) ** 2

    order = np.sort(brightness[found])
    start = np.array([order[min(int(0.1 * order.size), order.size - 1)], 4.0, math.log(0.25)])
    size = 3 if width is None else 2
    best = minimize(negative_log_likelihood, start[:size], method="Nelder-Mead", options={"maxiter": 2000})
    half, highest = float(best.x[0]), 1.0 / (1.0 + math.exp(-best.x[1]))
    sigma = width if width is not None else math.exp(float(best.x[2]))
    return Curve(sign * half, _error(negative_log_likelihood, best.x), sigma, highest, n)


def _error(function: Callable[[FloatArray], float], solution: FloatArray) -> float:
    """Return the standard error of the first parameter from the curvature of the likelihood."""
    n = solution.size
    steps = 0.02 * np.maximum(np.abs(solution), 0.5)
    hessian = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            total = 0.0
            for sa, sb in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                point = solution.copy()
                point[a] += sa * steps[a]
                point[b] += sb * steps[b]
                total += sa * sb * function(point)
            hessian[a, b] = total / (4 * steps[a] * steps[b])
    variance = float(np.linalg.pinv(hessian)[0, 0])
    return math.sqrt(variance) if variance > 0 else float("nan")


def wilson_interval(
    successes: NDArray[np.int64], trials: NDArray[np.int64], z: float = 1.0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return fractions and the bounds of their binomial intervals (Wilson 1927); NaN without trials."""
    n = np.where(trials > 0, trials, np.nan).astype(float)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
