"""Noise of pixels is a part of the error of every flux that holds their light."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.difference.fakes import add_sources
from imaging.difference.filter import significance
from imaging.difference.residual_noise import ResidualNoise
from tests.difference.drawn import FWHM, SIGMA, difference_of

SIDE, SPACING, BLOCK = 704, 32, 8
EXTRA = 8.0
"""Variance that the pixels of a block have more, in units of that of the others."""


def distances():
    """Return the distance of every pixel from the edge of the next square block; negative inside it."""
    away = np.abs((np.indices((SIDE, SIDE)) % SPACING) - SPACING // 2 + 0.5)
    return away.max(axis=0) - 0.5 * BLOCK


def searched(seed, *, masked=False, spread=True):
    """Return the score where blocks of pixels are noisier, and the difference; noise is stated pixel by pixel."""
    noisy = distances() < 0
    sigma = SIGMA * np.where(noisy, np.sqrt(1.0 + EXTRA), 1.0)
    weight = np.full((SIDE, SIDE), 1.0 / SIGMA**2, np.float32)
    if masked:
        weight[:, SPACING // 2 :: SPACING] = 0.0  # a column through every block
    difference = difference_of(np.random.default_rng(seed).normal(0.0, sigma), weight=weight)
    filtered, before = difference.filtered, (difference.filtered.norm.copy(), difference.weight.copy())
    noise = ResidualNoise(filtered, difference.weight, (0.0, 0.0), FWHM, 0.27)
    flux = filtered.numerator / filtered.norm
    rows, columns = np.nonzero(noisy & (weight > 0))
    noise.add(rows, columns, np.full(rows.size, EXTRA * SIGMA**2 / noise.pixel_variance))
    if spread:
        noise.spread(*before)
    assert filtered.numerator / filtered.norm == pytest.approx(flux, rel=1e-4, abs=1e-2)
    return significance(filtered, 0.0, 0.0, np.ones(difference.tiling.grid), difference.tiling), difference


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", [3, 4])
def test_the_score_beside_noisy_pixels_has_unit_width(seed, masked):
    distance = distances()
    distance[:40], distance[-40:], distance[:, :40], distance[:, -40:] = 40.0, 40.0, 40.0, 40.0
    rings = [(distance > low) & (distance < low + 1.0) for low in (0.0, 1.0, 2.0, 4.0)]
    after, _ = searched(seed, masked=masked)
    without, _ = searched(seed, masked=masked, spread=False)
    assert [after[ring].std() for ring in rings] == pytest.approx([1.0] * 4, abs=0.06)  # 400 blocks: 2 to 3 %
    assert without[rings[0]].std() > 1.6 and without[rings[1]].std() > 1.2
    assert np.abs(after[distance < 0]).std() < 1.0


def test_fakes_beside_noisy_pixels_have_the_score_of_their_flux_over_its_error():
    _, difference = searched(5)
    difference = replace(difference, image=np.zeros_like(difference.image))
    difference.filtered.numerator[:] = 0.0
    y, x = (p.ravel() for p in np.meshgrid(np.arange(80, 600, 64), np.arange(80, 600, 64), indexing="ij"))
    x = x + np.arange(x.size) % 12  # from the middle of a block to the sky between
    error = 1.0 / np.sqrt(difference.filtered.norm[y, x])
    copy = add_sources(difference, x.astype(float), y.astype(float), 300.0 * error, np.random.default_rng(6))
    assert error.max() / error.min() > 2.5
    assert copy.score[y, x] == pytest.approx(np.full(x.size, 300.0), rel=0.05)  # photon noise: 1 per cent


def test_noise_that_is_the_same_in_all_pixels_stays_what_it_is():
    difference = difference_of(np.zeros((200, 200)))
    filtered, before = difference.filtered, (difference.filtered.norm.copy(), difference.weight.copy())
    noise = ResidualNoise(filtered, difference.weight, (0.0, 0.0), FWHM, 0.27)
    noise.add_image(np.full((200, 200), 3.0, np.float32) / before[0])
    added = filtered.norm.copy()
    noise.spread(*before)
    inside = (slice(20, -20), slice(20, -20))
    assert (filtered.norm / before[0])[inside] == pytest.approx(0.25, rel=2e-3)
    assert np.all(filtered.norm <= added)


def test_errors_are_multiplied_where_the_factor_is_above_one():
    difference = difference_of(np.random.default_rng(1).normal(0.0, SIGMA, (100, 100)))
    noise = ResidualNoise(difference.filtered, difference.weight, (0.0, 0.0), FWHM, 0.27)
    rows, columns = np.array([40, 50, 60]), np.array([30, 30, 30])
    before, significance_before = noise.measured_at(rows, columns)
    assert noise.multiply(rows, columns, np.array([0.5, 1.0, 3.0])) == 1
    after, significance_after = noise.measured_at(rows, columns)
    assert np.sqrt(after / before) == pytest.approx([1.0, 1.0, 3.0], rel=1e-5)
    assert significance_after == pytest.approx(significance_before / [1.0, 1.0, 3.0], rel=1e-5)


def test_known_errors_are_those_of_noise_scale_and_position():
    y, x = np.indices((60, 60))
    difference = difference_of(np.random.default_rng(8).normal(0.0, SIGMA, (60, 60)))
    filtered = difference.filtered
    template = filtered.template_flux
    template[:] = 4e4 * np.exp(-((x - 31.0) ** 2 + (y - 28.0) ** 2) / 40.0)
    noise = ResidualNoise(filtered, difference.weight, (0.02, 0.05), FWHM, 0.27)
    rows, columns = (values.ravel() for values in np.mgrid[20:40, 20:40])
    variance, significance = noise.measured_at(rows, columns)
    slope_y, slope_x = np.gradient(template.astype(float))
    parts = 1.0 / filtered.norm, (0.02 * template) ** 2, 0.05**2 * (slope_x**2 + slope_y**2)
    expected = sum(parts)[rows, columns]
    assert variance == pytest.approx(expected, rel=1e-5)
    flux = (filtered.numerator / filtered.norm)[rows, columns]
    assert significance == pytest.approx(flux / np.sqrt(expected), rel=1e-5)
    assert all(part[rows, columns].max() > 0.5 * parts[0][rows, columns].max() for part in parts)
