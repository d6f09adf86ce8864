"""Simulated point-spread function: a Moffat profile with an aureole, as a mixture of Gaussians.

With a mixture, convolution with a galaxy, also a mixture (Hogg and Lang 2013), is exact: covariances add. The function
includes the pixel response, so that pixel values are its values at pixel centres.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.chromatic import REFERENCE_COLOUR
from imaging.simulation.exposures import SimulatedExposure, quadratic
from imaging.simulation.optical_psf import (
    MOFFAT_SIGMA,
    MOFFAT_WEIGHT,
    N_SPLIT,
    Spots,
    atmosphere,
    component_weights,
    optics_of,
    round_spikes,
    spike_covariances,
    spots_of,
)
from imaging.simulation.optics import focal_plane
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

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
        (k,) fraction of the flux in each component.
    covariance
        (n, k, 3) xx, xy, yy in square pixels.
    offset
        (n, k, 2) displacement of each component from the source's position, x and y in pixels; its weighted mean is
        zero.
    blurred
        The same with the second moments only of the telescope's rays; None where there are none.
    """

    weight: FloatArray
    covariance: FloatArray
    offset: FloatArray
    blurred: "PsfMixture | None" = None

    def take(self, chosen: NDArray[Any]) -> "PsfMixture":
        """Return the functions of the chosen positions."""
        blurred = None if self.blurred is None else self.blurred.take(chosen)
        return PsfMixture(self.weight, self.covariance[chosen], self.offset[chosen], blurred)

    def aperture_fraction(self, diameter_pixels: float = REFERENCE_APERTURE_PIXELS) -> FloatArray:
        """Return the fraction of the flux inside a circular aperture: (n,).

        The displacements are neglected, except those of the telescope's rays, which :attr:`blurred` contains.
        """
        if self.blurred is not None:
            return self.blurred.aperture_fraction(diameter_pixels)
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


def true_psf(
    exposure: SimulatedExposure, ccdnum: int, x: ArrayLike, y: ArrayLike, g_minus_i: ArrayLike | None = None
) -> PsfMixture:
    """Return the point-spread function at positions of a CCD.

    Parameters
    ----------
    exposure
        The exposure.
    ccdnum
        CCD.
    x, y
        (n,) pixels of the trimmed CCD, 0-based.
    g_minus_i
        (n,) colours of the sources, where the exposure is chromatic; None takes the reference colour.
    """
    u, v, width, shape = _width_and_shape(exposure, ccdnum, x, y)
    if exposure.optics is not None:
        colour = np.broadcast_to(REFERENCE_COLOUR if g_minus_i is None else np.asarray(g_minus_i, dtype=float), u.shape)
        return _physical(exposure, ccdnum, (u, v), width, shape, colour)
    truth = exposure.psf
    core = (width[:, None] * MOFFAT_SIGMA) ** 2
    covariance = np.zeros((len(u), N_COMPONENTS, 3))
    covariance[:, :N_CORE] = core[:, :, None] * shape[:, None, :]
    covariance[:, N_CORE:, (0, 2)] = ((AUREOLE_SIGMA_ARCSEC / PIXEL_SCALE_ARCSEC) ** 2)[None, :, None]
    offset = np.zeros((len(u), N_COMPONENTS, 2))
    lever = MOFFAT_SIGMA - np.average(MOFFAT_SIGMA, weights=CORE_WEIGHT)
    offset[:, :N_CORE, 0] = truth.coma[0] * (u * width)[:, None] * lever
    offset[:, :N_CORE, 1] = truth.coma[1] * (v * width)[:, None] * lever
    return PsfMixture(WEIGHTS, covariance, offset)


def blurred_psf(
    exposure: SimulatedExposure, ccdnum: int, x: ArrayLike, y: ArrayLike, g_minus_i: ArrayLike | None = None
) -> PsfMixture:
    """Return the point-spread function with the second moments only of the telescope's rays: as :func:`true_psf`.

    Its fraction of light in the reference aperture is that of :func:`true_psf`. Without optics it is the same function.
    """
    if exposure.optics is None:
        return true_psf(exposure, ccdnum, x, y)
    u, v, width, shape = _width_and_shape(exposure, ccdnum, x, y)
    colour = np.broadcast_to(REFERENCE_COLOUR if g_minus_i is None else np.asarray(g_minus_i, dtype=float), u.shape)
    return _blurred(exposure, atmosphere(exposure, width, shape, colour), spots_of(exposure.optics, ccdnum, u, v))


def _blurred(exposure: SimulatedExposure, air: FloatArray, spots: Spots) -> PsfMixture:
    weight, spike = component_weights(optics_of(exposure))
    spikes = np.zeros((len(air), len(spike), 3))
    spikes[..., (0, 2)] = round_spikes(exposure)[:, None]
    covariance = np.concatenate([air + spots.covariance()[:, None], spikes], axis=1)
    return PsfMixture(np.concatenate([weight, 2 * spike]), covariance, np.zeros((*covariance.shape[:2], 2)))


def _width_and_shape(
    exposure: SimulatedExposure, ccdnum: int, x: ArrayLike, y: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return positions on the focal plane, full widths at half maximum (pixels) and unit ellipses."""
    truth = exposure.psf
    u, v = focal_plane(ccdnum, np.atleast_1d(x), np.atleast_1d(y))
    local = random_stream(exposure.seed, "psf of the ccd", exposure.expnum, ccdnum).normal(0.0, truth.ccd_scatter, 3)
    width = exposure.fwhm_pixels * (1.0 + quadratic(truth.size, u, v) + local[0])
    e1, e2 = quadratic(truth.e1, u, v) + local[1], quadratic(truth.e2, u, v) + local[2]
    norm = 1.0 / np.sqrt(1.0 - e1**2 - e2**2)
    return u, v, width, np.stack([(1.0 + e1) * norm, e2 * norm, (1.0 - e1) * norm], axis=-1)


def _physical(
    exposure: SimulatedExposure,
    ccdnum: int,
    place: tuple[FloatArray, FloatArray],
    width: FloatArray,
    shape: FloatArray,
    colour: FloatArray,
) -> PsfMixture:
    """Return the mixture with a Gaussian per ray for the narrow components, and the spikes."""
    optics = optics_of(exposure)
    spots = spots_of(optics, ccdnum, *place)
    air = atmosphere(exposure, width, shape, colour)
    weight, spike = component_weights(optics)
    n, m = len(width), len(spots.weight)
    lines = spike_covariances(exposure, width).reshape(n, 2 * len(spike), 3)  # -1 fails where there is no source
    covariance = np.concatenate(
        [np.repeat(air[:, :N_SPLIT], m, axis=1), air[:, N_SPLIT:] + spots.covariance()[:, None], lines], axis=1
    )
    offset = np.zeros((*covariance.shape[:2], 2))
    offset[:, : N_SPLIT * m] = np.tile(spots.offset, (1, N_SPLIT, 1))
    weights = np.concatenate([np.outer(weight[:N_SPLIT], spots.weight).ravel(), weight[N_SPLIT:], spike, spike])
    return PsfMixture(weights, covariance, offset, _blurred(exposure, air, spots))
