"""Light that follows no source: clouds of dust in front of the Galaxy that reflect its light.

The brightness is the exponential of a Gaussian field whose power falls with the 2.9th power of the wave number, as that
of cirrus does (Miville-Deschenes et al. 2007, A&A 469, 595), so that it is positive and has filaments. The colours are
those of cirrus in the optical (Roman, Trujillo and Montes 2020, A&A 644, A42). It is fixed to the sky.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import NX, PIXEL_SCALE_ARCSEC
from imaging.simulation.camera import upsample
from imaging.simulation.optics import TrueGeometry
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.float32]

WAVES, SCALES_ARCMIN, SLOPE = 240, (0.7, 60.0), 2.9
"""Number of plane waves, range of their lengths, and exponent of their power."""

CONTRAST = 0.7
"""Rms of the logarithm of the brightness."""

BAND_MINUS_I = {"u": 2.0, "g": 0.8, "r": 0.25, "i": 0.0, "z": -0.15, "Y": -0.2, "VR": 0.5}
STEP = 32
"""Pixels between the places at which the waves are added up."""


@lru_cache(maxsize=2)
def _waves(seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw wave vectors per unit vector of the sky (240, 3), phases and amplitudes (240,), of rms one in total."""
    random = random_stream(seed, "nebulosity")
    shortest, longest = SCALES_ARCMIN
    arcmin = shortest * (longest / shortest) ** random.random(WAVES)
    direction = random.normal(size=(WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    amplitude = arcmin ** (SLOPE / 2.0 - 1.0)  # equal numbers of waves per interval of the logarithm, in two dimensions
    amplitude *= np.sqrt(2.0 / np.sum(amplitude**2))
    return 2 * np.pi / np.radians(arcmin / 60.0)[:, None] * direction, random.uniform(0, 2 * np.pi, WAVES), amplitude


def relative_brightness(seed: int, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return the brightness at places of the sky in units of its mean: (...,)."""
    vectors, phase, amplitude = _waves(seed)
    a, d = np.radians(ra_deg), np.radians(dec_deg)
    unit = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
    field = np.cos(unit @ vectors.T + phase) @ amplitude
    return np.exp(CONTRAST * field - CONTRAST**2 / 2.0)


def add_nebulosity(image: FloatImage, geometry: TrueGeometry, mag_per_arcsec2: float) -> None:
    """Add the light of the dust to a CCD, in place.

    Parameters
    ----------
    image
        (ny, nx) float32, electrons.
    geometry
        Geometry of the CCD.
    mag_per_arcsec2
        Mean surface brightness in i.
    """
    exposure, ny = geometry.exposure, image.shape[0]
    x, y = np.meshgrid(np.arange(0, NX + 1, STEP, dtype=float), np.arange(0, ny + 1, STEP, dtype=float))
    ra, dec = geometry.wcs.pixel_to_sky(x.ravel(), y.ravel())
    clouds = exposure.clouds.extinction_mag(*geometry.plane(ra, dec))
    mag = mag_per_arcsec2 + BAND_MINUS_I[exposure.band] + clouds - exposure.zeropoint_mag
    coarse = PIXEL_SCALE_ARCSEC**2 * 10.0 ** (-0.4 * mag) * relative_brightness(exposure.seed, ra, dec)
    image += upsample(coarse.reshape(x.shape), STEP, (ny, NX))
