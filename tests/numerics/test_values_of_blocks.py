"""Blocks of an image whose size is no multiple of theirs."""

import numpy as np
import pytest

from imaging.numerics.blocks import block_cells, reduce_blocks

IMAGE = np.random.default_rng(3).normal(size=(70, 45)).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (10, 9), (32, 50)])
def test_cells_hold_the_pixels_of_their_block(height, width):
    cells = block_cells(IMAGE, height, width)
    assert cells.dtype == IMAGE.dtype and cells.shape == (-(-70 // height), -(-45 // width), height * width)
    for row, column in np.ndindex(*cells.shape[:2]):
        block = IMAGE[row * height : (row + 1) * height, column * width : (column + 1) * width]
        inside = cells[row, column].reshape(height, width)[: block.shape[0], : block.shape[1]]
        assert np.array_equal(inside, block)
        assert np.isnan(cells[row, column]).sum() == height * width - block.size


def test_values_of_blocks_are_those_of_their_pixels():
    largest, sums = reduce_blocks(np.maximum, IMAGE, 32), reduce_blocks(np.add, IMAGE, 32)
    for row, column in np.ndindex(3, 2):
        block = IMAGE[row * 32 : (row + 1) * 32, column * 32 : (column + 1) * 32]
        assert largest[row, column] == block.max()
        assert sums[row, column] == pytest.approx(block.sum(dtype=float), abs=1e-4)
    assert largest.shape == sums.shape == (3, 2)
