"""Positions of the catalogue: centres of the window of the first centroids, of images with coma too, and errors."""

import numpy as np
import pytest

from imaging.catalogue.psf_photometry import psf_photometry
from imaging.catalogue.settings import CatalogueSettings
from imaging.image import CcdImage
from imaging.numerics.gaussian import FWHM_TO_SIGMA
from imaging.psf.model import PsfModel

STEP, REACH, SIDE = 0.5, 50, 101


def profile(dx, dy):
    """Return two Gaussians of unit flux together, the wide one displaced."""
    core = np.exp(-0.5 * (dx**2 + dy**2) / 2.25) / 2.25
    wide = np.exp(-0.5 * ((dx - 1.0) ** 2 + dy**2) / 9.0) / 9.0
    return (0.6 * core + 0.4 * wide) / (2 * np.pi)


def centre(image, fwhm):
    """Return where the moment along x under a Gaussian window around it vanishes, pixels from the middle."""
    offsets = np.arange(SIDE) - SIDE // 2
    x, y = np.meshgrid(offsets, offsets)
    place = 0.0
    for _ in range(100):
        window = np.exp(-0.5 * ((x - place) ** 2 + y**2) / (fwhm * FWHM_TO_SIGMA) ** 2) * image
        place += 2.0 * (window * (x - place)).sum() / window.sum()
    return place


@pytest.mark.parametrize("fwhm", [4.0, 7.0])
def test_centre_of_a_lopsided_star_is_that_of_the_window(fwhm):
    fine = np.arange(-REACH, REACH + 1) * STEP
    coefficients = profile(*np.meshgrid(fine, fine))[None].astype(np.float32)
    psf = PsfModel(coefficients, 0, STEP, (50.0, 50.0), (50.0, 50.0), 4.0)
    offsets = np.arange(SIDE) - SIDE // 2
    star = 1e5 * profile(*np.meshgrid(offsets, offsets))
    image = CcdImage(star.astype(np.float32), np.zeros(star.shape, np.int16), np.full(star.shape, 1e-2, np.float32), {})
    place = np.array([50.0])
    found = psf_photometry(image, psf, place, place, np.array([1e5]), CatalogueSettings(), fwhm)
    assert found.x[0] - 50.0 == pytest.approx(centre(star, fwhm), abs=0.003)
    assert abs(centre(star, 4.0) - centre(star, 7.0)) > 0.05


def test_stated_errors_of_centroids_hold_out_of_focus():
    """First moments in the window follow this donut by 0.58; 0.45, for a Moffat profile, gives a pull of 0.77."""
    angles = np.arange(24) * np.pi / 12.0

    def donut(dx, dy):
        ring = (dx[..., None] - 4.0 * np.cos(angles)) ** 2 + (dy[..., None] - 4.0 * np.sin(angles)) ** 2
        return np.exp(-0.5 * ring / 4.0).mean(axis=-1) / (8.0 * np.pi)

    random, apart, n = np.random.default_rng(6), 56, 18
    fine, offsets = np.arange(-REACH, REACH + 1) * STEP, np.arange(-24, 25)
    psf = PsfModel(donut(*np.meshgrid(fine, fine))[None].astype(np.float32), 0, STEP, (0.0, 0.0), (1.0, 1.0), 11.0)
    x, y = apart * (np.indices((n, n)).reshape(2, -1) + 0.5) + random.uniform(-0.5, 0.5, (2, n * n))
    science = 50.0 * random.standard_normal((n * apart, n * apart))
    for a, b in zip(x, y, strict=True):
        i, j = int(a + 0.5), int(b + 0.5)
        stamp = 1e5 * donut(*np.meshgrid(offsets + i - a, offsets + j - b))
        science[j - 24 : j + 25, i - 24 : i + 25] += stamp + np.sqrt(stamp) * random.standard_normal(stamp.shape)
    weight = np.full(science.shape, 1 / 2500.0, np.float32)
    image = CcdImage(science.astype(np.float32), np.zeros(science.shape, np.int16), weight, {})
    found = psf_photometry(image, psf, x, y, np.full(x.size, 1e5), CatalogueSettings())
    pull = np.concatenate([(found.x - x) / found.x_error, (found.y - y) / found.y_error])
    assert pull.std() == pytest.approx(1.0, abs=3.0 / np.sqrt(2 * pull.size))
