"""Whitening and the prediction of the noise."""

import numpy as np
import pytest
from scipy.signal import fftconvolve

from imaging.difference.noise import lag_one, noise_width, predicted_weight, tile_noise, whiten
from imaging.difference.tiles import Tiling, filter_tiles, pixels_of

SHAPE = (512, 512)
TILING = Tiling(SHAPE, 256, 20)


def gaussian_kernel(sigma: float, half: int = 9) -> np.ndarray:
    axis = np.arange(-half, half + 1)
    line = np.exp(-0.5 * (axis / sigma) ** 2)
    image = np.outer(line, line)
    return image / image.sum()


def kernels(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image, (*TILING.grid, *image.shape)).copy()


def white_correlation() -> np.ndarray:
    correlation = np.zeros((*TILING.grid, 6, 6))
    correlation[..., 0, 0] = 1.0
    return correlation


@pytest.mark.parametrize("search_is_convolved", [False, True])
@pytest.mark.parametrize("template_sigma", [10.0, 25.0])
def test_whitened_noise_is_white_and_has_the_predicted_variance(search_is_convolved, template_sigma):
    rng = np.random.default_rng(3)
    search, template = rng.normal(0, 15.0, SHAPE), rng.normal(0, template_sigma, SHAPE)
    kernel, point = gaussian_kernel(1.3), np.ones((1, 1))
    first, second = (kernel, point) if search_is_convolved else (point, kernel)
    plain = fftconvolve(search, first, mode="same") - fftconvolve(template, second, mode="same")
    noise = tile_noise(
        *(kernels(first), kernels(second), np.full(TILING.grid, 225.0), np.full(TILING.grid, template_sigma**2)),
        white_correlation(),
        decorrelate=True,
    )
    everywhere = np.ones(SHAPE, bool)
    image = whiten(plain.astype(np.float32), everywhere, noise, TILING)
    weights = (np.full(SHAPE, s**-2, np.float32) for s in (15.0, template_sigma))
    weight = predicted_weight(*weights, np.zeros(SHAPE, np.float32), (1.0, 1.0), None, noise, TILING)
    normalised = image * np.sqrt(weight)
    inner = np.zeros(SHAPE, bool)
    inner[30:-30, 30:-30] = True
    assert normalised[inner].std() == pytest.approx(1.0, abs=0.01)
    lag_x, lag_y = lag_one(normalised, inner)
    assert max(abs(lag_x), abs(lag_y)) < 0.015
    before = plain / plain.std()
    assert abs(lag_one(before.astype(np.float32), inner)[0]) > abs(lag_x)


def test_whitening_keeps_the_flux():
    noise = tile_noise(
        *(kernels(np.ones((1, 1))), kernels(gaussian_kernel(1.5))),
        *(np.ones(TILING.grid), np.ones(TILING.grid), white_correlation()),
        decorrelate=True,
    )
    assert noise.whitening.sum(axis=(2, 3)) == pytest.approx(np.ones(TILING.grid), abs=2e-3)
    assert noise.response.sum(axis=(2, 3)) == pytest.approx(np.ones(TILING.grid), abs=2e-3)


def test_filter_of_tiles_is_a_convolution():
    rng = np.random.default_rng(4)
    image = rng.normal(size=(300, 420)).astype(np.float32)
    kernel = rng.normal(size=(21, 21))
    tiling = Tiling(image.shape, 128, 20)
    out = filter_tiles(tiling, (pixels_of(image),), lambda row, column: (kernel,))[0]
    assert np.allclose(out, fftconvolve(image.astype(float), kernel, mode="same"), atol=2e-3)


def test_width_follows_a_slow_change_and_ignores_outliers():
    rng = np.random.default_rng(5)
    shape = (1024, 1024)
    tiling = Tiling(shape, 256, 20)
    slope = 1.0 + 0.2 * np.linspace(-1, 1, shape[1])[None, :]
    values = (rng.normal(size=shape) * slope).astype(np.float32)
    values[rng.random(shape) < 0.01] = 50.0
    smooth, together = noise_width(values, np.ones(shape, bool), tiling, degree=1)
    assert smooth[:, 0].mean() / smooth[:, -1].mean() == pytest.approx(0.85 / 1.15, abs=0.02)
    assert together == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("bright", [3.0, 30.0])
def test_light_over_a_corner_does_not_change_the_width_elsewhere(bright):
    """A wide trail over five tiles; the counter-example is a change over the image, which is followed."""
    rng, shape = np.random.default_rng(8), (4096, 2048)
    tiling = Tiling(shape, 256, 20)
    u, v = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 16))
    true = 1.0 + 0.08 * u - 0.05 * v + 0.06 * u * v + 0.05 * u**2
    values = (rng.normal(size=shape) * np.kron(true, np.ones((256, 256)))).astype(np.float32)
    covered = np.zeros(true.shape, bool)
    covered[0, 4:7] = covered[1, 6:8] = True
    values[np.kron(covered, np.ones((256, 256))) > 0] *= np.float32(bright)
    smooth, together = noise_width(values, np.ones(shape, bool), tiling, degree=2)
    assert smooth[~covered] == pytest.approx(true[~covered], rel=0.02)
    assert smooth[covered] == pytest.approx(bright * true[covered], rel=0.02)
    assert together == pytest.approx(1.0, abs=0.01)
