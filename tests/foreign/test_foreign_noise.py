"""Correlated noise of resampled images, and gains that only the noise shows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import convolve

from imaging.difference.prepare import moffat_psf
from imaging.foreign import noise as measured
from imaging.foreign.noise import blank_correlation, blank_scale, gain_of_stars, gain_of_weights, noise_slope

SHAPE = (400, 400)


def noise(kernel, seed=1):
    white = np.random.default_rng(seed).normal(0.0, 1.0, SHAPE)
    return convolve(white, np.outer(kernel, kernel), mode="wrap").astype(np.float32)


@pytest.mark.parametrize("kernel", [[0.5, 0.5], [0.7, 0.3], [0.2, 0.6, 0.2], [-0.1, 0.6, 0.6, -0.1]])
def test_the_correlation_of_a_resampled_image_is_that_of_its_kernel(kernel):
    image = noise(kernel)
    full = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :] / np.sum(np.square(kernel))
    expected = np.zeros(6)
    expected[: len(full)] = full[:6]
    blank = np.ones(SHAPE, bool)
    blank[100:150, 100:300] = False
    found = blank_correlation(image, np.full(SHAPE, image.std(), np.float32), blank)
    assert found == pytest.approx(np.outer(expected, expected), abs=0.02)


def test_white_noise_and_too_little_sky_have_no_correlation():
    white, sigma = noise([1.0]), np.ones(SHAPE, np.float32)
    assert blank_correlation(white, sigma, np.ones(SHAPE, bool)) is None
    few = np.zeros(SHAPE, bool)
    few[:30, :30] = True
    assert blank_correlation(noise([0.5, 0.5]), sigma, few) is None


def smooth_sky(kind):
    """Return what a mesh leaves of the sky, a third of the noise."""
    y, x = np.indices(SHAPE)
    return 0.6 * {
        "halo": np.exp(-np.hypot(x - 150, y - 200) / 60),
        "moonlight": np.exp(-0.5 * ((x - 300) ** 2 + (y - 80) ** 2) / 90.0**2),
        "step": np.where(x < 200, 0.5, -0.5) * np.exp(-np.abs(x - 200) / 60),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["halo", "moonlight", "step"])
def test_a_smooth_sky_is_no_correlation_of_neighbours(kind):
    """It reduced the signal to noise of a transient in a field with a galaxy from 9.2 to 5.4."""
    ones = np.ones(SHAPE, np.float32)
    assert blank_correlation(noise([1.0]) + smooth_sky(kind), ones, ones > 0) is None
    resampled, sigma = noise([0.7, 0.3]), np.float32(0.58)
    found = blank_correlation(resampled + sigma * smooth_sky(kind), sigma * ones, ones > 0)
    assert found is not None and found[0, 1] == pytest.approx(0.21 / 0.58, abs=0.02)


def test_correlated_rows_stay_correlated():
    rows = np.random.default_rng(5).normal(0.0, 0.4, (SHAPE[0], 1)).astype(np.float32)
    found = blank_correlation(noise([1.0]) + rows, np.ones(SHAPE, np.float32), np.ones(SHAPE, bool))
    assert found is not None and found[0, 1] == pytest.approx(0.16 / 1.16, abs=0.02) and abs(found[1, 0]) < 0.02


def test_some_rows_of_a_large_image_tell_its_noise(monkeypatch):
    """Of 40 000 blank pixels of 160 000 the width is known to 0.6 %, so 2.4 % are four sigma of it."""
    sigma = np.where(np.arange(SHAPE[1]) < 200, 1.0, 2.0) * np.ones(SHAPE)
    science, variance = (noise([1.0]) * sigma).astype(np.float32), (sigma**2).astype(np.float32)
    blank = np.ones(SHAPE, bool)
    whole = blank_scale(science, 4.0 / variance, blank), noise_slope(science, variance, blank)
    monkeypatch.setattr(measured, "MOST_BLANK", 40_000)
    some = blank_scale(science, 4.0 / variance, blank), noise_slope(science, variance, blank)
    assert some != whole
    for width, slope in (whole, some):
        assert width == pytest.approx(2.0, rel=0.024)
        assert slope == pytest.approx(1.0, abs=0.06)


def field(gain, sky=500.0, seed=3, n=120):
    """Return pixels in units of 1/gain electrons, sky subtracted, the variance of blank sky, PSF and peaks."""
    random, psf = np.random.default_rng(seed), moffat_psf(4.0)
    electrons = np.full(SHAPE, sky)
    x, y = random.uniform(20, 380, (2, n))
    for a, b, flux in zip(x, y, 10 ** random.uniform(3.6, 5.0, n), strict=True):
        i, j = int(np.rint(a)), int(np.rint(b))
        axis = np.arange(-15, 16)
        electrons[j - 15 : j + 16, i - 15 : i + 16] += flux * psf.at_offsets(a, b, axis + i - a, axis + j - b)
    pixels = (random.normal(electrons, np.sqrt(electrons + 25.0)) - sky) / gain
    alone = np.array([np.sort(np.hypot(x - a, y - b))[1] > 14 for a, b in zip(x, y, strict=True)])
    return (
        *(pixels.astype(np.float32), np.full(SHAPE, (sky + 25.0) / gain**2, np.float32), psf),
        *(np.rint(x[alone]), np.rint(y[alone]), ((electrons + 25.0) / gain**2).astype(np.float32)),
    )


@pytest.mark.parametrize("gain", [0.25, 4.0, 90.0, 1000.0])
def test_stars_show_the_gain(gain):
    pixels, variance, psf, x, y, _ = field(gain)
    assert gain_of_stars(pixels, variance, psf, x, y) == pytest.approx(gain, rel=0.25)
    assert gain_of_stars(pixels, variance, psf, x[:3], y[:3]) is None
    assert gain_of_stars(pixels, variance, psf, x, y, stated=1.2 * gain) is None
    assert gain_of_stars(pixels, variance, psf, x, y, stated=gain / 8.0) == pytest.approx(gain, rel=0.25)


def test_the_gain_of_stars_has_no_bias():
    """Single fields scatter by 0.10; the part of the noise that the fit takes made the mean 1.20."""
    measured = [gain_of_stars(*field(4.0, seed=seed)[:5]) for seed in range(3, 11)]
    assert np.mean(measured) / 4.0 == pytest.approx(1.04, abs=0.07)  # eight fields: 1.075 +- 0.033


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1)])
def test_cosmic_rays_and_hot_pixels_show_no_gain(shape):
    """Forty of them among a hundred stars made a gain of 0.09 of one; here a few of them lie in the stars' stamps."""
    pixels, variance, psf, x, y, _ = field(1.0)
    alone = gain_of_stars(pixels, variance, psf, x, y)
    random = np.random.default_rng(8)
    a, b = random.integers(20, 380, (2, 40))
    for i, j, value in zip(a, b, random.uniform(500, 5000, 40), strict=True):
        pixels[j : j + shape[0], i : i + shape[1]] += np.float32(value)
    found = gain_of_stars(pixels, variance, psf, np.append(x, a), np.append(y, b))
    assert found is not None and alone is not None and 0.5 < found / alone < 1.5


def test_faint_stars_do_not_contradict_a_gain():
    """Where the photons of stars add less than the sky's variance the rise of the scatter is its own noise."""
    pixels, variance, psf, x, y, _ = field(1.0, n=300)
    peaks = pixels[y.astype(int), x.astype(int)]
    faint = peaks < 20.0 * np.sqrt(variance[0, 0])
    assert np.count_nonzero(faint) > 20
    assert gain_of_stars(pixels, variance, psf, x[faint], y[faint], stated=1.0) is None


@pytest.mark.parametrize("kernel", [[0.5, 0.5], [0.2, 0.6, 0.2], [-0.1, 0.6, 0.6, -0.1]])
@pytest.mark.parametrize("gain", [0.25, 90.0])
def test_stars_of_a_resampled_image_show_the_gain_of_its_input(gain, kernel):
    """The noise of single pixels is three to four times lower, and a star takes most of it: 10 instead of 1 before."""
    pixels, variance, psf, x, y, _ = field(gain)
    smooth = convolve(pixels, np.outer(kernel, kernel), mode="wrap")
    share = float(np.sum(np.square(kernel))) ** 2
    correlation = np.zeros((6, 6))
    lags = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :] / np.sum(np.square(kernel))
    correlation[: len(lags), : len(lags)] = np.outer(lags, lags)
    fine = np.zeros(2 * len(kernel) - 1)  # the PSF has two samples per pixel
    fine[::2] = kernel
    psf = replace(psf, coefficients=convolve(psf.coefficients, np.outer(fine, fine)[None], mode="constant"))
    measured = gain_of_stars(smooth, variance * np.float32(share), psf, x, y, correlation)
    # eight such fields: 1.04 to 1.07 of the gain, scatter 0.04 to 0.07
    assert measured == pytest.approx(1.05 * gain, rel=0.2)


@pytest.mark.parametrize("gain", [0.25, 4.0, 90.0])
def test_weights_with_the_photons_of_the_sources_show_the_gain(gain):
    pixels, variance, _, _, _, stated = field(gain)
    assert gain_of_weights(pixels, stated, variance) == pytest.approx(gain, rel=0.05)
    assert gain_of_weights(pixels, variance, variance) is None  # a weight map of the sky alone
