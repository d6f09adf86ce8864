"""A stack has one level where an image is missing and where it is not."""

import numpy as np
import pytest

from imaging.templates.levels import match_levels

NY, NX, SIGMA = 1024, 768, 80.0
SCALES = np.array([1.0, 2.0, 0.5])


@pytest.fixture
def images():
    """Three images of a sky of level 0 and other depths; one has a ghost, lacks a band of columns, and ends early."""
    rng = np.random.default_rng(5)
    sigma = np.array([SIGMA, 1.5 * SIGMA, SIGMA]) / SCALES
    science = [rng.normal(0.0, s, (NY, NX)).astype(np.float32) for s in sigma]
    weight = [np.full((NY, NX), s**-2, np.float32) for s in sigma]
    y, x = np.mgrid[:NY, :NX]
    science[1] += np.where(np.hypot(x - 300, y - 500) < 350, 100.0 / SCALES[1], 0.0).astype(np.float32)
    weight[1][:, 395:415] = 0.0
    weight[2][:, 640:] = 0.0
    return science, weight


def stack(science, weight):
    parts = [w / s**2 for w, s in zip(weight, SCALES, strict=True)]
    return sum(w * s * image for w, s, image in zip(parts, SCALES, science, strict=True)) / sum(parts)


def test_a_band_without_an_image_has_the_level_beside_it(images):
    science, weight = images
    before = stack(science, weight)
    match_levels(science, weight, SCALES)
    after = stack(science, weight)
    inside = (slice(300, 700), slice(395, 415))
    beside = (slice(300, 700), np.r_[360:390, 420:450])
    error = SIGMA * np.sqrt(0.5 / (400 * 20) + 0.41 / (400 * 60))
    assert before[beside].mean() - before[inside].mean() > 10 * error
    assert after[beside].mean() == pytest.approx(after[inside].mean(), abs=4 * np.hypot(error, 1.0))


def test_the_stack_stays_where_all_images_have_data(images):
    science, weight = images
    before = stack(science, weight)
    match_levels(science, weight, SCALES)
    change = (stack(science, weight) - before)[np.logical_and.reduce([w > 0 for w in weight])]
    assert np.abs(change).max() < 1e-3 * SIGMA


def test_bands_without_different_images_have_one_level_where_no_place_has_all(images):
    """Under the bleed trails of a star every image lacks other columns, and at no row of them all images have data."""
    science, weight = images
    weight[0][:, :395], weight[1][:, 395:415], weight[2][:, 415:] = 0.0, 0.0, 0.0
    before = stack(science, weight)
    match_levels(science, weight, SCALES)
    after = stack(science, weight)
    columns = (slice(360, 390), slice(395, 415), slice(420, 450))
    steps = [[image[300:700, c].mean() for c in columns] for image in (before, after)]
    error = SIGMA * np.sqrt(1.0 / (400 * 20))
    assert np.ptp(steps[0]) > 30 * error
    assert np.ptp(steps[1]) < 4 * np.hypot(error, 2.0)


def test_the_level_beside_a_star_is_not_that_of_its_rows(images):
    """One image ends beside a star whose halo is brighter in it: beyond, the stack keeps to the level of the sky."""
    science, weight = images
    y, x = np.mgrid[:NY, :NX]
    halo = 600.0 * np.exp(-np.hypot(x - 200, y - 500) / 25.0)
    science[0] += (halo / SCALES[0]).astype(np.float32)
    science[1] -= np.where(np.hypot(x - 300, y - 500) < 350, 100.0 / SCALES[1], 0.0).astype(np.float32)
    weight[1][:] = weight[1].max()
    weight[0][:, 216:], weight[2][:] = 0.0, weight[2].max()
    match_levels(science, weight, SCALES)
    after = stack(science, weight)
    far = [after[rows, 480:740].mean() for rows in (slice(450, 550), slice(100, 200))]
    assert far[0] == pytest.approx(far[1], abs=4 * SIGMA / np.sqrt(100 * 260) + 1.0)


def test_images_that_overlap_with_none_stay(images):
    science, weight = images
    weight[0][:, 300:], weight[1][:, :300], weight[2][:] = 0.0, 0.0, 0.0
    before = [image.copy() for image in science]
    match_levels(science, weight, SCALES)
    for image, old in zip(science, before, strict=True):
        assert np.array_equal(image, old)
