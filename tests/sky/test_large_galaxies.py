"""The sky below and beside galaxies that fill arcminutes: no ring of over-subtraction, with modes and without."""

import numpy as np
import pytest

from imaging.sky.fit import fit_sky
from imaging.sky.image import sky_image
from imaging.sky.mini_sky import make_mini_sky
from imaging.sky.modes import SkyModes, SkyTemplates
from imaging.sky.settings import SkySettings

SHAPE, CENTRE, CCDS = (4096, 2048), (1000.0, 2000.0), (27, 34)
PLACES = (0, 150, 340, 700, 1200)
"""Distances along the rows from the galaxy's centre; its disc reaches 3 arcmin, 700 pixels."""

MILLIMAG_PER_ELECTRON = 1085.7 * np.pi * 30.0**2 / 10 ** (0.4 * (30.3 - 17.0))
"""Error of the magnitude of a galaxy of 17 mag, in an ellipse of 30 pixels, by an error of the sky of one electron."""


def modes_of(ccd: int, bins: int) -> np.ndarray:
    """Level, two gradients and a ring of the pupil's ghost, at the middle of bins."""
    y, x = (np.arange(n // bins) * bins + bins / 2 for n in SHAPE)
    u, v = np.meshgrid(x / 14000.0 + (0.1 if ccd == 27 else -0.1), y / 14000.0)
    ghost = np.exp(-(((np.hypot(u, v) - 0.3) / 0.12) ** 2)) - 0.15
    return np.stack([np.ones_like(u), u, v, ghost]).astype(np.float32)


@pytest.fixture(scope="module")
def blank():
    """Two CCDs in i: 2000 electrons, a gradient of 2 % over the camera, a ghost of 1 %."""
    random, found = np.random.default_rng(4), {}
    for ccd in CCDS:
        binned = np.tensordot([2000.0, 24.0, -24.0, 20.0], modes_of(ccd, 8).astype(float), axes=1)
        sky = np.repeat(np.repeat(binned, 8, axis=0), 8, axis=1).astype(np.float32)
        found[ccd] = sky, sky + np.sqrt(sky) * random.standard_normal(SHAPE, dtype=np.float32)
    return found


def disc(mag: float, radius_arcsec: float) -> np.ndarray:
    """Return an exponential disc of a half-light radius, electrons."""
    scale = radius_arcsec / 0.263 / 1.678
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(x - CENTRE[0], (y - CENTRE[1]) / 0.7) / scale
    return (10 ** (0.4 * (30.3 - mag)) / (2 * np.pi * 0.7 * scale**2) * np.exp(-r)).astype(np.float32)


@pytest.mark.parametrize("mag", [14.5, 12.0, 10.6])
@pytest.mark.parametrize(("method", "limit_mmag"), [("modes", 5.0), ("mesh", 20.0)])
def test_a_galaxy_of_17_mag_keeps_its_magnitude_on_and_beside_a_galaxy_of_three_arcminutes(
    blank, mag, method, limit_mmag
):
    """A median of the superpixels alone takes 30, 380 and 1,400 mmag from a galaxy in the middle of these discs."""
    modes = SkyModes({ccd: modes_of(ccd, 128) for ccd in CCDS}) if method == "modes" else None
    images = {27: blank[27][1] + disc(mag, 45.0), 34: blank[34][1]}
    mask = np.zeros(SHAPE, dtype=np.int16)
    fit = fit_sky({ccd: make_mini_sky(image, mask, ccd) for ccd, image in images.items()}, modes, SkySettings())
    assert fit.method == method
    templates = SkyTemplates(27, modes_of(27, 8))
    error = sky_image(fit, templates, 27, SHAPE) - blank[27][0]
    for distance in PLACES:
        y, x = int(CENTRE[1]) + distance, int(CENTRE[0])
        bias = MILLIMAG_PER_ELECTRON * error[y - 30 : y + 30, x - 30 : x + 30].mean()
        assert abs(bias) < limit_mmag, distance
