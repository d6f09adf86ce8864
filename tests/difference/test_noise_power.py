"""The noise of a difference from the power spectra of its parts, against full transforms and made noise."""

import numpy as np
import pytest
from scipy.ndimage import shift
from scipy.signal import fftconvolve, lfilter

from imaging.difference.filter import FilteredDifference
from imaging.difference.noise import (
    GRID,
    HALF,
    SPECTRUM_FLOOR,
    TileNoise,
    correlation_power,
    lag_one,
    noise_width,
    predicted_weight,
    real_space,
    tile_correlation,
    tile_medians,
    tile_noise,
    whiten,
)
from imaging.difference.point_noise import correct_variances
from imaging.difference.tiles import Tiling

TILING = Tiling((96, 128), 64, 20)
ONE = np.ones((1, 1))


def gaussian(sigma: float, total: float = 1.0, half: int = 9) -> np.ndarray:
    line = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    image = np.outer(line, line)
    return total * image / image.sum()


def white(*shape: int) -> np.ndarray:
    correlation = np.zeros((*shape, 6, 6))
    correlation[..., 0, 0] = 1.0
    return correlation


def halves() -> np.ndarray:
    """The autocorrelation of noise that was interpolated half-way between columns."""
    correlation = white(1, 1)
    correlation[..., 0, 1] = 0.5
    return correlation


def one_tile(search, template, variances, correlation=None, decorrelate: bool = True) -> TileNoise:
    return tile_noise(
        *(search[None, None], template[None, None], variances[0] * ONE, variances[1] * ONE),
        white(1, 1) if correlation is None else correlation,
        decorrelate=decorrelate,
    )


def full_transform(kernel: np.ndarray) -> np.ndarray:
    plane, half = np.zeros((GRID, GRID)), kernel.shape[0] // 2
    for j, i in np.ndindex(kernel.shape):
        plane[(j - half) % GRID, (i - half) % GRID] = kernel[j, i]
    return np.fft.fft2(plane)


@pytest.mark.parametrize(("search_total", "template_total"), [(1.0, 1.06), (0.9, 1.0)])
def test_whitened_variances_add_up_to_the_power_at_zero_frequency(search_total, template_total):
    search, template = np.full((1, 1), search_total), gaussian(1.4, template_total)
    noise = one_tile(search, template, (30.0, 11.0), halves())
    total = 30.0 * noise.search_factor + 11.0 * noise.template_factor
    # interpolation keeps the variance of long waves: at lag one there is 0.5 on either side
    assert total[0, 0] == pytest.approx(30.0 * search_total**2 + 11.0 * template_total**2 * 2.0, rel=1e-3)


@pytest.mark.parametrize("decorrelate", [True, False])
def test_factors_and_kernels_are_those_of_the_whole_plane_of_frequencies(decorrelate):
    rng = np.random.default_rng(1)
    search, template = gaussian(0.8) + rng.normal(0, 1e-3, (19, 19)), gaussian(1.1) + rng.normal(0, 1e-3, (19, 19))
    noise = one_tile(search, template, (4.0, 9.0), halves(), decorrelate)
    a, b = full_transform(search), full_transform(template)
    shape = 1 + np.cos(2 * np.pi * np.fft.fftfreq(GRID))[None, :]
    power = 4.0 * np.abs(a) ** 2 + 9.0 * shape * np.abs(b) ** 2
    power = np.maximum(power, SPECTRUM_FLOOR * power.max())
    gain = np.sqrt(power[0, 0] / power) if decorrelate else np.ones(power.shape)
    assert noise.search_factor[0, 0] == pytest.approx(np.mean(gain**2 * np.abs(a) ** 2), rel=1e-6)
    assert noise.template_factor[0, 0] == pytest.approx(np.mean(gain**2 * shape * np.abs(b) ** 2), rel=1e-6)
    for kernel, spectrum in ((noise.whitening, gain), (noise.response, gain * a)):
        plane = np.roll(np.fft.ifft2(spectrum).real, (HALF, HALF), axis=(0, 1))
        assert kernel[0, 0] == pytest.approx(plane[: 2 * HALF + 1, : 2 * HALF + 1], abs=1e-6)


@pytest.mark.parametrize("depth", [0.3, 1.0, 3.0])
def test_fluxes_have_the_stated_error_where_the_template_has_another_noise(depth):
    """Whitened for a variance of the template that it has in most of the tile, not here."""
    kernel, point, psf = gaussian(1.2), np.ones((1, 1)), gaussian(1.9, half=15)
    variances = np.full((1, 1), 30.0), np.full((1, 1), 20.0)
    tiles = tile_noise(kernel[None, None], point[None, None], *variances, white(1, 1), decorrelate=True, psf=psf)
    rng = np.random.default_rng(8)
    search, template = (rng.normal(0.0, np.sqrt(v), (640, 640)) for v in (30.0, 20.0 * depth))
    whitening, response = tiles.whitening[0, 0].astype(float), tiles.response[0, 0].astype(float)
    noise = fftconvolve(fftconvolve(search, kernel, mode="same") + template, whitening, mode="same")
    seen = fftconvolve(response, psf, mode="full")
    flux = fftconvolve(noise, seen[::-1, ::-1], mode="same") / np.sum(seen**2)
    of_pixels = 30.0 * tiles.search_factor[0, 0] + 20.0 * depth * tiles.template_factor[0, 0]
    filtered = FilteredDifference(
        numerator=np.ones((640, 640), np.float32),
        norm=np.full((640, 640), np.sum(seen**2) / of_pixels, np.float32),
        template_flux=np.zeros((640, 640), np.float32),
        psf_stamps=psf[None, None],
    )
    weights = tuple(np.full((640, 640), 1.0 / v, np.float32) for v in (30.0, 20.0 * depth))
    before = filtered.norm[300, 300] ** -0.5
    correct_variances(filtered, weights, tiles, Tiling((640, 640), 640, 0))
    assert filtered.numerator[300, 300] / filtered.norm[300, 300] == pytest.approx(before**2, rel=1e-4)
    error, width = filtered.norm[300, 300] ** -0.5, flux[40:-40, 40:-40].std()
    if width > before:
        assert width / error == pytest.approx(1.0, abs=0.025)  # 9000 independent fluxes: 0.8 per cent
        assert depth == 1.0 or width / before > 1.08
    else:
        assert error == pytest.approx(before, rel=1e-3)


def test_image_that_was_not_touched_keeps_its_variance():
    point = np.ones((1, 1))
    for decorrelate in (True, False):
        noise = one_tile(point, point, (7.0, 3.0), decorrelate=decorrelate)
        assert (noise.search_factor[0, 0], noise.template_factor[0, 0]) == pytest.approx((1.0, 1.0))
        for kernel in (noise.whitening[0, 0], noise.response[0, 0]):
            assert kernel[HALF, HALF] == pytest.approx(1.0)
            assert np.abs(kernel).sum() == pytest.approx(1.0, abs=1e-4)
    smoothed = one_tile(point, gaussian(1.5), (7.0, 3.0), decorrelate=False)
    # sum of the squares of a Gaussian: 1 / (4 pi s^2)
    assert smoothed.template_factor[0, 0] == pytest.approx(1 / (4 * np.pi * 1.5**2), rel=1e-3)


def test_weakest_frequencies_are_raised_to_a_hundredth_only():
    noise = one_tile(gaussian(1.2), gaussian(1.2), (1.0, 1.0))
    gain = full_transform(noise.whitening[0, 0].astype(float)).real
    # cutting the kernel at its half width leaves ripples of some percent of it
    assert gain.max() == pytest.approx(SPECTRUM_FLOOR**-0.5, rel=0.15)
    assert gain[0, 0] == pytest.approx(1.0, abs=0.05)
    off_centre = np.zeros((5, 5))
    off_centre[3, 0] = 1.0  # a row up, two columns to the left
    response = one_tile(off_centre, np.ones((1, 1)), (1.0, 1.0)).response[0, 0]
    assert np.unravel_index(response.argmax(), response.shape) == (HALF + 1, HALF - 2)


def test_power_of_interpolated_noise():
    power = correlation_power(halves())[0, 0]
    assert power.shape == (GRID, GRID // 2 + 1)
    expected = 1 + np.cos(2 * np.pi * np.arange(GRID // 2 + 1) / GRID)
    assert power == pytest.approx(np.broadcast_to(expected, power.shape), abs=1e-9)
    rows = correlation_power(halves().swapaxes(-1, -2))[0, 0]
    assert rows[GRID // 2] == pytest.approx(np.zeros(GRID // 2 + 1), abs=1e-9)
    negative = white(1, 1)
    negative[..., 0, 3] = -0.9
    assert correlation_power(negative).min() == 0.0


def test_kernels_return_from_the_transforms_with_their_origin_in_the_middle():
    kernel = np.random.default_rng(2).normal(size=(2 * HALF + 1, 2 * HALF + 1))
    back = real_space(full_transform(kernel)[:, : GRID // 2 + 1])
    assert back == pytest.approx(kernel, abs=1e-5)


def test_noise_of_an_interpolated_template_is_whitened_with_its_own_correlation():
    rng, shape = np.random.default_rng(3), (256, 256)
    search = rng.normal(0.0, 6.0, shape)
    template = shift(rng.normal(0.0, 30.0, shape), (0.0, 0.5), order=1, mode="wrap")
    tiling = Tiling(shape, 256, 20)
    plain = (search - template).astype(np.float32)
    everywhere = np.ones(shape, bool)
    noise = one_tile(np.ones((1, 1)), np.ones((1, 1)), (36.0, 450.0), halves())
    image = whiten(plain, everywhere, noise, tiling)
    inner = np.zeros(shape, bool)
    inner[25:-25, 25:-25] = True
    n = inner.sum()
    assert lag_one(plain / plain.std(), inner)[0] == pytest.approx(450 * 0.5 / 486, abs=5 / np.sqrt(n))
    assert lag_one(image / image[inner].std(), inner) == pytest.approx((0.0, 0.0), abs=5 / np.sqrt(n))
    variance = 36.0 * noise.search_factor[0, 0] + 450.0 * noise.template_factor[0, 0]
    assert image[inner].var() == pytest.approx(variance, rel=5 * np.sqrt(2 / n) + 0.005)


def test_bad_pixels_do_not_leak_into_the_whitened_image():
    rng, good = np.random.default_rng(5), np.ones(TILING.shape, bool)
    good[30:33, 20:60] = good[:, 70] = good[60:, 5:9] = False
    sky, noise = rng.normal(size=TILING.shape), of_a_convolved_search_image()
    images = [whiten(np.where(good, sky, bad).astype(np.float32), good, noise, TILING) for bad in (1e6, -40.0, np.nan)]
    assert np.array_equal(images[0], images[1]) and np.array_equal(images[0], images[2])


def of_a_convolved_search_image():
    """Smooth noise: the whitening kernel has a peak of 3 and wings of -0.2."""
    kernels = np.broadcast_to(gaussian(1.2), (2, 2, 19, 19)), np.ones((2, 2, 1, 1))
    return tile_noise(*kernels, np.ones((2, 2)), 0.1 * np.ones((2, 2)), white(2, 2), decorrelate=True)


@pytest.mark.parametrize(
    ("hole", "limit"),
    [
        ((slice(50, 51), slice(30, 31)), 0.02),
        ((slice(49, 52), slice(31, 34)), 0.06),
        ((slice(0, 78), slice(32, 33)), 0.02),
        ((slice(44, 57), slice(33, 46)), 0.015),
        ((slice(0, 78), slice(33, 78)), 0.015),
    ],
)
def test_a_source_beside_bad_pixels_keeps_its_flux(hole, limit):
    """A pixel, a cosmic ray, a column, the square of a star, an edge: with zeros 14, 25, 12, 3 and 3 % too bright."""
    y, x = np.mgrid[: TILING.shape[0], : TILING.shape[1]]
    plain = (1e3 / (2 * np.pi * 1.9**2) * np.exp(-((x - 30) ** 2 + (y - 50) ** 2) / (2 * 1.9**2))).astype(np.float32)
    good, noise = np.ones(TILING.shape, bool), of_a_convolved_search_image()
    whole = whiten(plain.copy(), good, noise, TILING)
    good[hole] = False
    seen = whiten(plain.copy(), good, noise, TILING)
    fitted = good & (np.hypot(x - 30, y - 50) < 6.7)
    flux = np.sum((seen * whole)[fitted]) / np.sum((whole**2)[fitted])
    assert flux == pytest.approx(1.0, abs=limit)


def test_medians_of_tiles_take_every_fourth_good_pixel():
    values = np.random.default_rng(4).normal(size=TILING.shape).astype(np.float32)
    good = np.ones(TILING.shape, bool)
    good[:64, :64] = good[64:, 64:] = False
    good[0:64:4, 0:4] = True  # 16 sampled pixels: too few
    good[64:96:4, 64:76:4] = True  # 24 sampled pixels
    medians = tile_medians(values, good, TILING)
    sampled = np.median(values[64:96:4, 64:76:4])
    assert medians[1, 1] == pytest.approx(sampled)
    assert medians[0, 1] == pytest.approx(np.median(values[0:64:4, 64:128:4]))
    assert medians[0, 0] == pytest.approx(np.median([medians[0, 1], medians[1, 0], medians[1, 1]]))
    good[0:64:4, 4:8] = False
    good[0:13:4, 4] = True  # and four more make twenty
    assert tile_medians(values, good, TILING)[0, 0] == pytest.approx(
        np.median(np.append(values[0:64:4, 0], values[0:13:4, 4]))
    )
    assert np.isnan(tile_medians(values, np.zeros(TILING.shape, bool), TILING)).all()


def test_correlation_of_a_tile_is_the_mean_over_its_good_pixels():
    source = np.zeros((2, 3, 6, 6), np.float32)
    source[..., 0, 1] = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    good = np.ones(TILING.shape, bool)
    good[:50, :25] = False
    result = tile_correlation(source, 50, good, TILING)[..., 0, 1]
    counts = np.array([[25 * 50, 14 * 50], [14 * 50, 14 * 14]])  # of the first tile, 64 pixels in sources of 50
    expected = (counts * [[0.1, 0.2], [0.4, 0.5]]).sum() / counts.sum()
    assert result[0, 0] == pytest.approx(expected, rel=1e-4)
    right = np.array([[36 * 50, 28 * 50], [36 * 14, 28 * 14]])
    assert result[0, 1] == pytest.approx((right * [[0.2, 0.3], [0.5, 0.6]]).sum() / right.sum(), rel=1e-4)
    assert result[1, 1] == pytest.approx((36 * 0.5 + 28 * 0.6) / 64, rel=1e-4)


def test_error_of_the_model_adds_its_square_to_the_variance():
    shape, ones = TILING.shape, np.ones((2, 2))
    model, error = np.full(shape, 400.0, np.float32), np.full(shape, 0.05, np.float32)
    error[10, 10] = 0.0
    noise = TileNoise(np.ones((2, 2, 3, 3), np.float32), np.ones((2, 2, 3, 3), np.float32), 1.2 * ones, 0.5 * ones)
    weights = np.full(shape, 0.01, np.float32), np.full(shape, 0.04, np.float32)
    weight = predicted_weight(*weights, model, (1.0, 2.0), error, noise, TILING)
    plain = 1.2 * 100 + 0.5 * 25 + 400 * (1.2 + 0.5 / 2)
    assert weight[20, 20] == pytest.approx(1 / (plain + 20.0**2), rel=1e-5)
    assert weight[10, 10] == pytest.approx(1 / plain, rel=1e-5)


def test_width_is_measured_where_a_tile_has_two_hundred_blank_pixels():
    rng = np.random.default_rng(5)
    values = 2.0 * rng.normal(size=TILING.shape).astype(np.float32)
    values[:64, :64] *= 10.0
    blank = np.ones(TILING.shape, bool)
    blank[:64, :64] = False
    blank[:2, :64], blank[2, :63] = True, True  # 191 pixels
    smooth, together = noise_width(values, blank, TILING, degree=0)
    assert smooth == pytest.approx(np.full((2, 2), 2.0), rel=0.04)
    assert together == pytest.approx(1.0, abs=0.04)
    blank[3, :9] = True  # now 200
    assert noise_width(values, blank, TILING, degree=0)[0][0, 0] > 2.05
    nothing, width = noise_width(values, np.zeros(TILING.shape, bool), TILING, degree=2)
    assert (nothing == 1.0).all()
    assert np.isnan(width)


def test_gaussian_width_comes_from_the_median_deviation():
    values = np.random.default_rng(6).normal(size=(512, 512)).astype(np.float32)
    tiling = Tiling(values.shape, 128, 20)
    smooth, together = noise_width(values, np.ones(values.shape, bool), tiling, degree=1)
    # the median deviation of 2^18 deviates knows the width to 1.17 / sqrt(2 n)
    assert together * smooth.mean() == pytest.approx(1.0, abs=5 * 1.17 / np.sqrt(2 * values.size))
    half = np.where(np.arange(512)[:, None] < 256, values, 1.5 * values)
    steps, _ = noise_width(half, np.ones(half.shape, bool), tiling, degree=1)
    # a line through the logarithms of widths of 1, 1, 1.5, 1.5, each known to 0.7 percent
    slope = np.polyfit(np.linspace(-1, 1, 4), np.log([1, 1, 1.5, 1.5]), 1)
    assert steps[:, 0] == pytest.approx(np.exp(np.polyval(slope, np.linspace(-1, 1, 4))), rel=0.025)


@pytest.mark.parametrize("rho", [0.3, -0.2])
def test_lag_one_is_the_correlation_along_x_and_y_apart(rho):
    rng = np.random.default_rng(7)
    white_noise = rng.normal(size=(300, 400))
    along_x = (lfilter([1.0], [1.0, -rho], white_noise, axis=1) * np.sqrt(1 - rho**2)).astype(np.float32)
    blank = rng.random(along_x.shape) > 0.2
    along_x[~blank] = 50.0
    along_x[blank & (rng.random(blank.shape) < 0.003)] = 60.0
    error = 1 / np.sqrt(0.64 * along_x.size)
    assert lag_one(along_x, blank) == pytest.approx((rho, 0.0), abs=5 * error)
    turned = np.ascontiguousarray(along_x.T)
    assert lag_one(turned, np.ascontiguousarray(blank.T)) == pytest.approx((0.0, rho), abs=5 * error)
    assert np.isnan(lag_one(along_x, np.zeros(blank.shape, bool))).all()
