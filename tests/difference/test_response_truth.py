"""A point source in the whitened difference, against galsim, scipy and made photons."""

from dataclasses import replace

import numpy as np
import pytest
from known_pairs import TO_SIGMA, draw, profile, psf_model
from photutils.aperture import CircularAperture, aperture_photometry
from scipy.signal import convolve2d

from imaging.difference.noise import HALF, TileNoise
from imaging.difference.part_kernels import PartKernels
from imaging.difference.response import (
    PSF_HALF_WIDTH,
    difference_psf,
    draw_response,
    draw_source,
    photon_factor,
    psf_flux_error,
    respond,
    response_at,
    tile_scales,
    tile_stamps,
)
from imaging.difference.tiles import Tiling

TILING = Tiling((256, 384), 128, 20)
SIDE = 2 * HALF + 1
FWHM = 4.2
PSF = psf_model(profile(FWHM))


def gaussian(sigma: float) -> np.ndarray:
    line = np.exp(-0.5 * (np.arange(-HALF, HALF + 1) / sigma) ** 2)
    return (np.outer(line, line) / line.sum() ** 2).astype(np.float32)


def noise_of(responses: np.ndarray, tiling: Tiling = TILING) -> TileNoise:
    whole = np.broadcast_to(responses, (*tiling.grid, SIDE, SIDE)).astype(np.float32)
    return TileNoise(whole, whole, np.ones(tiling.grid), np.ones(tiling.grid))


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.45), (-0.5, 0.2)])
def test_source_is_drawn_where_its_offset_says(offset):
    expected = draw(profile(FWHM), [10.0 + offset[0]], [10.0 + offset[1]], [1.0], (21, 21))
    # the eight taps of the interpolation keep a thousandth of the peak
    assert draw_source(PSF, 50.0, 60.0, 10, offset) == pytest.approx(expected, abs=1.5e-3 * expected.max())


def test_response_is_a_convolution_that_keeps_its_direction():
    rng = np.random.default_rng(1)
    response, stamp = rng.normal(size=(SIDE, SIDE)).astype(np.float32), rng.normal(size=(61, 61))
    expected = convolve2d(stamp, response, mode="valid")
    assert respond(stamp, response) == pytest.approx(expected, abs=1e-4)
    moved = np.zeros((SIDE, SIDE), np.float32)
    moved[HALF + 1, HALF - 2] = 1.0
    seen = draw_response(PSF, moved, 10.0, 10.0, 12, (0.25, 0.0))
    expected = draw(profile(FWHM), [12.0 + 0.25 - 2.0], [12.0 + 1.0], [1.0], (25, 25))
    assert seen == pytest.approx(expected, abs=1.5e-3 * expected.max())


def test_psf_of_the_difference_is_as_wide_as_both_together():
    psf = difference_psf(PSF, noise_of(gaussian(1.5)), TILING)
    sigma = np.hypot(FWHM * TO_SIGMA, 1.5)
    # counted in samples of half a pixel, of which eight at a time have one distance from the middle
    assert psf.fwhm_pixels == pytest.approx(sigma / TO_SIGMA, rel=0.02)
    assert psf.n_stars == 50
    expected = draw(profile(sigma / TO_SIGMA), [15.3], [14.6], [1.0], (31, 31))
    assert psf.stamp(200.3, 99.6, 15)[0:30, 0:30] == pytest.approx(expected[0:30, 0:30], abs=2e-3 * expected.max())
    stamp = psf.stamp(200.0, 100.0, 15)
    assert aperture_photometry(stamp, CircularAperture((15, 15), 11.11))["aperture_sum"][0] == pytest.approx(
        1 - np.exp(-0.5 * (11.11 / sigma) ** 2), abs=2e-3
    )


def test_response_that_widens_to_the_right_is_seen_there():
    responses = np.array([gaussian(s) for s in (0.8, 1.2, 1.6)])[None]
    noise = noise_of(responses)
    stamps = tile_stamps(PSF, noise, TILING)
    assert stamps.shape == (2, 3, 2 * PSF_HALF_WIDTH + 1, 2 * PSF_HALF_WIDTH + 1)
    psf = difference_psf(PSF, noise, TILING)
    for column, sigma in enumerate((0.8, 1.2, 1.6)):
        total = np.hypot(FWHM * TO_SIGMA, sigma)
        peak = 1 / (2 * np.pi * total**2)
        assert stamps[:, column, PSF_HALF_WIDTH, PSF_HALF_WIDTH] == pytest.approx([peak, peak], rel=2e-3)
        # a quadratic through three steps of the width
        assert psf.stamp(64.0 + 128 * column, 128.0, 2)[2, 2] == pytest.approx(peak, rel=0.02)


def noise_of_a_widening_kernel(whitening: np.ndarray) -> TileNoise:
    """The kernel of the search image is a mixture of two whose shares change linearly with x; (3,) factors whiten."""
    point = np.zeros((SIDE, SIDE), np.float32)
    point[HALF, HALF] = 1.0
    share = np.broadcast_to(TILING.centres()[0][..., None, None] / 384, (*TILING.grid, 1, 1))
    kernels = (1 - share) * gaussian(0.8) + share * gaussian(1.6)
    factors = np.broadcast_to(np.asarray(whitening, np.float32)[None, :, None, None], (*TILING.grid, 1, 1))
    ones = np.ones(TILING.grid)
    parts = PartKernels.of(None, kernels, np.zeros((1, SIDE, SIDE)), TILING)
    return TileNoise(factors * point, (factors * kernels).astype(np.float32), ones, ones, parts)


@pytest.mark.parametrize(("x", "factor"), [(63.5, 1.0), (10.0, 1.0), (127.0, 1.0), (128.0, 1.1), (380.0, 0.9)])
def test_a_source_sees_the_kernel_at_its_place_and_the_whitening_of_its_tile(x, factor):
    noise = noise_of_a_widening_kernel(np.array([1.0, 1.1, 0.9]))
    expected = factor * ((1 - x / 384) * gaussian(0.8) + x / 384 * gaussian(1.6))
    assert response_at(noise, TILING, x, 100.0) == pytest.approx(expected, abs=2e-6)
    tile = noise.response[TILING.index(x, 100.0)]
    assert np.array_equal(response_at(replace(noise, parts=None), TILING, x, 100.0), tile)


def test_flux_error_of_the_psf_model_is_what_steps_of_the_whitening_leave():
    steps = np.array([1.0, 1.02, 1.0])
    for whitening in (np.ones(3), steps):
        noise = noise_of_a_widening_kernel(whitening)
        psf = difference_psf(PSF, noise, TILING)
        error, ratios = psf_flux_error(PSF, psf, noise, TILING), []
        for x in np.arange(20.0, 370.0, 5.0):
            share = x / 384
            seen = draw_response(PSF, gaussian(0.8) * (1 - share) + gaussian(1.6) * share, x, 120.0, PSF_HALF_WIDTH)
            model = psf.stamp(x, 120.0, PSF_HALF_WIDTH)
            ratios.append(whitening[int(x // 128)] * np.sum(seen * model) / np.sum(model**2))
        expected = np.sqrt(np.mean((np.array(ratios) - 1) ** 2))
        # five places along x sample the steps as well as 70 to a third
        assert error == pytest.approx(expected, rel=0.35, abs=5e-4)
        assert (error > 0.003) == (whitening is steps)


def test_tiles_of_a_convolved_template_are_scaled_so_that_fluxes_are_right():
    """The whitening differs from tile to tile by two per cent, and the PSF model is smooth."""
    tiling = Tiling((128, 1024), 128, 20)
    steps = np.array([[1.0, 1.02] * 4])[..., None, None]
    noise = noise_of(steps * gaussian(1.0), tiling)
    psf = difference_psf(PSF, noise, tiling)
    scales = tile_scales(tile_stamps(PSF, noise, tiling), psf, tiling)
    scaled = replace(noise, response=noise.response * scales[..., None, None])
    before, after = (psf_flux_error(PSF, psf, given, tiling) for given in (noise, scaled))
    assert before > 0.005
    assert after < 0.5 * before


def test_photons_are_weighed_with_the_filter_that_sees_them():
    """Photons of a source, counted by Poisson and passed through the response, scatter its flux as predicted."""
    rng = np.random.default_rng(2)
    half, flux = 10, 4e4
    response = gaussian(0.9) * 1.6 - 0.6 * gaussian(1.8) + 0.1 * np.roll(gaussian(0.9), 2, axis=1)
    source = draw_source(PSF, 192.0, 128.0, half + HALF)
    seen = respond(source, response)
    light = flux * np.maximum(source, 0.0)
    fluxes = []
    for _ in range(1500):
        image = respond(rng.poisson(light).astype(float), response)
        fluxes.append((image * seen).sum() / (seen**2).sum())
    white = flux * (seen * seen**2).sum() / (seen**2).sum() ** 2
    # 1500 draws know a variance to 3.7 percent
    assert photon_factor(PSF, noise_of(response), TILING) == pytest.approx(np.var(fluxes) / white, rel=0.12)
    point = np.zeros((SIDE, SIDE), np.float32)
    point[HALF, HALF] = 1.0
    assert photon_factor(PSF, noise_of(point), TILING) == pytest.approx(1.0, rel=1e-3)
