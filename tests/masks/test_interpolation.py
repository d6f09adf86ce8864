"""Interpolation along rows, for copies that are only measured; and the count of mask bits."""

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.masks.counts import mask_shares
from imaging.masks.interpolate import interpolate_rows


@pytest.fixture
def ramp():
    science = np.tile(np.arange(40, dtype=np.float32), (3, 1))
    return science, np.zeros((3, 40), np.int16)


def test_a_gap_is_bridged_linearly_on_a_copy(ramp):
    science, mask = ramp
    science[1, 10:15], mask[1, 10:15] = 9999.0, MaskBit.TRAIL
    filled, marked = interpolate_rows(science, mask, MaskBit.TRAIL)
    np.testing.assert_allclose(filled, np.tile(np.arange(40), (3, 1)), rtol=1e-6)
    assert (marked[1, 10:15] == MaskBit.TRAIL | MaskBit.INTERP).all()
    assert (science[1, 10:15] == 9999.0).all()
    assert (mask[1, 10:15] == MaskBit.TRAIL).all()


@pytest.mark.parametrize("gap", [slice(0, 5), slice(35, 40), slice(5, 35)], ids=["left", "right", "wide"])
def test_gaps_at_the_border_and_wide_ones_stay(ramp, gap):
    science, mask = ramp
    science[1, gap], mask[1, gap] = -1.0, MaskBit.TRAIL
    filled, marked = interpolate_rows(science, mask, MaskBit.TRAIL, maximum_columns=20)
    assert (filled[1, gap] == -1.0).all()
    assert not (marked & MaskBit.INTERP).any()


def test_shares_count_pixels_not_bits():
    mask = np.zeros((10, 10), np.int16)
    mask[0] = MaskBit.BPM | MaskBit.CRAY
    mask[1] = MaskBit.CRAY
    mask[2, :5] = MaskBit.TAPEBUMP
    assert mask_shares(mask, MaskBit.BPM, MaskBit.CRAY, MaskBit.BPM | MaskBit.CRAY, MaskBit.TAPEBUMP) == (
        0.1,
        0.2,
        0.2,
        0.05,
    )
