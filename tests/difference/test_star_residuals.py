"""Residuals of bright stars become noise where they are, and nowhere else."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from scipy.signal import fftconvolve

from imaging.bits import MaskBit
from imaging.difference.filter import FilteredDifference, significance
from imaging.difference.masks import share_beyond
from imaging.difference.records import Difference
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.star_residuals import (
    EDGE_PIXELS,
    EDGE_SNR,
    EDGE_STRIPS,
    EDGES_FWHM,
    END,
    GROUP,
    add_border_residuals,
    add_edge_residuals,
    add_star_residuals,
)
from imaging.image import MaskImage
from imaging.templates.stack import StackMakeup
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw, grid_places, model_of

SCALE = 0.27
"""Arcseconds per pixel."""

SHARE = 0.05
"""Fraction of a star's light that the template has too narrow a profile of."""


def stars(n: int, share: float, seed: int = 1) -> tuple:
    """Return places, fluxes, the stars' difference and their template; the PSF of the template is wrong."""
    rng = np.random.default_rng(seed)
    x, y, shape = grid_places(n, 60, rng)
    flux = 10 ** rng.uniform(5.3, 5.9, x.size)
    wrong = draw(shape, x, y, share * flux, galsim.Gaussian(fwhm=1.5 * FWHM)) - draw(shape, x, y, share * flux)
    return x, y, flux, wrong + rng.normal(0.0, SIGMA, shape), draw(shape, x, y, flux)


def copy_of(filtered: FilteredDifference) -> FilteredDifference:
    return replace(filtered, numerator=filtered.numerator.copy(), norm=filtered.norm.copy())


def noise_of(difference, scale_error: float = 0.0) -> ResidualNoise:
    """Return the noise of a copy of a difference."""
    return ResidualNoise(copy_of(difference.filtered), difference.weight.copy(), (scale_error, 0.0), FWHM, SCALE)


def scores(difference, filtered) -> np.ndarray:
    return significance(filtered, 0.0, 0.0, np.ones(difference.tiling.grid), difference.tiling)


def test_neither_core_nor_ring_of_a_star_is_significant_and_blank_sky_is_as_before():
    x, y, _, image, model = stars(6, SHARE)
    difference = difference_of(image, model=model)
    before, noise = difference.filtered, noise_of(difference)
    add_star_residuals(noise, difference.model)
    after, weight = noise.filtered, noise.weight
    gy, gx = np.indices(image.shape)
    distance = np.min([np.hypot(gx - a, gy - b) for a, b in zip(x, y, strict=True)], axis=0)
    old, new = scores(difference, before), scores(difference, after)
    near = distance < 12.0
    assert (np.abs(old[near]) > 5.0).sum() > 500
    # nine tenths of the pixels of a ring lie within 1.645 sigma, so that five are rare
    assert (np.abs(new[near]) > 5.0).mean() < 0.002
    assert np.percentile(np.abs(new[distance < 1.5]), 90) == pytest.approx(1.645, rel=0.15)
    far = distance > END + 1
    assert np.array_equal(after.norm[far], before.norm[far]) and np.array_equal(weight[far], difference.weight[far])
    flux_before, flux_after = (f.numerator / f.norm for f in (before, after))
    assert flux_after[20:-20, 20:-20] == pytest.approx(flux_before[20:-20, 20:-20], rel=1e-3, abs=0.05)


def test_the_noise_at_the_core_is_the_flux_that_the_filter_sees_there():
    *_, image, model = stars(7, SHARE)
    difference = difference_of(image, model=model)
    residual = add_star_residuals(noise_of(difference), difference.model)
    point = model_of(ROUND).stamp(0.0, 0.0, 20)
    wide = model_of(galsim.Gaussian(fwhm=1.5 * FWHM)).stamp(0.0, 0.0, 20)
    seen = SHARE * fftconvolve(wide - point, point[::-1, ::-1], mode="same") / np.sum(point**2)
    # all stars have it, so that it is 1.645 sigma; within 1.5 pixels it falls by a few per cent
    assert residual[0] == pytest.approx(abs(seen[20, 20]) / 1.645, rel=0.1)


def test_what_scale_and_position_explain_is_not_counted_again():
    rng = np.random.default_rng(3)
    x, y, shape = grid_places(6, 60, rng)
    flux = 10 ** rng.uniform(5.3, 5.9, x.size)
    image = draw(shape, x, y, flux * rng.normal(0.0, 0.01, x.size)) + rng.normal(0.0, SIGMA, shape)
    difference = difference_of(image, model=draw(shape, x, y, flux))
    plain = add_star_residuals(noise_of(difference), difference.model)
    known = add_star_residuals(noise_of(difference, 0.012), difference.model)
    assert plain[0] == pytest.approx(0.01, rel=0.35)
    assert known[0] < 0.5 * plain[0]


def test_rings_of_a_wide_psf_are_followed_farther_out():
    """The kernel of a search image of twice the template's seeing ends, and its rings lie, beyond 25 pixels."""
    rng = np.random.default_rng(5)
    x, y, shape = grid_places(5, 110, rng, margin=60)
    flux = 10 ** rng.uniform(5.8, 6.4, x.size)
    wide = galsim.Gaussian(fwhm=2.25 * FWHM)
    gy, gx = np.indices(shape)
    distance = np.hypot(gx[None] - x[:, None, None], gy[None] - y[:, None, None])
    image = rng.normal(0.0, SIGMA, shape) + np.sum(1e-5 * flux[:, None, None] * (np.abs(distance - 30.0) < 4.0), axis=0)
    difference = difference_of(image, model=draw(shape, x, y, flux, wide), psf=model_of(wide))
    noise = noise_of(difference)
    add_star_residuals(noise, difference.model)
    before, after = (scores(difference, filtered) for filtered in (difference.filtered, noise.filtered))
    ring = np.abs(distance.min(axis=0) - 30.0) < 6.0
    assert (np.abs(before[ring]) > 5.0).mean() > 0.3
    assert (np.abs(after[ring]) > 5.0).mean() < 0.002
    far = distance.min(axis=0) > END * 2.25 * FWHM / EDGES_FWHM + 1
    assert np.array_equal(after[far], before[far])


def test_one_variable_star_of_many_stays_significant():
    x, y, flux, image, model = stars(6, 0.0)
    k = 8
    image = image + draw(image.shape, [x[k]], [y[k]], [0.1 * flux[k]])
    difference = difference_of(image, model=model)
    noise = noise_of(difference)
    add_star_residuals(noise, difference.model)
    at = scores(difference, noise.filtered)[round(y[k]), round(x[k])]
    assert at > 0.6 * 0.1 * flux[k] / (SIGMA / np.sqrt(np.sum(model_of(ROUND).stamp(0.0, 0.0, 20) ** 2)))


def test_few_stars_change_nothing():
    *_, image, model = stars(3, SHARE)
    assert GROUP > 9
    difference = difference_of(image, model=model)
    noise = noise_of(difference)
    assert not add_star_residuals(noise, difference.model).any()
    assert np.array_equal(noise.filtered.norm, difference.filtered.norm)
    assert np.array_equal(noise.weight, difference.weight)


def test_a_star_near_the_border_is_as_uncertain_as_the_kernel_misses_of_it():
    """The truth is a convolution of a larger image; the counter-example is the same star far from the border."""
    kernel = galsim.Gaussian(sigma=2.5).drawImage(nx=21, ny=21, scale=1.0).array.astype(float)
    beyond = share_beyond(kernel)
    assert beyond[0] == pytest.approx(0.5 * (1 - kernel.sum(axis=0)[10] / kernel.sum()), rel=1e-3)
    assert beyond.size == 10 and np.all(np.diff(beyond) < 0)
    rng, cut, side = np.random.default_rng(4), 30, 1230
    x, y = rng.uniform(cut, 60, 60), 30 + 20 * np.arange(60.0)
    drawn = draw((side, 200), x, y, np.full(60, 1e6))  # the image begins at x = 30
    true = fftconvolve(drawn, kernel, mode="same")[:, cut:]
    padded = np.pad(drawn[:, cut:], ((0, 0), (10, 0)), mode="edge")
    model = fftconvolve(padded, kernel, mode="same")[:, 10:]
    image = true - model + rng.normal(0.0, SIGMA, true.shape)
    difference = difference_of(image, model=model)
    before, noise = scores(difference, difference.filtered), noise_of(difference)
    add_border_residuals(noise, beyond)
    after = scores(difference, noise.filtered)
    inner = np.s_[20:-20, 2:10]
    assert (np.abs(before[inner]) > 5.0).mean() > 0.04
    assert (np.abs(after[inner]) > 5.0).mean() < 0.01
    assert after[20:-20, 60:-60] == pytest.approx(before[20:-20, 60:-60], abs=0.01)


def edge_stars(n: int, left: int = 0) -> tuple[Difference, MaskImage]:
    """Return the difference of stars beside an edge whose light is wrong by 8 per cent rms, and its mask.

    ``left`` pixels beyond the edge have no template; without them the edge is the left border.
    """
    rng = np.random.default_rng(5)
    x, y, flux = left + rng.uniform(7, 16, n), 60 + 24 * np.arange(float(n)), 10 ** rng.uniform(4.7, 5.7, n)
    shape = (120 + 24 * n, 140 + left)
    image = draw(shape, x, y, flux * rng.normal(0.0, 0.08, n)) + rng.normal(0.0, SIGMA, shape)
    image += draw(
        shape, [left + 11.0, left + 80.0], [72.0, 72.0], [3e4, 3e4]
    )  # transients between two stars, and inside
    mask = np.zeros(shape, np.int16)
    mask[:, :left] = int(MaskBit.EDGE)
    return difference_of(image, model=draw(shape, x, y, flux)), mask


def makeup_with(ends_at: int, shape: tuple[int, int]) -> StackMakeup:
    """Return a stack of two templates, of which the first begins inside the block at a column."""
    shares = np.full((shape[0] // 32 + 1, shape[1] // 32 + 1, 2), 0.5)
    shares[:, : ends_at // 32] = 0.0, 1.0
    return StackMakeup(shares, 32, shares.mean(axis=(0, 1)), np.zeros((2, 41, 41)))


@pytest.mark.parametrize("edge", ["border", "end of all templates", "end of one template"])
def test_stars_beside_an_edge_are_as_uncertain_as_they_are_there(edge):
    left = 0 if edge == "border" else 100
    difference, mask = edge_stars(70, left)
    makeup = None
    if edge == "end of one template":
        makeup, mask = makeup_with(left, mask.shape), np.zeros_like(mask)
    before, noise = scores(difference, difference.filtered), noise_of(difference)
    add_edge_residuals(noise, mask, makeup)
    after, strip = scores(difference, noise.filtered), np.s_[90:-60, left + 4 : left + 20]
    assert (np.abs(before[strip]) > 5.0).mean() > 0.05
    assert (np.abs(after[strip]) > 5.0).mean() < 0.002
    inner = np.s_[EDGE_STRIPS[-1] : -EDGE_STRIPS[-1], left + 64 : -EDGE_STRIPS[-1]]
    assert np.array_equal(after[inner], before[inner])
    assert after[72, left + 80] > 20.0
    assert after[72, left + 11] == pytest.approx(before[72, left + 11], rel=0.05)  # a transient on blank sky stays


def test_few_stars_beside_the_border_change_nothing():
    difference, mask = edge_stars(8)
    noise = noise_of(difference)
    add_edge_residuals(noise, mask)
    assert np.array_equal(noise.filtered.norm, difference.filtered.norm)


def test_one_bright_variable_beside_the_border_does_not_stand_for_all_stars():
    shape, place, wings = (1800, 140), ([30.0], [900.0]), galsim.Gaussian(fwhm=6 * FWHM)
    image = draw(shape, *place, [3e7], wings) + np.random.default_rng(6).normal(0.0, SIGMA, shape)
    difference = difference_of(image, model=draw(shape, *place, [3e8], wings))
    bright = difference.filtered.template_flux * np.sqrt(difference.filtered.norm) > EDGE_SNR
    assert bright[:, 24:36].sum() > EDGE_PIXELS
    noise = noise_of(difference)
    add_edge_residuals(noise, np.zeros(shape, np.int16))
    assert np.array_equal(noise.filtered.norm, difference.filtered.norm)
