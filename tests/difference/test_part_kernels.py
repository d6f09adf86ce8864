"""A convolved search image with another kernel than in the middle of its tile: pieces, noise, image of a source."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import fftconvolve

from imaging.difference.coverage import StackParts
from imaging.difference.noise import HALF, TileNoise
from imaging.difference.part_kernels import PartKernels, pieces
from imaging.difference.response import response_at
from imaging.difference.tiles import Tiling
from imaging.templates.stack import StackMakeup

TILING = Tiling((256, 320), 128, 20)
SIDE = 2 * HALF + 1
BLOCK = 32


def gaussian(sigma: float) -> np.ndarray:
    y, x = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
    image = np.exp(-0.5 * (x**2 + y**2) / sigma**2)
    return image / image.sum()


def parts_of(number: np.ndarray) -> PartKernels:
    """Return two parts whose kernels have widths of 1.0 and 1.6 pixels."""
    makeup = StackMakeup(np.ones((*number.shape, 1)), BLOCK, np.ones(1), np.ones((1, 3, 3)))
    coverage = StackParts(makeup, number, np.ones((2, 1)), None, np.zeros(2, dtype=bool))
    main = np.broadcast_to(gaussian(1.0), (*TILING.grid, SIDE, SIDE))
    changes = np.array([np.zeros((SIDE, SIDE)), gaussian(1.6) - gaussian(1.0)])
    return PartKernels.of(coverage, main, changes, TILING)


NUMBER = np.zeros((8, 10), dtype=np.int64)
NUMBER[:, 5:7] = 1
NUMBER[3, 2] = 1
POINT = np.zeros((SIDE, SIDE))
POINT[HALF, HALF] = 1.0
WHITENING = 2.0 * POINT - gaussian(1.3)


def noise_of(parts: PartKernels) -> TileNoise:
    whitening = np.broadcast_to(WHITENING, (*TILING.grid, SIDE, SIDE)).astype(np.float32)
    kernels = parts.of_tiles.reshape(-1, SIDE, SIDE)
    response = np.array([fftconvolve(WHITENING, kernel, mode="same") for kernel in kernels])
    ones = np.ones(TILING.grid)
    noise = TileNoise(whitening, response.reshape(whitening.shape).astype(np.float32), 3.0 * ones, 0.5 * ones)
    return noise.with_parts(parts)


def test_pieces_cover_every_pixel_once_and_are_of_one_part():
    counts, parts = np.zeros(TILING.shape, dtype=int), np.full(TILING.shape, -1)
    for row, column, part, y, x in pieces(TILING, parts_of(NUMBER)):
        assert TILING.index(x.start, y.start) == (row, column) == TILING.index(x.stop - 1, y.stop - 1)
        counts[y, x] += 1
        parts[y, x] = part
    assert (counts == 1).all()
    assert np.array_equal(parts, np.kron(NUMBER, np.ones((BLOCK, BLOCK), dtype=int)))
    assert len(list(pieces(TILING, parts_of(0 * NUMBER)))) == len(list(TILING)) == len(list(pieces(TILING, None)))


def test_the_noise_of_a_part_is_that_of_its_kernel_and_the_whitening_of_its_tile():
    noise = noise_of(parts_of(NUMBER))
    white = np.random.default_rng(2).normal(size=(700, 700))
    seen = [np.var(fftconvolve(fftconvolve(white, gaussian(s), "valid"), WHITENING, "valid")) for s in (1.0, 1.6)]
    for column, own in ((0, 0), (1, 1), (2, 0)):
        usual, other = (noise.factors(0, column, part) for part in (own, 1 - own))
        assert usual == (3.0, 0.5)
        # a million values, correlated over ten
        assert other[0] / 3.0 == pytest.approx(seen[1 - own] / seen[own], rel=0.02)


@pytest.mark.parametrize(("place", "sigma"), [((20.0, 30.0), 1.0), ((80.0, 110.0), 1.6), ((130.0, 40.0), 1.0)])
def test_a_source_sees_the_kernel_of_its_part_and_the_scale_of_its_block(place, sigma):
    """The second column of tiles has the wider kernel in its middle, but not in its first block."""
    noise = noise_of(parts_of(NUMBER))
    expected = fftconvolve(WHITENING, gaussian(sigma), mode="same")
    assert response_at(noise, TILING, *place) == pytest.approx(expected, abs=2e-6)
    scale = np.ones(NUMBER.shape)
    scale[int(place[1]) // BLOCK, int(place[0]) // BLOCK] = 1.1
    scaled = replace(noise, parts=replace(noise.parts, scale=scale))
    assert response_at(scaled, TILING, *place) == pytest.approx(1.1 * expected, abs=2e-6)
