"""Interpolate astrometric residuals of atmospheric turbulence with a Gaussian process.

One Gaussian process per axis with the covariance ``a^2 exp(-(r/l)^(5/3) / 2)``, the form of a turbulent field at
separations below its outer scale, as Fortino, Bernstein, Bernardinelli et al. (2021, AJ 162, 106) do for DECam. The
turbulence is correlated over arcminutes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist, pdist

from imaging.numerics.robust import clipped

FloatArray = NDArray[np.float64]

EXPONENT = 5.0 / 3.0

LENGTHS_ARCMIN = np.geomspace(0.5, 8.0, 13)
"""Correlation lengths tried."""

MAXIMUM_STARS = 1500
"""Largest number of stars in one interpolation; those of smallest error are used."""


@dataclass(frozen=True, slots=True)
class Turbulence:
    """Statistics of the field.

    Attributes
    ----------
    amplitude_mas
        Standard deviation per axis.
    length_arcmin
        Correlation length.
    """

    amplitude_mas: float
    length_arcmin: float

    def covariance(self, separation_arcmin: FloatArray) -> FloatArray:
        """Return the covariance at separations, mas^2."""
        return self.amplitude_mas**2 * np.exp(-0.5 * (separation_arcmin / self.length_arcmin) ** EXPONENT)


def measure_turbulence(places: list[FloatArray], residuals: list[FloatArray]) -> Turbulence:
    """Estimate amplitude and correlation length from the products of residuals of pairs of stars.

    Noise is not correlated between stars, so the products measure the turbulence alone. The best of a list of lengths
    is chosen, each with its best-fitting amplitude.

    Parameters
    ----------
    places
        Per CCD, (n, 2) positions of the stars, arcminutes.
    residuals
        Per CCD, (n, 2) residuals, mas.
    """
    edges = np.concatenate([np.arange(0.0, 4.0, 0.25), np.arange(4.0, 10.1, 1.0)])
    products, counts = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for place, residual in zip(places, residuals, strict=True):
        if len(place) < 10:
            continue
        keep = clipped(residual[:, 0], 4.0) & clipped(residual[:, 1], 4.0)
        separation = pdist(place[keep])
        first, second = np.triu_indices(int(keep.sum()), k=1)
        values = (residual[keep][first] * residual[keep][second]).mean(axis=1)
        products += np.histogram(separation, edges, weights=values)[0]
        counts += np.histogram(separation, edges)[0]
    filled = counts > 0
    if not filled.any():
        return Turbulence(0.0, 1.0)
    middle = 0.5 * (edges[1:] + edges[:-1])[filled]
    measured, weight = products[filled] / counts[filled], counts[filled]
    best = (0.0, 0.0, 1.0)
    for length in LENGTHS_ARCMIN:
        shape = np.exp(-0.5 * (middle / length) ** EXPONENT)
        power = float((weight * measured * shape).sum() / (weight * shape**2).sum())
        explained = power * float((weight * measured * shape).sum())
        if power > 0.0 and explained > best[0]:
            best = (explained, power, float(length))
    return Turbulence(float(np.sqrt(best[1])), best[2])


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Turbulence predicted at given positions.

    Attributes
    ----------
    values
        (m, 2) predicted displacement, mas.
    left_out
        (n, 2) residual of each star after the prediction from all others, mas.
    """

    values: FloatArray
    left_out: FloatArray


def interpolate(
    turbulence: Turbulence, place: FloatArray, residual: FloatArray, error_mas: FloatArray, wanted: FloatArray
) -> Interpolation:
    """Predict the turbulence at given positions from the residuals of stars.

    Parameters
    ----------
    turbulence
        Statistics of the field.
    place, wanted
        (n, 2) and (m, 2) positions of the stars and of the predictions, arcminutes.
    residual
        (n, 2) residuals of the stars, mas.
    error_mas
        (n, 2) their errors.
    """
    values, left_out = np.zeros((len(wanted), 2)), residual.copy()
    if turbulence.amplitude_mas == 0.0 or len(place) == 0:
        return Interpolation(values, left_out)
    best = np.argsort(error_mas.sum(axis=1), kind="stable")[:MAXIMUM_STARS]
    between = turbulence.covariance(cdist(place[best], place[best]))
    towards = turbulence.covariance(cdist(wanted, place[best]))
    for axis in range(2):
        factor = cho_factor(between + np.diag(error_mas[best, axis] ** 2), lower=True)
        inverse = cho_solve(factor, np.eye(len(best)))
        weights = inverse @ residual[best, axis]
        values[:, axis] = towards @ weights
        left_out[best, axis] = weights / np.diag(inverse)
    return Interpolation(values, left_out)
