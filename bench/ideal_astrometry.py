"""The error that an ideal Gaussian process with the true covariance of the turbulence reaches on the same stars."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import map_coordinates, spline_filter

from imaging.simulation.atmosphere import GRID, GRID_STEP_DEG, potential_spectrum
from imaging.simulation.exposures import TurbulenceTruth

FloatArray = NDArray[np.float64]

OFFSET_MAS = 1000.0
"""Prior of each CCD's unknown offset per axis."""


def true_covariance(truth: TurbulenceTruth, first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the covariance of the true displacements at positions, mas^2.

    Parameters
    ----------
    truth
        Turbulence of the exposure.
    first, second
        (n, 2) and (m, 2) standard coordinates, degrees.

    Returns
    -------
    covariance
        (2n, 2m): the displacements to the east of all positions, then those to the north.
    """
    kx, ky, amplitude = potential_spectrum(truth)
    power = amplitude**2
    grids = {
        name: np.fft.ifft2(product * power).real
        for name, product in (("ee", kx * kx), ("en", kx * ky), ("nn", ky * ky))
    }
    scale = truth.rms_mas**2 / (0.5 * (grids["ee"][0, 0] + grids["nn"][0, 0]))
    apart = (first[:, None] - second[None, :]) / GRID_STEP_DEG
    place = np.stack([apart[..., 1], apart[..., 0]]) % GRID
    ee, en, nn = (
        map_coordinates(spline_filter(scale * grid, mode="grid-wrap"), place, mode="grid-wrap", prefilter=False)
        for grid in grids.values()
    )
    return np.asarray(np.block([[ee, en], [en, nn]]))


def ideal_errors_mas(
    truth: TurbulenceTruth,
    stars: FloatArray,
    ccd: NDArray[np.int64],
    error_mas: FloatArray,
    wanted: FloatArray,
    wanted_ccd: NDArray[np.int64],
) -> FloatArray:
    """Return the (m,) rms errors per axis of the best linear prediction of the displacements.

    The stars' noise and the covariance are known, the offsets of the CCDs are not.

    Parameters
    ----------
    truth
        Turbulence of the exposure.
    stars, wanted
        (n, 2) and (m, 2) standard coordinates of the reference stars and of the predictions, degrees.
    ccd, wanted_ccd
        Their CCDs.
    error_mas
        (n, 2) errors of the stars to the east and north.
    """

    def prior(places: FloatArray, numbers: NDArray[np.int64]) -> FloatArray:
        same = OFFSET_MAS**2 * (numbers[:, None] == ccd[None, :])
        return true_covariance(truth, places, stars) + np.kron(np.eye(2), same)

    factor = cho_factor(prior(stars, ccd) + np.diag(error_mas.T.ravel() ** 2), lower=True)
    towards = prior(wanted, wanted_ccd)
    explained = np.sum(towards * cho_solve(factor, towards.T).T, axis=1)
    total = np.diag(true_covariance(truth, wanted[:1], wanted[:1])).repeat(len(wanted)) + OFFSET_MAS**2
    return np.asarray(np.sqrt(np.maximum(total - explained, 0.0).reshape(2, -1).mean(axis=0)))
