"""The noise of images of another pixel scale, turned axes and correlated noise, after the resampling: against noise."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from imaging.templates.grid import PixelMap
from imaging.templates.noise import is_parallel, lanczos_table, resampled_noise

SHAPE, STEP = (320, 384), 32


@dataclass(frozen=True)
class Case:
    """Input pixels per output pixel along both axes, and the kernel that has correlated the input's noise."""

    matrix: tuple[tuple[float, float], tuple[float, float]]
    kernel: tuple[float, ...] = (1.0,)


def grid_of(matrix) -> PixelMap:
    gx, gy = np.meshgrid(np.arange(0, SHAPE[1] + 1, STEP), np.arange(0, SHAPE[0] + 1, STEP))
    x, y = np.einsum("ab,bij->aij", np.array(matrix), np.stack([gx, gy]).astype(float))
    return PixelMap(x - x.min() + 8.3, y - y.min() + 8.6, STEP, SHAPE, 0.0)


def sampled(image, grid):
    """Interpolate with the same weights, written out plainly."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    xs, ys = grid.at(x, y)
    table = lanczos_table().astype(float)
    total = np.zeros(SHAPE)
    wx, wy = (table[np.rint((a - np.floor(a)) * 2048).astype(int)] for a in (xs, ys))
    ix, iy = np.floor(xs).astype(int), np.floor(ys).astype(int)
    for j in range(6):
        for i in range(6):
            total += wy[..., j] * wx[..., i] * image[iy + j - 2, ix + i - 2]
    return total


@pytest.mark.parametrize(
    "case",
    [
        Case(((1.0, 0.0), (0.0, 1.0)), (0.5, 0.5)),
        Case(((0.0, -1.004), (1.004, 0.0))),
        Case(((0.0, 1.05), (1.05, 0.0)), (0.3, 0.7)),
        Case(((0.0, -0.53), (0.53, 0.0)), (0.2, 0.6, 0.2)),
        Case(((0.53, 0.0), (0.0, 0.53))),
        Case(((0.87, -0.5), (0.5, 0.87)), (0.5, 0.5)),
    ],
)
def test_the_predicted_correlation_is_that_of_simulated_noise(case):
    grid = grid_of(case.matrix)
    size = (int(grid.y.max()) + 12, int(grid.x.max()) + 12)
    own = np.zeros(6)
    full = np.correlate(case.kernel, case.kernel, "full")[len(case.kernel) - 1 :]
    own[: len(full)] = full / full[0]
    predicted = resampled_noise(grid, size, 128, None if len(case.kernel) == 1 else np.outer(own, own))
    predicted = predicted.mean(axis=(0, 1))
    rng, n = np.random.default_rng(11), 12
    measured = np.zeros((3, 3))
    for _ in range(n):
        noise = rng.normal(size=size)
        for axis in (0, 1):
            noise = convolve1d(noise, np.array(case.kernel) / np.sqrt(full[0]), axis=axis, mode="wrap")
        out = sampled(noise, grid)
        for j in range(3):
            for i in range(3):
                measured[j, i] += np.mean(out[: SHAPE[0] - j, : SHAPE[1] - i] * out[j:, i:]) / n
    error = 4.0 * 3.0 / np.sqrt(n * out.size)  # neighbours are correlated: nine pixels count as one
    assert predicted[:3, :3] == pytest.approx(measured, abs=error + 0.01)


def test_only_axes_that_agree_are_parallel():
    assert is_parallel(grid_of(((1.001, 0.002), (-0.002, 1.001))))
    assert not is_parallel(grid_of(((0.0, 1.0), (-1.0, 0.0))))
    assert not is_parallel(grid_of(((0.53, 0.0), (0.0, 0.53))))


def test_tiles_without_input_are_white():
    grid = grid_of(((1.0, 0.0), (0.0, 1.0)))
    away = PixelMap(grid.x + 5000.0, grid.y, STEP, SHAPE, 0.0)
    found = resampled_noise(away, SHAPE, 128)
    assert np.all(found[..., 0, 0] == 1.0) and found.sum() == found[..., 0, 0].size
