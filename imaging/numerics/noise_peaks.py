"""How often the noise of a filtered image exceeds a significance."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, lambertw

FloatArray = NDArray[np.float64]

SIGMA = 5.0
"""Significance above which the peaks of an image are stated."""


def curvature_of(psf: NDArray[np.floating]) -> float:
    """Return the curvature of the correlation of white noise that a PSF has filtered, pixel^-2.

    It is -2 ln of the correlation of neighbours, the geometric mean of both axes; 4 ln 2 / FWHM^2 for a Gaussian PSF, a
    quarter less for one with wings.

    Parameters
    ----------
    psf
        (k, k) PSF.
    """
    neighbours = np.array([np.sum(psf[1:] * psf[:-1]), np.sum(psf[:, 1:] * psf[:, :-1])]) / np.sum(psf**2)
    return float(np.sqrt(np.prod(-2.0 * np.log(neighbours))))


def noise_peaks(n_pixels: float, curvature: float, threshold: float = SIGMA) -> float:
    """Return the expected number of local maxima of noise, of one sign, in a filtered image.

    A Gaussian field with a correlation of curvature c has n c (2 pi)^(-3/2) t exp(-t^2 / 2) maxima above t sigma (Adler
    1981, The Geometry of Random Fields, chapter 6). The highest pixel lies at x, y of a maximum, both within half a
    pixel, and below it by t c (x^2 + y^2) / 2, so that the number of pixels is exp(-t^2 c (x^2 + y^2) / 2) of it.

    Parameters
    ----------
    n_pixels
        Number of searched pixels.
    curvature
        That of :func:`curvature_of`.
    threshold
        Least significance of the highest pixel.
    """
    maxima = n_pixels * curvature * (2.0 * np.pi) ** -1.5 * threshold * np.exp(-0.5 * threshold**2)
    steepness = threshold * np.sqrt(curvature)
    return float(maxima * (np.sqrt(2.0 * np.pi) / steepness * erf(steepness / np.sqrt(8.0))) ** 2)


def exceeded(peaks: FloatArray, limit: float) -> FloatArray:
    """Return (n,) the signal to noise that peaks of noise exceed ``limit`` times per image, by t exp(-t^2 / 2).

    Parameters
    ----------
    peaks
        (n,) expected peaks above :data:`SIGMA`, :func:`noise_peaks`.
    limit
        Expected number. Where it exceeds all maxima of an image, the result is near 1.
    """
    ratio = limit / np.maximum(peaks, 1e-9)
    height = np.minimum(ratio * SIGMA * np.exp(-0.5 * SIGMA**2), 0.6)  # below its maximum, exp(-1/2)
    return np.sqrt(-np.real(lambertw(-(height**2), k=-1)))
