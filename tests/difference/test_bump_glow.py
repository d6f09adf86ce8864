"""Tape bumps that glow make no detections, and cost nothing while they do not."""

import numpy as np
import pytest
from scipy.ndimage import label

from imaging.bits import MaskBit
from imaging.difference.bump_glow import add_bump_glow
from imaging.difference.filter import significance
from imaging.difference.residual_noise import ResidualNoise
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw

SIDE = 400
BUMPS = (
    *((90.0, 120.0, 40.0), (300.0, 280.0, 28.0), (6.0, 330.0, 30.0)),
    *((170.0, 50.0, 32.0), (224.0, 60.0, 32.0), (282.0, 64.0, 30.0)),
)
"""x, y and radius; one is cut by the edge, three overlap, as those of three images do."""
FACTORS = (1.0, 1.0, 1.0, -0.2, -0.2, 1.0)


def searched(level, source=0.0):
    """Return the score before and after, and the weights that are left; the glow falls as a Gaussian."""
    rows, columns = np.indices((SIDE, SIDE))
    image = np.random.default_rng(21).normal(0.0, SIGMA, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.int16)
    for (x, y, size), factor in zip(BUMPS, FACTORS, strict=True):
        radius = np.hypot(columns - x, rows - y)
        image += factor * level * np.exp(-0.5 * (radius / (size / 2.0)) ** 2)
        mask[radius < size] |= np.int16(MaskBit.TAPEBUMP)
    image += draw((SIDE, SIDE), [BUMPS[0][0] + 14.0], [BUMPS[0][1]], [source])
    difference = difference_of(image, mask=mask)
    unit = np.ones(difference.tiling.grid)
    before = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    weight = difference.weight.copy()
    add_bump_glow(ResidualNoise(difference.filtered, difference.weight, (0.0, 0.0), FWHM, 0.27), mask)
    after = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    return before, after, difference.weight / weight


@pytest.mark.parametrize("level", [12.0, -12.0])  # in the search image, or in a template
def test_a_glow_makes_no_detection(level):
    before, after, left = searched(level)
    assert label(np.abs(before) > 5.0)[1] >= 3
    assert label(np.abs(after[1:-1, 1:-1]) > 5.0)[1] == 0, "but for the border, where no slope is known"
    rows, columns = np.indices((SIDE, SIDE))
    beyond = np.all([np.hypot(columns - x, rows - y) > 1.7 * size for x, y, size in BUMPS], axis=0)
    assert np.all(left[beyond] == 1.0)


def test_a_bump_that_does_not_glow_costs_nothing_and_a_transient_is_found():
    point = SIGMA / np.sqrt(np.sum(ROUND.drawImage(nx=41, ny=41, scale=1.0).array ** 2))
    before, after, left = searched(0.0, 8.0 * point)
    assert np.array_equal(before, after) and left.min() == 1.0
    assert after[118:123, 102:107].max() == pytest.approx(8.0, abs=3.0)
    before, after, left = searched(3.0, 20.0 * point)
    assert after[118:123, 102:107].max() > 0.5 * before[118:123, 102:107].max() > 8.0
