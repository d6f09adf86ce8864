"""Fakes that images of stars draw against a PSF model that is right or wrong; which stars are cut out."""

import galsim
import numpy as np
import pytest

from imaging.difference.efficiency import efficiency_by_place
from imaging.difference.fakes import Fakes, add_sources, inject_fakes
from imaging.difference.records import Difference
from imaging.difference.response import draw_source
from imaging.difference.settings import DetectionSettings, FakeSettings
from imaging.difference.star_images import SOURCE_HALF, cut_star_images
from imaging.difference.tables import fakes_table
from tests.difference.drawn import (
    FWHM,
    IDENTITY,
    NO_DETECTIONS,
    NO_STARS,
    ROUND,
    SIGMA,
    difference_of,
    draw,
    grid_places,
    model_of,
)

FAKES = FakeSettings(n_blank=2600, n_hosts=0, brightest_mag=20.0, faintest_mag=21.5, threshold_share=0.0)
FAKES = FAKES.with_values(separation_pixels=30.0)
WITH_STARS = FAKES.with_values(star_images=True)


def inject(difference: Difference, settings: FakeSettings) -> Fakes:
    return inject_fakes(difference, NO_DETECTIONS, (3, 4), settings, DetectionSettings(), NO_STARS)


def starry(width=1.0, profiles=ROUND, extra=()):
    """Return a difference of white noise whose search image has 36 stars of S/N 480 to 750, and the stars' places."""
    rng = np.random.default_rng(21)
    x, y, shape = grid_places(6, 100, rng, margin=70)
    flux = rng.uniform(3e5, 6e5, x.size)
    light = draw(shape, x, y, flux, profiles)
    for k, (dx, share) in enumerate(extra):
        light += draw(shape, [x[k] + dx], [y[k]], [share * flux[k]])
    light += rng.standard_normal(shape) * np.sqrt(np.maximum(light, 0.0))
    noise = rng.normal(0.0, SIGMA, shape)
    model = model_of(galsim.Gaussian(fwhm=width * FWHM))
    return difference_of(noise, search=light + noise + 7.0, psf=model), x, y, flux


@pytest.mark.parametrize("width", [1.0, 1.05])
def test_only_fakes_drawn_with_images_of_stars_show_a_psf_model_that_is_too_wide(width):
    difference, *_ = starry(width)
    ratio = {}
    for settings in (FAKES, WITH_STARS):
        fakes = inject(difference, settings)
        used = fakes.detected & fakes.on_good_pixels
        measured = fakes.detections.measured
        flux, error = (values[fakes.match[used]] for values in (measured.flux, measured.flux_error))
        weight = (fakes.flux[used] / error) ** 2
        assert weight.sum() ** -0.5 < 0.001
        ratio[settings.star_images] = np.average(flux / fakes.flux[used], weights=weight)
    true, wide = ((w * FWHM / 2.3548) ** 2 + 1 / 12 for w in (1.0, width))
    assert ratio[False] == pytest.approx(1.0, abs=0.003)
    assert ratio[True] == pytest.approx(2.0 * wide / (true + wide), abs=0.003)  # flux of a Gaussian by a wider one


def test_images_are_those_of_galsim_at_the_phase_of_the_star():
    difference, x, y, flux = starry()
    images = cut_star_images(difference.search, 300.0)
    assert len(images) >= 30
    near = np.hypot(images.x[:, None] - x, images.y[:, None] - y)
    number = near.argmin(axis=1)
    assert near.min(axis=1).max() < 0.02
    side = 2 * SOURCE_HALF + 1
    centre = SOURCE_HALF + np.stack([x, y]) - np.floor(np.stack([x, y]) + 0.5)
    pulls = []
    for k, n in enumerate(number):
        true = draw((side, side), [centre[0, n]], [centre[1, n]], [1.0])
        core = true > 1e-4
        noise = np.sqrt(SIGMA**2 + true * flux[n]) / flux[n]
        pulls.append(np.sum(((images.images[k] - true) * true / noise**2)[core]) / np.sum((true**2 / noise**2)[core]))
    pulls = np.array(pulls) / images.error
    assert abs(pulls.mean()) < 3 / np.sqrt(pulls.size) and 0.5 < pulls.std() < 1.3


def test_neighbours_galaxies_and_faint_stars_are_left_out():
    galaxy = galsim.Convolve(ROUND, galsim.Exponential(half_light_radius=0.8))
    profiles = [galaxy if k in (10, 11, 12) else ROUND for k in range(36)]
    difference, x, y, _ = starry(profiles=profiles, extra=((8.0, 0.005), (10.0, 0.004), (12.0, 0.004)))
    images = cut_star_images(difference.search, 300.0)
    used = np.hypot(images.x[:, None] - x, images.y[:, None] - y).argmin(axis=1)
    assert not set(used) & {0, 1, 2, 10, 11, 12} and len(used) >= 25
    assert len(cut_star_images(difference.search, 700.0)) < 10


def test_fakes_lie_in_their_pixel_as_the_nearest_star_does():
    difference, x, y, _ = starry()
    plain, drawn = inject(difference, FAKES), inject(difference, WITH_STARS)
    assert np.array_equal(np.floor(plain.x + 0.5), np.floor(drawn.x + 0.5)) and not np.array_equal(plain.x, drawn.x)
    nearest = np.hypot(plain.x[:, None] - x, plain.y[:, None] - y).argmin(axis=1)
    for fake, star in ((drawn.x, x), (drawn.y, y)):
        apart = (fake - star[nearest] + 0.5) % 1.0 - 0.5
        assert np.median(np.abs(apart)) < 0.01


def test_images_of_the_model_give_what_the_model_gives():
    before = difference_of(np.zeros((200, 200)))
    x, y, flux = np.array([60.3, 120.5]), np.array([70.75, 128.0]), np.array([2e4, 5e3])
    shifts = [(a - np.floor(a + 0.5), b - np.floor(b + 0.5)) for a, b in zip(x, y, strict=True)]
    images = [draw_source(before.search.psf, a, b, SOURCE_HALF, s) for a, b, s in zip(x, y, shifts, strict=True)]
    first, second = (add_sources(before, x, y, flux, np.random.default_rng(6), drawn) for drawn in (None, images))
    assert first.image.any() and np.array_equal(first.image, second.image)
    assert np.array_equal(first.search.pixels.science, second.search.pixels.science)


def test_without_a_star_there_are_no_fakes():
    difference = difference_of(np.random.default_rng(5).normal(0.0, SIGMA, (200, 200)))
    fakes = inject(difference, WITH_STARS)
    assert len(fakes) == 0 < len(inject(difference, FAKES))
    table = fakes_table(difference, fakes, np.zeros(len(fakes.detections)), IDENTITY)
    assert table.num_rows == 0 == efficiency_by_place(table, 0.5).num_rows
