"""The seeing before anything else is known: stars, not galaxies, not cosmic rays."""

import numpy as np
import pytest

from imaging.errors import CcdError
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.simulation.star_fields import MoffatPsf, draw_field

SETTINGS = MeasureSettings()
SHAPE = (1500, 1200)


def add_cosmic_rays(science, n, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(n):
        j, i = random.integers(10, SHAPE[0] - 30), random.integers(10, SHAPE[1] - 30)
        length, angle = random.integers(1, 15), random.uniform(0, np.pi)
        for step in range(length):
            y, x = int(j + step * np.sin(angle)), int(i + step * np.cos(angle))
            science[y, x] += random.uniform(500, 8000)
            science[y, x + 1] += random.uniform(50, 800)


@pytest.mark.parametrize("fwhm", [3.0, 4.2, 5.6])
def test_seeing_with_galaxies_and_cosmic_rays(fwhm):
    psf = MoffatPsf(fwhm_pixels=fwhm, size_variation=0.0, shape=SHAPE)
    field = draw_field(1, psf=psf, n_stars=200, n_galaxies=500)
    add_cosmic_rays(field.image.science, 60)
    seeing = estimate_fwhm(field.image.science, field.image.mask, SETTINGS)
    assert seeing.fwhm_pixels == pytest.approx(fwhm, rel=0.04)
    assert seeing.n_stars > 15


def test_an_unsubtracted_flat_sky_does_not_matter():
    field = draw_field(2, psf=MoffatPsf(shape=SHAPE), n_stars=200, n_galaxies=200)
    plain = estimate_fwhm(field.image.science, field.image.mask, SETTINGS)
    above = estimate_fwhm(field.image.science + np.float32(800.0), field.image.mask, SETTINGS)
    assert above.fwhm_pixels == pytest.approx(plain.fwhm_pixels, rel=0.01)


def test_the_pixels_are_not_touched():
    field = draw_field(3, psf=MoffatPsf(shape=SHAPE), n_stars=100, n_galaxies=0)
    before = field.image.science.copy(), field.image.mask.copy()
    estimate_fwhm(field.image.science, field.image.mask, SETTINGS)
    assert np.array_equal(before[0], field.image.science)
    assert np.array_equal(before[1], field.image.mask)


def test_noise_has_no_seeing():
    field = draw_field(4, psf=MoffatPsf(shape=SHAPE), n_stars=0, n_galaxies=0)
    add_cosmic_rays(field.image.science, 4)
    with pytest.raises(CcdError) as caught:
        estimate_fwhm(field.image.science, field.image.mask, SETTINGS)
    assert caught.value.reason == "too_few_stars"


def test_a_ccd_that_is_all_masked_has_no_seeing():
    field = draw_field(5, psf=MoffatPsf(shape=SHAPE), n_stars=50, n_galaxies=0)
    with pytest.raises(CcdError) as caught:
        estimate_fwhm(field.image.science, np.full(SHAPE, 8, np.int16), SETTINGS)
    assert caught.value.reason == "too_few_stars"


@pytest.mark.parametrize(("shape", "advice"), [(SHAPE, "clouds"), ((250, 250), "larger part")])
def test_what_to_do_about_an_image_without_stars_depends_on_its_size(shape, advice):
    noise = np.random.default_rng(6).normal(0.0, 5.0, shape).astype(np.float32)
    with pytest.raises(CcdError) as caught:
        estimate_fwhm(noise, np.zeros(shape, np.int16), SETTINGS)
    assert advice in str(caught.value)
