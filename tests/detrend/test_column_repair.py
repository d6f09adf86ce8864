"""Bad columns that a constant repairs, and those that none does."""

import numpy as np
import pytest

from imaging.bits import BpmBit, MaskBit
from imaging.detrend.columns import repair_columns
from imaging.detrend.settings import ColumnSettings

SIGMA = 50.0
SPILL, FUNKY, HOT = np.int16(BpmBit.BIAS_COL), np.int16(BpmBit.FUNKY_COL), np.int16(BpmBit.BIAS_HOT)


@pytest.fixture
def frame():
    random = np.random.default_rng(3)
    science = (2800 + np.linspace(0, 200, 512)[:, None] + random.normal(0, SIGMA, (512, 128))).astype(np.float32)
    return science, np.zeros((512, 128), np.int16), np.zeros((512, 128), np.int16)


def flag(mask, bad, column, bit):
    bad[:, column] |= bit
    mask[:, column] |= np.int16(MaskBit.BPM)


def test_a_shifted_column_is_repaired_and_marked(frame):
    science, mask, bad = frame
    science[:, 40] += 400.0
    flag(mask, bad, 40, FUNKY)
    science[::50, 41] += 5000.0  # stars on a neighbour
    assert repair_columns(science, mask, bad, ColumnSettings()) == 1
    rest = science[:, 40] - science[:, [36, 37, 38, 39, 42, 43]].mean(axis=1)
    assert abs(np.median(rest)) < 5 * 1.25 * SIGMA * np.sqrt(7 / 6) / np.sqrt(512)
    assert (mask[:, 40] == MaskBit.FIXED).all()
    assert (mask[:, :40] == 0).all()


def test_a_spill_is_repaired_only_below_one_hot_pixel(frame):
    science, mask, bad = frame
    for column, n_hot in ((30, 1), (60, 2), (90, 0)):
        science[100:, column] += 300.0
        bad[100:, column] |= SPILL
        bad[100 : 100 + n_hot, column] |= HOT
        mask[100:, column] |= np.int16(MaskBit.BPM)
    assert repair_columns(science, mask, bad, ColumnSettings()) == 1
    assert (mask[101:, 30] == MaskBit.FIXED).all()
    assert mask[100, 30] == MaskBit.BPM  # the hot pixel stays bad
    assert (mask[100:, 60] == MaskBit.BPM).all()
    assert (mask[100:, 90] == MaskBit.BPM).all()


def test_a_noisy_column_stays_bad(frame):
    science, mask, bad = frame
    science[:, 40] += np.random.default_rng(1).normal(0, 2 * SIGMA, 512).astype(np.float32)
    flag(mask, bad, 40, FUNKY)
    assert repair_columns(science, mask, bad, ColumnSettings()) == 0
    assert (mask[:, 40] == MaskBit.BPM).all()


def test_saturated_pixels_do_not_enter_the_offset(frame):
    science, mask, bad = frame
    science[:, 40] += 100.0
    science[:200, 38:43] = 1e5
    mask[:200, 38:43] |= np.int16(MaskBit.SATURATE)
    flag(mask, bad, 40, FUNKY)
    assert repair_columns(science, mask, bad, ColumnSettings()) == 1
    assert abs(np.median(science[200:, 40] - science[200:, 37])) < 5 * 1.25 * SIGMA * np.sqrt(2) / np.sqrt(312)
