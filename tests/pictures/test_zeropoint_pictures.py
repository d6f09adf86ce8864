"""Zero points over the focal plane."""

import io

import numpy as np
import pytest
from PIL import Image

from imaging.pictures.zeropoints import NAMES, zeropoint_pictures


def row(ccd, value, n=100):
    return {"ccd": ccd, "own_zeropoint_mag": value, "zeropoint_mag": value, "n_used": n}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_every_picture_is_drawn_and_shows_the_ccd_that_stands_out():
    even = zeropoint_pictures([row(ccd, 31.7) for ccd in range(1, 63)], "exposure 1300001 (i)")
    odd = zeropoint_pictures([row(ccd, 31.9 if ccd == 28 else 31.7) for ccd in range(1, 63)], "exposure 1300001 (i)")
    assert set(even) == set(NAMES)
    assert (pixels(even["deltaZP"]) != pixels(odd["deltaZP"])).any()
    assert np.array_equal(pixels(even["NumClipstar"]), pixels(odd["NumClipstar"]))


@pytest.mark.parametrize("rows", [[], [row(7, None, 0)]])
def test_missing_zero_points_leave_hatched_boxes(rows):
    for png in zeropoint_pictures(rows, "exposure 1 (u)").values():
        assert pixels(png).shape[2] == 3
