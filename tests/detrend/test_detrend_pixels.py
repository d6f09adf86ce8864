"""The kernels: crosstalk, response, flat."""

import numpy as np
import pytest

from imaging.bits import BpmBit, MaskBit
from imaging.detector.linearity import LinearityTable
from imaging.detrend.pixels import (
    BPM_TRANSLATION,
    correct_response,
    divide_flat,
    subtract_crosstalk,
    subtract_overscan,
)
from imaging.errors import InputError

NO_IMAGE = np.empty((0, 0), np.float32)
NO_BITS = np.empty((0, 0), np.int16)
NO_TABLE = np.empty(0, np.float32)


def test_overscan_is_subtracted_row_by_row_and_the_ceiling_masked():
    pixels = np.full((4, 20), 2100, dtype=np.uint16)
    pixels[2, 12] = 65535
    levels = np.array([2000.0, 2001.5, 2000.0, 1999.0], dtype=np.float32)
    science, mask = np.zeros((4, 16), np.float32), np.zeros((4, 16), np.int16)
    subtract_overscan(pixels, 0, 10, levels, science, mask, 8, 8)
    assert science[:, 8].tolist() == [100.0, 98.5, 100.0, 101.0]
    assert np.argwhere(mask).tolist() == [[2, 10]]
    assert (science[:, :8] == 0).all()


def leak(signal: float, onset: float = 40000.0, mirrored: bool = False) -> tuple[np.ndarray, np.ndarray, float]:
    source = np.full((3, 8), 2000, dtype=np.uint16)
    source[1, 2] = 2000 + signal
    science, mask = np.zeros((3, 8), np.float32), np.zeros((3, 8), np.int16)
    largest = subtract_crosstalk(
        science,
        mask,
        0,
        source,
        (0, 0),
        np.full(3, 2000.0, np.float32),
        8,
        mirrored,
        (1e-3, onset, 45000.0, 2.5),
        np.array([5e-4, -1e-8, 2e-13]),
    )
    return science, mask, largest


def test_crosstalk_is_linear_below_the_onset():
    science, mask, largest = leak(30000)
    assert science[1, 2] == pytest.approx(-30.0, rel=1e-6)
    assert largest == pytest.approx(30.0, rel=1e-6)
    assert not mask.any()
    assert np.count_nonzero(science) == 1


def test_crosstalk_follows_the_polynomial_above_the_onset():
    science, mask, _ = leak(50000)
    excess = 10000.0
    expected = 1e-3 * 40000 + 5e-4 * excess - 1e-8 * excess**2 + 2e-13 * excess**3
    assert science[1, 2] == pytest.approx(-expected, rel=1e-6)
    assert mask[1, 2] == MaskBit.SSXTALK


def test_crosstalk_is_mirrored_between_opposite_amplifiers():
    science, _, _ = leak(30000, mirrored=True)
    assert np.argwhere(science != 0).tolist() == [[1, 5]]


def test_response_linearises_inside_the_table_only_and_multiplies_by_the_gain():
    table = LinearityTable(np.array([0.0, 1000.0, 2000.0]), {"A": np.array([0.0, 1010.0, 2040.0])})
    first, corrections = table.corrections("A")
    science = np.array([[-50.0, 500.0, 1500.0, 2500.0]], dtype=np.float32)
    mask = np.zeros((1, 4), np.int16)
    correct_response(science, mask, NO_IMAGE, NO_BITS, BPM_TRANSLATION, 0, 4, first, corrections, 2400.0, 4.0)
    np.testing.assert_allclose(science[0], [-200.0, 2020.0, 6100.0, 10000.0], rtol=1e-6)
    assert mask[0].tolist() == [0, 0, 0, MaskBit.SATURATE]


def test_response_subtracts_the_bias_and_translates_bad_pixels():
    science, mask = np.full((2, 4), 10.0, np.float32), np.zeros((2, 4), np.int16)
    bias = np.full((2, 4), 3.0, np.float32)
    bad = np.zeros((2, 4), np.int16)
    bad[0] = [int(BpmBit.BIAS_HOT), int(BpmBit.EDGE | BpmBit.NEAREDGE), int(BpmBit.CORR), int(BpmBit.BADAMP)]
    correct_response(science, mask, bias, bad, BPM_TRANSLATION, 0, 4, 0, NO_TABLE, 1e9, 2.0)
    assert (science == 14.0).all()
    assert mask[0].tolist() == [MaskBit.BPM, MaskBit.EDGE | MaskBit.NEAREDGE, 0, MaskBit.BADAMP]


def test_a_flat_that_is_not_positive_makes_a_bad_pixel_and_no_infinity():
    science, mask = np.full((1, 4), 100.0, np.float32), np.zeros((1, 4), np.int16)
    flat = np.array([[1.0, 0.5, 0.0, -1.0]], dtype=np.float32)
    assert divide_flat(science, mask, flat) == 2
    assert science[0].tolist() == [100.0, 200.0, 100.0, 100.0]
    assert mask[0].tolist() == [0, 0, MaskBit.BPM, MaskBit.BPM]


def test_a_linearity_table_must_increase():
    with pytest.raises(InputError, match="not increasing"):
        LinearityTable(np.array([0.0, 2.0, 1.0]), {"A": np.zeros(3)})
