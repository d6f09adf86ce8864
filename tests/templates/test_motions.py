"""Stars of a template that are elsewhere in the search image, by proper motion or refraction."""

from types import SimpleNamespace

import numpy as np
import pytest

from imaging.astrometry.solution import Chromatic, TiedCcd
from imaging.detector.distortion import seed_wcs
from imaging.difference.prepare import moffat_psf
from imaging.image import CalibratedImage, CcdImage
from imaging.templates.motions import move_stars, places
from imaging.wcs.tpv import TpvWcs

PSF, SIGMA, SHAPE = moffat_psf(4.0), 60.0, (120, 160)
PLACES, FLUXES = np.array([[40.3, 37.8], [100.0, 80.4], [47.0, 33.0], [2.0, 60.0]]), [1e6, 3e5, 2e4, 3e5]
MOTIONS = np.array([[0.3, -0.2], [2.5, 1.0], [0.0, 0.0], [0.5, 0.5]])


def drawn(places):
    y, x = np.arange(SHAPE[0]), np.arange(SHAPE[1])
    return sum(f * PSF.at_offsets(80.0, 60.0, x - a, y - b) for f, (a, b) in zip(FLUXES, places, strict=True))


@pytest.fixture
def image():
    noise = np.random.default_rng(1).normal(0.0, 1.0, SHAPE) * SIGMA
    planes = (
        (drawn(PLACES) + noise).astype(np.float32),
        np.zeros(SHAPE, np.int16),
        np.full(SHAPE, SIGMA**-2, np.float32),
    )
    wcs = TpvWcs((150.0, -20.0), (80.0, 60.0), np.diag([-7.3e-5, 7.3e-5]), np.zeros((2, 11)))
    return CalibratedImage(CcdImage(*planes, {}), wcs, PSF, 30.0, 2500.0, 1.5e5, "template")


def moved(image, places=PLACES, motions=MOTIONS):
    return move_stars(image, *places.T, *(places + motions).T)


def off(image, places):
    """Return the largest deviation from sources at ``places``, in units of the noise."""
    left = (image.pixels.science - drawn(places)) / SIGMA
    return np.abs(left).max()


def test_stars_are_where_the_search_image_has_them(image):
    assert off(image, PLACES + MOTIONS) > 50.0
    assert moved(image) == 2  # the third does not move, the fourth is cut by the border
    now = PLACES + MOTIONS * np.array([[1], [1], [0], [0]])
    # the fluxes are measured to one in two thousand, the neighbour of the first adds as much
    assert off(image, now) < 5.5


def test_a_motion_that_the_noise_hides_changes_nothing(image):
    before = image.pixels.science.copy()
    assert moved(image, motions=np.full((4, 2), 1e-5)) == 0
    assert (image.pixels.science == before).all()


def test_saturated_stars_stay(image):
    image.pixels.weight[38, 41] = 0.0
    before = image.pixels.science[:60, :70].copy()
    assert moved(image) == 1
    assert (image.pixels.science[:60, :70] == before).all()


def test_stars_off_the_image_stay(image):
    places = PLACES + np.array([1000.0, 0.0])
    assert moved(image, places) == 0
    assert moved(image, -places) == 0


def test_stars_are_shown_where_the_tie_has_measured_them():
    """A star beyond the range of the colours counts as its end, one of unknown colour as a typical one."""
    chromatic = Chromatic(typical_mag=1.0, range_mag=(0.5, 3.0), terms_mas=[[80.0, 3.0, 0.0], [-40.0, 2.0, 1.0]])
    seed = seed_wcs(27, 150.0, -30.0)
    tied = TiedCcd.without_others(seed, 100, 10.0).model_copy(update={"chromatic": chromatic})
    x, y = np.array([100.0, 1900.0, 700.0, 800.0]), np.array([50.0, 4000.0, 2000.0, 2100.0])
    colour = np.array([0.7, 2.5, 9.0, np.nan])
    ra, dec = tied.sky(x, y, (4096, 2048), colour)
    stars = SimpleNamespace(ra=ra, dec=dec, colour_mag=colour)
    assert np.abs(np.array(places(seed, stars, chromatic)) - [x, y]).max() < 1e-4
    away = np.hypot(*(np.array(places(seed, stars)) - [x, y]))
    assert away == pytest.approx(np.hypot(*chromatic.shift_mas(colour).T) / 263.0, rel=0.02, abs=1e-9)
