"""The width of the stars against the charge at their peak: what the brighter-fatter correction leaves.

Collected charge repels further charge, so that a bright star is wider than a faint one, in proportion to its peak
(Antilogus et al. 2014, JINST 9, C03048). The correction by kernels takes that out; a slope that remains shows a wrong
or missing kernel, or a wrong linearity.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from imaging.numerics.robust import mad_sigma

FloatArray = NDArray[np.float64]

FEWEST_STARS = 10
"""Fewest stars beyond the number of terms from which a slope and its error are measured."""

CLIP_SIGMA = 4.0
"""Clipping limit of stars about the fit."""

CLIPPINGS = 3
"""Number of fits, with clipping between them."""


def width_by_peak(
    matrix: FloatArray, vector: FloatArray, local: FloatArray, change: FloatArray, terms: FloatArray, whole: FloatArray
) -> tuple[float, float]:
    """Fit the change of the width per electron at the peak together with all coefficients of a PSF fit.

    The residuals of the stars against the fitted PSF alone show too small a trend: bright stars decide the wings of the
    PSF, stars of all fluxes its core, so that the PSF takes up a part.

    Parameters
    ----------
    matrix, vector
        (n, n_free, n_free), (n, n_free) normal equations of each star.
    local
        (n, n_free) free coefficients of the fitted PSF at each star.
    change
        (n, n_free) change of them for a trend of one: the electrons at the peak times the derivative by the width.
    terms
        (n, n_terms) terms of the PSF's variation over the CCD.
    whole
        (n_terms n_free, n_terms n_free) matrix of the fit, with the prior.

    Returns
    -------
    trend, error
        As of :func:`trend_of_stars`.
    """
    response = np.einsum("nij,nj->ni", matrix, change)
    absorbed = cho_solve(cho_factor(whole, lower=True), (terms.T @ response).ravel())
    tested = change - terms @ absorbed.reshape(terms.shape[1], -1)
    along = np.einsum("nij,nj->ni", matrix, tested)
    return trend_of_stars(np.sum(tested * vector - along * local, axis=1), np.sum(along * tested, axis=1))


def trend_of_stars(score: FloatArray, information: FloatArray) -> tuple[float, float]:
    """Return the ratio of sums over stars, without outliers, and its error from the scatter of the stars.

    Parameters
    ----------
    score
        (n,) derivatives of the log-likelihood by the trend, freed from those by all other parameters.
    information
        (n,) what they are for a trend of one, and their variances by the stated errors.

    Returns
    -------
    trend
        NaN with fewer than ten stars, or stars that cannot show a trend.
    error
        Standard error (MacKinnon and White 1985, J. Econometrics 29, 305: HC3); the stated errors do not enter.
    """
    use = possible = information > 1e-9 * information.max(initial=0.0)
    trend = error = float("nan")
    for _ in range(CLIPPINGS):
        total = float(information[use].sum())
        if use.sum() < FEWEST_STARS or total <= 0.0:
            return float("nan"), float("nan")
        trend = float(score[use].sum()) / total
        residual = score - trend * information
        leverage = np.minimum(information / total, 0.5)
        error = float(np.sqrt(np.sum((residual / (1.0 - leverage))[use] ** 2))) / total
        scaled = residual / np.sqrt(np.where(possible, information, np.inf))
        use = possible & (np.abs(scaled) <= CLIP_SIGMA * mad_sigma(scaled[use]))
    return trend, error
