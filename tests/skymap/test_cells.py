"""HEALPix pixels merged into multi-order cells, against mocpy."""

import numpy as np
import pytest
from mocpy import MOC

from imaging.skymap.cells import merged_cells

ORDER = 6


def levels_of(uniq):
    order = (np.log2(uniq // 4) // 2).astype(int)
    return order, uniq - 4 * 4**order


def expanded(uniq, index):
    """Return the pixels of every cell at the finest order, and the index that belongs to each."""
    order, number = levels_of(uniq)
    n = 4 ** (ORDER - order)
    pixel = np.concatenate([i * k + np.arange(k) for i, k in zip(number, n, strict=True)])
    return pixel, np.repeat(index, n)


def some_pixels(seed):
    rng = np.random.default_rng(seed)
    blocks = [
        np.arange(start, start + length)
        for start, length in zip(
            rng.integers(0, 40_000, 12), (1, 3, 4, 5, 16, 17, 64, 100, 256, 1000, 1024, 4096), strict=True
        )
    ]
    return np.unique(np.concatenate(blocks))


@pytest.mark.parametrize("seed", range(4))
def test_cells_are_the_fewest_that_mocpy_knows(seed):
    pixel = some_pixels(seed)
    uniq, _ = merged_cells(pixel, ORDER)
    moc = MOC.from_healpix_cells(pixel, np.full(len(pixel), ORDER, dtype=np.uint8), max_depth=ORDER)
    assert uniq.tolist() == sorted(moc.uniq_hpx.tolist())


def test_the_whole_sky_is_twelve_cells():
    uniq, index = merged_cells(np.arange(12 * 4**ORDER), ORDER)
    assert uniq.tolist() == list(range(4, 16))
    assert index.tolist() == [n * 4**ORDER for n in range(12)]


def test_pixels_of_different_values_stay_apart():
    pixel = some_pixels(9)
    values = np.stack([(pixel // 64 % 3).astype(float), np.where(pixel // 16 % 2, np.nan, 5.0)], axis=1)
    uniq, index = merged_cells(pixel, ORDER, values)
    back, owner = expanded(uniq, index)
    order = np.argsort(back)
    assert np.array_equal(back[order], pixel)
    assert np.array_equal(values[owner[order]], values, equal_nan=True)
    assert levels_of(uniq)[0].min() == ORDER - 2, "blocks of sixteen are equal"


def test_nothing_has_no_cells():
    uniq, index = merged_cells(np.empty(0, dtype=np.int64), ORDER)
    assert len(uniq) == len(index) == 0
