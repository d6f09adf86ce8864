"""The matched filter and its tiles: analytic significances, least squares written out, scipy's filters."""

import numpy as np
import pytest
from known_pairs import TO_SIGMA, draw, profile
from scipy.ndimage import uniform_filter
from scipy.signal import correlate2d, fftconvolve

from imaging.difference.filter import (
    FilteredDifference,
    flux_errors,
    good_share,
    matched_filter,
    measure_scale_error,
    significance,
)
from imaging.difference.tiles import Tiling, bands, filter_tiles, pixels_of, tiling_of

SHAPE = (150, 170)
TILING = Tiling(SHAPE, 64, 12)
FWHM, SIGMA = 4.2, 6.0
STAMP = draw(profile(FWHM), [12.0], [12.0], [1.0], (25, 25))
STAMPS = np.broadcast_to(STAMP, (*TILING.grid, 25, 25))
NOISE_PIXELS = 4 * np.pi * (FWHM * TO_SIGMA) ** 2


def filtered_with(science, weight=None, model=None, stamps=STAMPS, core: int = 2) -> FilteredDifference:
    weight = np.full(SHAPE, SIGMA**-2) if weight is None else weight
    model = np.zeros(SHAPE) if model is None else model
    return matched_filter(*(a.astype(np.float32) for a in (science, weight, model)), stamps, core, TILING)


def test_star_has_its_flux_and_the_analytic_signal_to_noise():
    x, y, flux = np.array([40.0, 64.0, 120.0]), np.array([50.0, 63.0, 130.0]), np.array([2000.0, -500.0, 9000.0])
    filtered = filtered_with(draw(profile(FWHM), x, y, flux, SHAPE))
    score = significance(filtered, 0.0, 0.0, np.ones(TILING.grid), TILING)
    j, i = y.astype(int), x.astype(int)
    assert filtered.numerator[j, i] / filtered.norm[j, i] == pytest.approx(flux, rel=1e-4)
    assert score[j, i] == pytest.approx(flux / (SIGMA * np.sqrt(NOISE_PIXELS)), rel=1e-3)
    assert score[j, i] == pytest.approx(flux * np.sqrt((STAMP**2).sum()) / SIGMA, rel=1e-4)
    # a source d pixels away is seen as exp(-d^2 / 4 s^2) of itself
    assert score[j, i + 2] / score[j, i] == pytest.approx(np.exp(-1.0 / (FWHM * TO_SIGMA) ** 2), rel=0.01)


def test_score_of_noise_is_a_normal_deviate_correlated_like_the_psf():
    noise = np.random.default_rng(1).normal(0.0, SIGMA, SHAPE)
    filtered = filtered_with(noise)
    score = significance(filtered, 0.0, 0.0, np.ones(TILING.grid), TILING)[14:-14, 14:-14]
    independent = score.size / NOISE_PIXELS
    assert score.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * independent))
    assert score.mean() == pytest.approx(0.0, abs=4 / np.sqrt(independent))
    lag = np.mean(score[:, 2:] * score[:, :-2]) / score.var()
    assert lag == pytest.approx(np.exp(-1.0 / (FWHM * TO_SIGMA) ** 2), abs=0.05)
    assert filtered.norm[75, 85] == pytest.approx(1 / (SIGMA**2 * NOISE_PIXELS), rel=1e-3)


def test_weighted_sums_are_least_squares_of_the_psf_at_the_place():
    rng = np.random.default_rng(2)
    lopsided = draw(profile(3.4), [12.0, 15.0], [12.0, 13.0], [0.7, 0.3], (25, 25))
    stamps = np.broadcast_to(lopsided, (*TILING.grid, 25, 25))
    science, model = rng.normal(0.0, SIGMA, (2, *SHAPE))
    weight = rng.uniform(0.01, 0.05, SHAPE) * (rng.random(SHAPE) > 0.1)
    filtered = filtered_with(science, weight, model, stamps)
    for x, y in ((60, 40), (64, 64), (63, 127), (128, 70)):
        window = (slice(y - 12, y + 13), slice(x - 12, x + 13))
        design, root = lopsided.ravel()[:, None], np.sqrt(weight[window]).ravel()
        for image, flux in (
            (science, filtered.numerator[y, x] / filtered.norm[y, x]),
            (model, filtered.template_flux[y, x]),
        ):
            expected = np.linalg.lstsq(design * root[:, None], image[window].ravel() * root, rcond=None)[0][0]
            assert flux == pytest.approx(expected, rel=1e-3, abs=0.02)
        assert filtered.norm[y, x] == pytest.approx((weight[window] * lopsided**2).sum(), rel=1e-4)
    # correlated with the PSF, not convolved with it
    expected = correlate2d(science * weight, lopsided, mode="same")
    assert filtered.numerator == pytest.approx(expected, abs=1e-3)


def test_each_tile_is_filtered_with_its_own_psf():
    stamps = STAMPS.copy()
    stamps[1, 2] = draw(profile(2 * FWHM), [12.0], [12.0], [1.0], (25, 25))
    filtered = filtered_with(np.zeros(SHAPE), stamps=stamps)
    ratio = filtered.norm[100, 127] / filtered.norm[100, 128]
    assert ratio == pytest.approx((STAMP**2).sum() / (stamps[1, 2] ** 2).sum(), rel=1e-3)
    assert filtered.norm[63, 135] == pytest.approx(filtered.norm[70, 80], rel=1e-3)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_share_of_good_pixels_is_that_of_a_square_with_nothing_beyond_the_edges(radius):
    weight = (np.random.default_rng(3).random((37, 29)) > 0.4).astype(np.float32)
    expected = uniform_filter(weight.astype(float), 2 * radius + 1, mode="constant")
    assert good_share(weight, radius) == pytest.approx(expected, abs=1e-6)


def test_no_score_where_less_than_half_of_the_core_is_good():
    weight = np.full(SHAPE, SIGMA**-2)
    weight[80:, :] = 0.0
    filtered = filtered_with(np.ones(SHAPE), weight, 5.0 * np.ones(SHAPE))
    # 15 of 25 pixels are good at row 79, 10 at row 80
    assert (filtered.norm[79, 20:150] > 0).all()
    assert not filtered.norm[80:, 20:150].any()
    assert not filtered.template_flux[80:, 20:150].any()
    assert (filtered.norm[0, 20:150] > 0).all()  # 15 of 25 at the edge
    assert not filtered.norm[0, 0]  # 9 of 25 in the corner


def test_errors_are_those_of_the_score_and_infinite_without_one():
    rng = np.random.default_rng(4)
    norm = rng.uniform(0.5, 2.0, SHAPE).astype(np.float32)
    norm[70, 90] = 0.0
    template, numerator = (rng.normal(0.0, s, SHAPE).astype(np.float32) for s in (300.0, 5.0))
    filtered = FilteredDifference(numerator, norm, template, STAMPS)
    widths = rng.uniform(0.9, 1.2, TILING.grid)
    x, y = np.array([40.4, 63.6, 169.0, 0.0, 100.0, 90.0]), np.array([30.4, 127.6, 149.0, 0.0, 64.0, 70.0])
    noise, systematic = flux_errors(filtered, x, y, 0.01, 0.04, widths, TILING)
    assert noise[0] == pytest.approx(widths[0, 0] / np.sqrt(norm[30, 40]))
    slope = 0.5 * np.hypot(template[30, 41] - template[30, 39], template[31, 40] - template[29, 40])
    assert systematic[0] == pytest.approx(widths[0, 0] * np.hypot(0.01 * template[30, 40], 0.04 * slope), rel=1e-5)
    assert noise[1] == pytest.approx(widths[2, 1] / np.sqrt(norm[128, 64]))
    assert noise[-1] == np.inf
    score = significance(filtered, 0.01, 0.04, widths, TILING)
    j, i = np.rint(y[:-1]).astype(int), np.rint(x[:-1]).astype(int)
    expected = numerator[j, i] / norm[j, i] / np.hypot(noise, systematic)[:-1]
    assert score[j, i] == pytest.approx(expected, rel=1e-4)
    outside = flux_errors(filtered, np.array([-4.0, 500.0]), np.array([75.0, 500.0]), 0.0, 0.0, widths, TILING)[0]
    assert outside == pytest.approx([widths[1, 0] / norm[75, 0] ** 0.5, widths[2, 2] / norm[149, 169] ** 0.5])


@pytest.mark.parametrize("axis", [0, 1])
def test_significance_falls_with_the_slope_of_the_template_along_either_axis(axis):
    ramp = np.broadcast_to(100.0 * np.arange(SHAPE[axis])[:, None] if axis == 0 else 100.0 * np.arange(SHAPE[1]), SHAPE)
    ones = np.ones(SHAPE, np.float32)
    filtered = FilteredDifference(10 * ones, ones, ramp.astype(np.float32), STAMPS)
    score = significance(filtered, 0.0, 0.03, np.full(TILING.grid, 2.0), TILING)
    # an error of 0.03 pixels on 100 electrons per pixel is 3 electrons beside the noise's one; at the edge half of it
    assert score[70, 70] == pytest.approx(10 / np.sqrt(1 + 3.0**2) / 2, rel=1e-5)
    edge = score[0, 70] if axis == 0 else score[70, 0]
    assert edge == pytest.approx(10 / np.sqrt(1 + 1.5**2) / 2, rel=1e-5)
    tilted = significance(filtered, 0.02, 0.0, np.ones(TILING.grid), TILING)
    assert tilted[70, 70] == pytest.approx(10 / np.sqrt(1 + (0.02 * 7000) ** 2), rel=1e-5)


def bright_sources(scale: float, displaced: float, seed: int = 5) -> FilteredDifference:
    """Template flux with slopes, and what a wrong scale, a wrong place and noise leave of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flux = 4000.0 + 1500.0 * np.sin(x / 4.0) * np.cos(y / 5.0)
    gy, gx = np.gradient(flux)
    left = scale * flux * rng.normal(size=SHAPE) + rng.normal(size=SHAPE)
    left += displaced * (gx * rng.normal(size=SHAPE) + gy * rng.normal(size=SHAPE))
    one = np.ones(SHAPE, np.float32)
    return FilteredDifference(left.astype(np.float32), one, flux.astype(np.float32), STAMPS)


@pytest.mark.parametrize(("scale", "displaced"), [(0.01, 0.0), (0.01, 0.1), (0.002, 0.1), (0.0, 0.0)])
def test_scale_error_does_not_count_what_noise_and_displacement_explain(scale, displaced):
    filtered = bright_sources(scale, displaced)
    found = measure_scale_error(filtered, displaced, min_snr=50.0, maximum=0.05)
    assert found == pytest.approx(scale, rel=0.1, abs=1e-4)


def test_scale_error_is_bounded_and_needs_a_hundred_bright_pixels():
    assert measure_scale_error(bright_sources(0.2, 0.0), 0.0, min_snr=50.0, maximum=0.05) == pytest.approx(0.05)
    flux, one = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    flux[0], flux[:, -1] = 500.0, 500.0  # the edge does not count
    flux[20:30, 20:30] = 500.0
    filtered = FilteredDifference(0.02 * flux, one, flux, STAMPS)
    assert measure_scale_error(filtered, 0.0, min_snr=499.0, maximum=0.05) > 0.01
    flux[20, 20] = 0.0
    assert np.isnan(measure_scale_error(filtered, 0.0, min_snr=499.0, maximum=0.05))
    flux[20, 20] = -500.0
    assert np.isnan(measure_scale_error(filtered, 0.0, min_snr=499.0, maximum=0.05))


def test_rings_that_a_wrong_psf_leaves_around_bright_stars_are_no_error_of_the_scale():
    """Stars wrong by 0.5 per cent rms at their peaks, and by 10 per cent of the light where it falls below a half."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flux, left = np.zeros(SHAPE), rng.normal(size=SHAPE)
    for j in range(7, SHAPE[0] - 6, 15):
        for i in range(7, SHAPE[1] - 6, 15):
            shape = np.exp(-0.5 * ((y - j) ** 2 + (x - i) ** 2) / 3.0**2)
            flux += 2e4 * shape
            left += 2e4 * shape * np.where(shape > 0.5, rng.normal(0.0, 0.005), 0.1)
    filtered = FilteredDifference(*(p.astype(np.float32) for p in (left, np.ones(SHAPE), flux)), STAMPS)
    found = measure_scale_error(filtered, 0.0, min_snr=50.0, maximum=0.05)
    assert found == pytest.approx(0.005, rel=0.25)  # 110 stars


def test_tiles_cover_the_image_once_and_know_their_centres():
    counted, (x, y) = np.zeros(SHAPE, int), TILING.centres()
    for row, column, ys, xs in TILING:
        counted[ys, xs] += 1
        assert (y[row, column], x[row, column]) == (0.5 * (ys.start + ys.stop - 1), 0.5 * (xs.start + xs.stop - 1))
        for b, a in ((ys.start, xs.start), (ys.stop - 1, xs.stop - 1)):
            assert TILING.index(a, b) == (row, column)
    assert TILING.grid == (3, 3)
    assert (counted == 1).all()
    assert TILING.index(63.49, 63.51) == (1, 0)  # a pixel reaches half a pixel either way
    assert TILING.index(-30.0, 1e6) == (2, 0)
    assert min(TILING.fft_shape) >= 64 + 24
    assert [(r.start, r.stop) for r in bands(600, 256)] == [(0, 256), (256, 512), (512, 600)]


@pytest.mark.parametrize(
    ("shape", "tile"), [((2000, 1000), 256), ((2000, 400), 200), ((301, 900), 151), ((90, 500), 64), ((50, 50), 64)]
)
def test_small_images_have_two_tiles_along_their_shorter_side(shape, tile):
    assert tiling_of(shape, 256, 20) == Tiling(shape, tile, 20)


def test_a_tile_is_cut_with_its_border_and_zeros_beyond_the_image():
    image = np.random.default_rng(6).normal(size=SHAPE).astype(np.float32)
    padded = np.pad(image, 200)
    for row, column, _, _ in TILING:
        plane = TILING.cut(row, column, pixels_of(image))
        y0, x0 = 200 + 64 * row - 12, 200 + 64 * column - 12
        assert np.array_equal(plane, padded[y0 : y0 + plane.shape[0], x0 : x0 + plane.shape[1]])


def test_kernels_of_two_images_differ_from_tile_to_tile():
    rng = np.random.default_rng(7)
    images = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    kernels = [rng.normal(size=(*TILING.grid, side, side)) for side in (5, 21)]
    out = filter_tiles(
        TILING, tuple(pixels_of(i) for i in images), lambda row, column: tuple(k[row, column] for k in kernels)
    )
    for result, image, kernel in zip(out, images, kernels, strict=True):
        for row, column, y, x in TILING:
            expected = fftconvolve(image.astype(float), kernel[row, column], mode="same")
            assert result[y, x] == pytest.approx(expected[y, x], abs=2e-4)
