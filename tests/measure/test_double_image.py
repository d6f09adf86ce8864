"""A jump of the telescope: refused with its size if it makes two images of a star, else measured as one long star."""

import re

import numpy as np
import pytest

from imaging.errors import CcdError
from imaging.masks.cosmic_rays import find_cosmic_rays
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.simulation.star_fields import MoffatPsf, draw_field

SETTINGS = MeasureSettings()
SHAPE = (1500, 1200)


@pytest.fixture(scope="module")
def image():
    """A field with some hundred galaxies and stars of 4 pixels."""
    psf = MoffatPsf(4.0, shape=SHAPE)
    return draw_field(7, psf=psf, n_stars=250, n_galaxies=300, mag_range=(15.5, 21.0), bad_columns=0).image


def after_a_jump(image, share, dx, dy):
    return ((1 - share) * image.science + share * np.roll(image.science, (dy, dx), (0, 1))).astype(np.float32)


@pytest.mark.parametrize(("share", "dx", "dy"), [(0.35, 1, -5), (0.65, 1, -5), (0.5, 4, 4), (0.3, -6, 0)])
def test_two_images_are_refused_with_their_distance_and_share(image, share, dx, dy):
    with pytest.raises(CcdError) as caught:
        estimate_fwhm(after_a_jump(image, share, dx, dy), image.mask, SETTINGS)
    assert caught.value.reason == "double_image"
    percent, distance, x, y, seen, stars = map(float, re.findall(r"[-+]?\d+(?:\.\d+)?", caught.value.value))
    sign = np.sign(x * dx + y * dy) if share == 0.5 else np.sign(0.5 - share)
    assert percent == pytest.approx(100 * min(share, 1 - share), abs=3)
    assert distance == pytest.approx(np.hypot(dx, dy), abs=0.6)
    assert (x, y) == pytest.approx((sign * dx, sign * dy), abs=0.5)
    assert stars >= seen > 20


@pytest.mark.parametrize(("share", "dx", "dy"), [(0.0, 0, 0), (0.15, 1, -5), (0.35, 0, 3)])
def test_a_short_or_a_small_jump_is_no_second_image(image, share, dx, dy):
    assert estimate_fwhm(after_a_jump(image, share, dx, dy), image.mask, SETTINGS).n_stars > 20


def test_stars_of_a_crowded_field_are_not_taken_for_two_images():
    field = draw_field(8, psf=MoffatPsf(4.0, shape=(700, 700)), n_stars=3000, n_galaxies=0).image
    assert estimate_fwhm(field.science, field.mask, SETTINGS).fwhm_pixels == pytest.approx(4.0, rel=0.1)


def test_the_cores_of_long_stars_are_no_cosmic_rays(image):
    science = after_a_jump(image, 0.25, -3, 3)
    seeing = estimate_fwhm(science, image.mask, SETTINGS)
    assert seeing.short_pixels == pytest.approx(4.0, rel=0.1)
    assert seeing.fwhm_pixels > 1.25 * seeing.short_pixels
    masked = [
        find_cosmic_rays(science, image.weight, image.mask, width, SETTINGS.cosmic_rays).pixels[9:-9, 9:-9].sum()
        for width in (seeing.short_pixels, seeing.fwhm_pixels)
    ]
    assert masked[0] == 0 < 100 < masked[1]


@pytest.mark.parametrize("fwhm", [3.0, 4.2, 5.6])
def test_round_stars_have_one_width(fwhm):
    field = draw_field(9, psf=MoffatPsf(fwhm, ellipticity=(0.0, 0.0), shape=SHAPE), n_stars=200, n_galaxies=100).image
    seeing = estimate_fwhm(field.science, field.mask, SETTINGS)
    assert seeing.short_pixels == pytest.approx(seeing.fwhm_pixels, rel=0.06)
