"""Images drawn by galsim, as pixels with weights, and PSF models sampled from its profiles."""

import galsim
import numpy as np

from imaging.catalogue.detect import Detections
from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.image import CcdImage
from imaging.psf.model import PsfModel

STEP, REACH = 0.5, 45
"""Pixels per sample and samples on either side of a PSF model."""


def draw(shape, sources):
    """Add profiles at 0-based places (x, y), sampled at the pixel centres; float64."""
    image = galsim.ImageD(galsim.BoundsI(0, shape[1] - 1, 0, shape[0] - 1))
    for profile, x, y in sources:
        profile.drawImage(image, center=galsim.PositionD(x, y), method="no_pixel", add_to_image=True, scale=1.0)
    return image.array


def as_image(science, sigma=1.0):
    """Return pixels with an even weight and an empty mask."""
    science = np.ascontiguousarray(science, dtype=np.float32)
    return CcdImage(science, np.zeros(science.shape, np.int16), np.full(science.shape, sigma**-2, np.float32), {})


def with_noise(light, sigma, seed):
    """Return light with the noise of the sky and of its own photons."""
    random = np.random.default_rng(seed)
    return light + random.standard_normal(light.shape) * np.sqrt(sigma**2 + np.maximum(light, 0.0))


def in_reference_aperture(profile):
    """Return the share of a profile's light inside the reference aperture, summed on a fine grid."""
    size = 2 * int(REFERENCE_APERTURE_PIXELS / 0.1) + 1
    fine = profile.drawImage(nx=size, ny=size, scale=0.1, method="no_pixel", dtype=float).array
    radius = np.hypot(*(np.indices(fine.shape) - size // 2)) * 0.1
    return float(fine[radius <= REFERENCE_APERTURE_PIXELS / 2].sum() / profile.flux)


def psf_model(profile, fwhm_pixels):
    """Return a profile as a PSF model that does not vary over the image."""
    n = 2 * REACH + 1
    fine = profile.drawImage(nx=n, ny=n, scale=STEP, method="no_pixel", dtype=float).array / STEP**2
    samples = (fine / (profile.flux * in_reference_aperture(profile))).astype(np.float32)
    return PsfModel(samples[None], 0, STEP, (100.0, 100.0), (100.0, 100.0), fwhm_pixels)


def one_source(shape, x, y):
    """Return one detection whose isophote is the whole image."""
    return Detections(np.array([x]), np.array([y]), np.array([False]), np.ones(shape, np.int32))
