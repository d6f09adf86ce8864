"""Simulated point-spread function: a Moffat profile with an aureole, as a mixture of Gaussians.

With a mixture, convolution with a galaxy, also a mixture (Hogg and Lang 2013), is exact: covariances add. The function
includes the pixel response, so that pixel values are its values at pixel centres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.psf.model import REFERENCE_APERTURE_PIXELS
from imaging.simulation.exposures import SimulatedExposure, quadratic
from imaging.simulation.optics import focal_plane
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

MOFFAT_SIGMA = np.array([0.26248, 0.35785, 0.48633, 0.67311, 0.96958, 1.50639, 2.74802])
MOFFAT_WEIGHT = np.array([0.029428, 0.200450, 0.338667, 0.265588, 0.123932, 0.036199, 0.005736])
"""Widths in units of the full width at half maximum, and weights, of a Moffat profile of exponent 3: a least-squares
fit, within 1.4e-4 of the peak everywhere and within a fifth of the profile out to 8 widths."""

AUREOLE_SIGMA_ARCSEC = np.array([4.0, 12.0])
AUREOLE_WEIGHT = np.array([0.006, 0.004])
"""Aureole by dust and scattering, independent of the seeing (the shape after King 1971)."""

N_CORE, N_COMPONENTS = len(MOFFAT_SIGMA), len(MOFFAT_SIGMA) + len(AUREOLE_SIGMA_ARCSEC)

CORE_WEIGHT = MOFFAT_WEIGHT / MOFFAT_WEIGHT.sum() * (1.0 - AUREOLE_WEIGHT.sum())
WEIGHTS = np.concatenate([CORE_WEIGHT, AUREOLE_WEIGHT])


@dataclass(frozen=True, eq=False)
class PsfMixture:
    """The point-spread functions at n positions.

    Attributes
    ----------
    weight
        (9,) fraction of the flux in each component.
    covariance
        (n, 9, 3) xx, xy, yy in square pixels.
    offset
        (n, 9, 2) displacement of each component from the source's position, x and y in pixels; its weighted mean is
        zero.
    """

    weight: FloatArray
    covariance: FloatArray
    offset: FloatArray

    def aperture_fraction(self, diameter_pixels: float = REFERENCE_APERTURE_PIXELS) -> FloatArray:
        """Return the fraction of the flux inside a circular aperture: (n,); the displacements are neglected."""
        xx, xy, yy = np.moveaxis(self.covariance, -1, 0)
        determinant = xx * yy - xy**2
        total = np.zeros(xx.shape)
        angles = (np.arange(12) + 0.5) * np.pi / 12
        for c, s in zip(np.cos(angles), np.sin(angles), strict=True):
            a = (yy * c * c - 2 * xy * c * s + xx * s * s) / determinant
            total += -np.expm1(-0.5 * a * (diameter_pixels / 2) ** 2) / (a * np.sqrt(determinant))
        return (total / len(angles)) @ self.weight

    def evaluate(self, index: int, dx: ArrayLike, dy: ArrayLike) -> FloatArray:
        """Return the value of one function at offsets (pixels) from the source, per pixel for unit flux."""
        dx, dy = np.asarray(dx, dtype=float), np.asarray(dy, dtype=float)
        value = np.zeros(np.broadcast(dx, dy).shape)
        for w, (xx, xy, yy), (ox, oy) in zip(self.weight, self.covariance[index], self.offset[index], strict=True):
            determinant = xx * yy - xy**2
            u, v = dx - ox, dy - oy
            exponent = (yy * u * u - 2 * xy * u * v + xx * v * v) / determinant
            value += w / (2 * np.pi * np.sqrt(determinant)) * np.exp(-0.5 * exponent)
        return value


def true_psf(exposure: SimulatedExposure, ccdnum: int, x: ArrayLike, y: ArrayLike) -> PsfMixture:
    """Return the point-spread function at positions of a CCD.

    Parameters
    ----------
    exposure
        The exposure.
    ccdnum
        CCD.
    x, y
        (n,) pixels of the trimmed CCD, 0-based.
    """
    truth = exposure.psf
    u, v = focal_plane(ccdnum, np.atleast_1d(x), np.atleast_1d(y))
    local = random_stream(exposure.seed, "psf of the ccd", exposure.expnum, ccdnum).normal(0.0, truth.ccd_scatter, 3)
    width = exposure.fwhm_pixels * (1.0 + quadratic(truth.size, u, v) + local[0])
    e1, e2 = quadratic(truth.e1, u, v) + local[1], quadratic(truth.e2, u, v) + local[2]
    norm = 1.0 / np.sqrt(1.0 - e1**2 - e2**2)
    shape = np.stack([(1.0 + e1) * norm, e2 * norm, (1.0 - e1) * norm], axis=-1)
    core = (width[:, None] * MOFFAT_SIGMA) ** 2
    covariance = np.zeros((len(u), N_COMPONENTS, 3))
    covariance[:, :N_CORE] = core[:, :, None] * shape[:, None, :]
    covariance[:, N_CORE:, (0, 2)] = ((AUREOLE_SIGMA_ARCSEC / PIXEL_SCALE_ARCSEC) ** 2)[None, :, None]
    offset = np.zeros((len(u), N_COMPONENTS, 2))
    lever = MOFFAT_SIGMA - np.average(MOFFAT_SIGMA, weights=CORE_WEIGHT)
    offset[:, :N_CORE, 0] = truth.coma[0] * (u * width)[:, None] * lever
    offset[:, :N_CORE, 1] = truth.coma[1] * (v * width)[:, None] * lever
    return PsfMixture(WEIGHTS, covariance, offset)
