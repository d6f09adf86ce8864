"""Detection: the filter is a signal-to-noise, masks do not break it, blends split, halos do not drown it."""

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.catalogue.detect import detect, matched_filter
from imaging.catalogue.settings import CatalogueSettings
from imaging.errors import CcdError
from imaging.image import CcdImage
from imaging.simulation.star_fields import MoffatPsf, draw_field

SETTINGS = CatalogueSettings()
SHAPE = (600, 700)
FWHM = 4.0
SIGMA = 50.0


def blank(seed=0, weight=None):
    random = np.random.default_rng(seed)
    weight = np.full(SHAPE, SIGMA**-2, np.float32) if weight is None else weight
    noise = random.standard_normal(SHAPE).astype(np.float32)
    science = np.where(weight > 0, noise / np.sqrt(np.where(weight > 0, weight, 1.0)), 1e5).astype(np.float32)
    return CcdImage(science, np.zeros(SHAPE, np.int16), weight.astype(np.float32), {})


def add_star(image, x, y, flux, fwhm=FWHM):
    j, i = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sigma2 = (fwhm / 2.3548) ** 2
    image.science[:] += (flux / (2 * np.pi * sigma2) * np.exp(-0.5 * ((i - x) ** 2 + (j - y) ** 2) / sigma2)).astype(
        np.float32
    )


def test_filtered_noise_has_unit_width_even_where_amplifiers_differ():
    weight = np.full(SHAPE, SIGMA**-2, np.float32)
    weight[:, 350:] /= 2.25
    weight[100] = 0.0
    weight[:, 500:503] = 0.0
    image = blank(1, weight)
    snr = matched_filter(image.science, image.mask, image.weight, FWHM)
    for part in (snr[110:590, 10:340], snr[110:590, 510:690], snr[90:110, 10:340]):
        assert part.std() == pytest.approx(1.0, abs=0.06)


def test_peak_of_the_filter_is_the_stars_signal_to_noise():
    image = blank(2)
    image.science[:] = 0.0
    flux = 3000.0
    add_star(image, 300.0, 200.0, flux)
    expected = flux / (SIGMA * np.sqrt(4 * np.pi) * FWHM / 2.3548)
    snr = matched_filter(image.science, image.mask, image.weight, FWHM)
    # A filter of FWHM 4.0 that is cut at two sigma loses 1 %.
    assert snr[200, 300] == pytest.approx(expected, rel=0.03)


def test_blank_noise_gives_no_source():
    assert sum(len(detect(blank(seed), FWHM, SETTINGS)) for seed in range(5)) <= 1


def test_sources_above_the_threshold_are_found():
    image = blank(4)
    random = np.random.default_rng(9)
    x, y = random.uniform(30, 670, 40), random.uniform(30, 570, 40)
    noise = SIGMA * np.sqrt(4 * np.pi) * FWHM / 2.3548
    for a, b in zip(x, y, strict=True):
        add_star(image, a, b, 9.0 * noise)
    found = detect(image, FWHM, SETTINGS)
    nearest = [np.hypot(found.x - a, found.y - b).min() for a, b in zip(x, y, strict=True)]
    assert np.mean(np.array(nearest) < 2.0) > 0.95


def test_two_stars_four_pixels_beyond_a_width_apart_are_split():
    image = blank(5)
    add_star(image, 300.0, 300.0, 1e5)
    add_star(image, 308.0, 300.0, 6e4)
    found = detect(image, FWHM, SETTINGS)
    assert len(found) == 2
    assert found.deblended.all()


def test_a_saturated_star_is_one_source():
    image = blank(6)
    add_star(image, 350.0, 300.0, 5e7)
    saturated = image.science > 1.5e5
    image.science[saturated] = 1.5e5
    image.mask[saturated] |= np.int16(MaskBit.SATURATE)
    image.weight[saturated] = 0.0
    found = detect(image, FWHM, SETTINGS)
    assert len(found) == 1
    assert np.hypot(found.x[0] - 350, found.y[0] - 300) < 8.0


def test_cosmic_rays_that_are_masked_are_not_sources():
    image = blank(7)
    image.science[100:130, 200] = 9000.0
    image.mask[100:130, 200] |= np.int16(MaskBit.CRAY)
    image.weight[100:130, 200] = 0.0
    assert len(detect(image, FWHM, SETTINGS)) == 0


def test_a_halo_over_the_whole_image_is_taken_off_first():
    field = draw_field(3, psf=MoffatPsf(shape=SHAPE), n_stars=60, n_galaxies=20)
    plain = len(detect(field.image, 4.2, SETTINGS))
    j, i = np.mgrid[: SHAPE[0], : SHAPE[1]]
    field.image.science[:] += (2500 * np.exp(-np.hypot(i - 300, j - 300) / 400)).astype(np.float32)
    assert len(detect(field.image, 4.2, SETTINGS)) == pytest.approx(plain, rel=0.25)


def test_too_many_sources_are_refused_with_their_number():
    image = blank(8)
    for k in range(15):
        add_star(image, 40.0 * k + 20, 300.0, 1e5)
    with pytest.raises(CcdError) as caught:
        detect(image, FWHM, SETTINGS.with_values(maximum_sources=10))
    assert caught.value.reason == "too_many_sources"
    assert caught.value.value == "15"


def test_a_lack_of_memory_is_not_a_crowded_field(monkeypatch):
    def extract(*_, **__):
        raise MemoryError  # as sep does when its C code cannot allocate

    monkeypatch.setattr("imaging.catalogue.detect.sep.extract", extract)
    with pytest.raises(MemoryError):
        detect(blank(8), FWHM, SETTINGS)
