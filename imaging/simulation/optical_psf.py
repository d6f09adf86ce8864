"""Point-spread function of atmosphere and telescope, still a mixture of Gaussians.

The atmosphere is convolved with the spots of geometrical optics: rays through points of the pupil land where the
gradient of the wavefront sends them (Born and Wolf, chapter 5; Davis et al. 2016 for the Blanco telescope). Narrow
components get one Gaussian per ray, wide ones the second moments of all rays. Faint sources, whose noise hides the
difference, get the second moments only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from imaging.bands import BANDS
from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.chromatic import dispersion_arcsec, seeing_factor
from imaging.simulation.exposures import OpticsTruth, SimulatedExposure, quadratic
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

MOFFAT_SIGMA = np.array([0.26248, 0.35785, 0.48633, 0.67311, 0.96958, 1.50639, 2.74802])
MOFFAT_WEIGHT = np.array([0.029428, 0.200450, 0.338667, 0.265588, 0.123932, 0.036199, 0.005736])
"""Widths in units of the full width at half maximum, and weights, of a Moffat profile of exponent 3: a least-squares
fit, within 1.4e-4 of the peak everywhere and within a fifth of the profile out to 8 widths."""

KOLMOGOROV_SIGMA = np.array([0.35585, 0.43746, 0.59038, 0.86961, 1.3789, 2.39861, 5.08609])
KOLMOGOROV_WEIGHT = np.array([0.215477, 0.43042, 0.217332, 0.083058, 0.033609, 0.014237, 0.005867])
"""Widths in units of the full width at half maximum, and weights, of the long-exposure image through Kolmogorov
turbulence (Fried 1966): a least-squares fit, within 1e-4 of the peak everywhere and within 2 % out to 8 widths."""

AUREOLE_SIGMA_ARCSEC, AUREOLE_WEIGHT = np.array([4.0, 12.0, 36.0, 108.0]), np.full(4, 0.004)
"""The same light per interval of log radius: surface brightness falls with the square of the radius (King 1971)."""

N_SPLIT = 4
"""Number of narrow components that are drawn ray by ray."""

OBSCURATION = 0.35
"""Radius of the shadow of the prime-focus cage over that of the mirror."""

MIRROR_DIAMETER_M, VANE_WIDTH_M, VANE_LENGTH_M = 3.93, 0.02, 1.28
"""The vanes are thin strips in two crossing lines, two on each side of the cage."""

SPIKE_SIGMA = np.array([0.35, 3.0, 9.0, 27.0])
SPIKE_WEIGHT = np.array([0.917, 0.062, 0.0135, 0.0075])
"""Lengths in units of wavelength over vane width, and weights, of sinc^2 smoothed over a broad band: a least-squares
fit of its core and of its tail 1 / (2 pi^2 t^2)."""


def pupil() -> FloatArray:
    """Return 12 points of equal weight on the annular pupil: (12, 2); their second moments are those of the annulus."""
    middle2, spread2 = (1.0 + OBSCURATION**2) / 2.0, (1.0 - OBSCURATION**2) / np.sqrt(12.0)
    radius = np.sqrt(np.repeat([middle2 - spread2, middle2 + spread2], 6))
    angle = np.radians(np.concatenate([np.arange(6) * 60.0, np.arange(6) * 60.0 + 30.0]))
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ray_displacements() -> FloatArray:
    """Return where the rays land for each aberration of one: (8, 12, 2), their mean zero.

    The aberrations are defocus, astigmatism, coma and trefoil along the axes, then those along the diagonals, and the
    spherical one: gradients of the Zernike polynomials' leading terms, one at the edge of the pupil.
    """
    x, y = pupil().T
    r2 = x * x + y * y
    rays = np.array(
        [
            (x, y),
            (x, -y),
            ((3 * x * x + y * y) / 3, 2 * x * y / 3),
            (x * x - y * y, -2 * x * y),
            (y, x),
            (2 * x * y / 3, (x * x + 3 * y * y) / 3),
            (2 * x * y, x * x - y * y),
            (r2 * x, r2 * y),
        ]
    ).transpose(0, 2, 1)
    return rays - rays.mean(axis=1, keepdims=True)


RAYS = ray_displacements()


@dataclass(frozen=True, eq=False)
class Spots:
    """Where the rays land around the centre of light: weights (m,), and displacements (n, m, 2) in pixels."""

    weight: FloatArray
    offset: FloatArray

    def covariance(self) -> FloatArray:
        """Return the second moments: (n, 3) xx, xy, yy in square pixels."""
        x, y = self.offset[..., 0], self.offset[..., 1]
        return np.stack([x * x @ self.weight, x * y @ self.weight, y * y @ self.weight], axis=-1)


def spots_of(optics: OpticsTruth, ccdnum: int, u: FloatArray, v: FloatArray) -> Spots:
    """Return the spots at positions of the focal plane.

    Parameters
    ----------
    optics
        Aberrations of the exposure.
    ccdnum
        CCD.
    u, v
        (n,) positions on the focal plane in units of its radius.
    """
    size = np.array([quadratic(terms, u, v) for terms in optics.aberrations])
    size[0] += (
        random_stream(optics.camera_seed, "height of the ccd", ccdnum).normal(0.0, 1.0) * optics.focus_step_arcsec
    )
    offset = np.einsum("an,amk->nmk", size, RAYS) / PIXEL_SCALE_ARCSEC
    weight = np.full(offset.shape[1], 1.0 / offset.shape[1])
    if optics.jump_share > 0.0:
        share, step = optics.jump_share, np.array(optics.jump_pixels)
        offset = np.concatenate([offset - share * step, offset + (1.0 - share) * step], axis=1)
        weight = np.concatenate([(1.0 - share) * weight, share * weight])
    return Spots(weight, offset)


def atmosphere(exposure: SimulatedExposure, width: FloatArray, shape: FloatArray, g_minus_i: FloatArray) -> FloatArray:
    """Return the covariance of every component of atmosphere and aureole: (n, 11, 3), square pixels.

    Parameters
    ----------
    exposure
        The exposure.
    width
        (n,) full widths at half maximum for the reference colour, pixels.
    shape
        (n, 3) xx, xy, yy of the unit ellipse.
    g_minus_i
        (n,) colours.
    """
    optics = optics_of(exposure)
    if optics.chromatic:
        width = width * seeing_factor(exposure.band, g_minus_i)
    core = (width[:, None] * (MOFFAT_SIGMA if optics.moffat else KOLMOGOROV_SIGMA)) ** 2
    covariance = np.concatenate(
        [core[:, :, None] * shape[:, None, :], np.zeros((len(width), len(AUREOLE_SIGMA_ARCSEC), 3))], axis=1
    )
    covariance[:, len(KOLMOGOROV_SIGMA) :, (0, 2)] = ((AUREOLE_SIGMA_ARCSEC / PIXEL_SCALE_ARCSEC) ** 2)[None, :, None]
    if optics.chromatic:
        covariance += dispersion_covariance(exposure)
    return covariance


def dispersion_covariance(exposure: SimulatedExposure) -> FloatArray:
    """Return the second moments by the atmospheric dispersion: xx, xy, yy in square pixels, x south and y east."""
    length = dispersion_arcsec(exposure.band, exposure.zenith_distance_deg) / PIXEL_SCALE_ARCSEC
    angle = np.radians(exposure.parallactic_deg)
    x, y = -length * np.cos(angle), length * np.sin(angle)
    return np.array([x * x, x * y, y * y])


def optics_of(exposure: SimulatedExposure) -> OpticsTruth:
    """Return the optics of an exposure; none of its effects where it has the simple point-spread function."""
    return exposure.optics or OpticsTruth()


def component_weights(optics: OpticsTruth) -> tuple[FloatArray, FloatArray]:
    """Return the weights of atmosphere with aureole (11,), and those of the spikes of one line (4,); in total one."""
    aureole = AUREOLE_WEIGHT if optics.wide_aureole else np.where(np.arange(4) < 2, [0.006, 0.004, 0, 0], 0.0)
    annulus_m2 = np.pi / 4 * MIRROR_DIAMETER_M**2 * (1.0 - OBSCURATION**2)
    line = 2 * VANE_WIDTH_M * VANE_LENGTH_M / annulus_m2 if optics.vane_angle_deg is not None else 0.0
    seeing = MOFFAT_WEIGHT if optics.moffat else KOLMOGOROV_WEIGHT
    core = seeing / seeing.sum() * (1.0 - aureole.sum() - 2 * line)
    return np.concatenate([core, aureole]), line * SPIKE_WEIGHT / SPIKE_WEIGHT.sum()


def spike_covariances(exposure: SimulatedExposure, width: FloatArray) -> FloatArray:
    """Return the covariances of the spikes: (n, 2, 4, 3); their length is proportional to the wavelength.

    The light that a strip of width w takes from the pupil is diffracted across the strip over angles of wavelength
    over w (Babinet's principle); along the strip it is as narrow as the seeing.
    """
    unit = np.degrees(BANDS[exposure.band].wavelength_nm * 1e-9 / VANE_WIDTH_M) * 3600.0 / PIXEL_SCALE_ARCSEC
    angle = np.radians(optics_of(exposure).vane_angle_deg or 0.0) + np.array([0.0, np.pi / 2])
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    along = (SPIKE_SIGMA * unit) ** 2
    lines = np.stack([along * c * c, along * c * s, along * s * s], axis=-1)
    across = (0.45 * width) ** 2
    covariance = np.repeat(lines[None], len(width), axis=0)
    covariance[..., 0] += across[:, None, None]
    covariance[..., 2] += across[:, None, None]
    return covariance


def round_spikes(exposure: SimulatedExposure) -> FloatArray:
    """Return variances of round Gaussians with the spikes' fractions inside the reference aperture: (4,)."""
    unit = np.degrees(BANDS[exposure.band].wavelength_nm * 1e-9 / VANE_WIDTH_M) * 3600.0 / PIXEL_SCALE_ARCSEC
    radius = REFERENCE_APERTURE_PIXELS / 2
    inside = erf(radius / np.sqrt(2.0) / (SPIKE_SIGMA * unit))
    return radius**2 / (-2.0 * np.log1p(-np.minimum(inside, 1.0 - 1e-12)))
