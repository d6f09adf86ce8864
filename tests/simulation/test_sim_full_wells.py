"""Full wells: bleed trails and edge bleeds conserve charge and follow the geometry of the readout."""

import numpy as np
import pytest
from detector_frames import rng
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.detector.ccds import CCDS
from imaging.simulation.bleed import bleed_columns, spread_at_register
from imaging.simulation.detector import overflow

WELL = 1000.0


def column(values, *, below=True):
    """Bleed one column; return it and what was spilt, in wells."""
    image = (np.array(values, dtype=np.float32) * np.float32(WELL))[:, None]
    spilt = bleed_columns(image, np.array([WELL]), below)
    return image[:, 0] / WELL, spilt[0] / WELL


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.floats(1.0, 60.0))
def test_charge_is_conserved_whatever_overflows(seed, below, brightest):
    random = rng(seed)
    image = random.uniform(0.0, 900.0, (80, 12)).astype(np.float32)
    image[random.integers(0, 80, 6), random.integers(0, 12, 6)] = WELL * random.uniform(0.5, brightest, 6)
    well = np.linspace(900.0, 1300.0, 12)
    before = image.copy()
    spilt = bleed_columns(image, well, below)
    total = before.sum(axis=0, dtype=float)
    np.testing.assert_allclose(image.sum(axis=0, dtype=float) + spilt, total, rtol=1e-6)
    assert (image <= well * (1 + 1e-6)).all()
    assert (spilt >= 0).all()
    quiet = (before <= well).all(axis=0)
    np.testing.assert_array_equal(image[:, quiet], before[:, quiet])
    # outside the pixels that overflow themselves charge only arrives
    assert (image >= np.minimum(before, well) * (1 - 1e-6)).all()


def test_a_pixel_that_is_just_full_does_not_overflow():
    image, spilt = column([0.2, 1.0, 0.2])
    np.testing.assert_allclose(image, [0.2, 1.0, 0.2])
    assert spilt == 0.0


def test_charge_goes_to_both_sides_in_turn():
    image, spilt = column([0, 0, 0, 0, 0, 5.5, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(image, [0, 0, 0, 1, 1, 1, 1, 1, 0.5, 0, 0][::-1], atol=1e-6)
    assert spilt == 0.0


def test_neighbouring_stars_share_one_trail():
    image, spilt = column([0, 0, 0, 0, 2.0, 3.0, 0.5, 2.5, 0, 0, 0, 0])
    assert image.sum() == pytest.approx(8.0, abs=1e-5)
    full = np.flatnonzero(image > 0.999)
    np.testing.assert_array_equal(full, np.arange(full[0], full[-1] + 1))  # no gap
    assert len(full) in (7, 8)
    assert spilt == 0.0


@pytest.mark.parametrize("below", [True, False])
def test_half_a_well_leaves_for_each_pixel_that_a_trail_at_the_register_grows(below):
    values = np.zeros(40)
    values[0] = 10.3
    image, spilt = column(values if below else values[::-1], below=below)
    image = image if below else image[::-1]
    # 9.3 wells too many: six pixels take one well each while half a well leaves, 0.3 remain for the seventh
    np.testing.assert_allclose(image[:9], [1, 1, 1, 1, 1, 1, 1, 0.3, 0], atol=1e-5)
    assert spilt == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize("below", [True, False])
def test_charge_turns_back_at_the_far_end(below):
    values = np.zeros(40)
    values[-2] = 7.25
    image, spilt = column(values if below else values[::-1], below=below)
    image = image if below else image[::-1]
    assert spilt == 0.0
    np.testing.assert_allclose(image[-9:], [0, 0.25, 1, 1, 1, 1, 1, 1, 1], atol=1e-5)


def test_what_a_full_column_cannot_hold_leaves_it():
    values = np.full(10, 0.5)
    values[4] = 100.0
    image, spilt = column(values)
    np.testing.assert_allclose(image, 1.0)
    assert spilt == pytest.approx(104.5 - 10.0)


def test_columns_bleed_up_to_their_own_full_well():
    image = np.zeros((60, 2), dtype=np.float32)
    image[30] = 20_000.0
    bleed_columns(image, np.array([1000.0, 2000.0]), True)
    assert (image > 0).sum(axis=0).tolist() == [20, 10]
    assert image.max(axis=0).tolist() == [1000.0, 2000.0]


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize(
    ("spilt_wells", "reach"), [(12 * 20.0, 20.0), (1.0, 5.0), (12 * 900.0, 600.0)], ids=["between", "least", "greatest"]
)
def test_an_edge_bleed_falls_off_along_rows_and_columns(below, spilt_wells, reach):
    image = np.full((30, 400), 10.0, dtype=np.float32)
    spilt = np.zeros(400)
    spilt[[90, 110]] = spilt_wells * WELL / 2  # centre of charge at 100
    spread_at_register(image, spilt, np.full(400, WELL), below, (slice(0, 200), slice(200, 400)))
    rows = image if below else image[::-1]
    for row, column_offset in ((0, 60), (3, 0), (7, 15), (11, 0), (11, 30)):
        level = 1600.0 * np.exp(-row / 4) * np.exp(-column_offset / reach)
        for x in (100 - column_offset, 100 + column_offset):
            assert rows[row, x] == pytest.approx(min(10.0 + level, WELL), rel=1e-4)
    assert (rows[12:] == 10.0).all()
    assert (rows[:, 200:] == 10.0).all()


def test_an_edge_bleed_does_not_lower_what_is_brighter():
    image = np.zeros((20, 40), dtype=np.float32)
    image[1, 10] = 1500.0
    spilt = np.zeros(40)
    spilt[20] = 5e4
    spread_at_register(image, spilt, np.full(40, WELL), True, (slice(0, 20), slice(20, 40)))
    assert image[1, 10] == 1500.0
    assert image[0, 25] > 0
    assert not image[:, :20].ravel()[np.arange(400) != 30].any()


# Full wells are 1.03 times saturation (ADU) times gain of the amplifier that reads the half; figures of raw headers.
WELLS = {33: (47929.0 * 3.944 * 1.03, 45425.0 * 4.156 * 1.03), 27: (30170.0 * 4.071 * 1.03, 37551.0 * 3.838 * 1.03)}


@pytest.mark.parametrize("ccdnum", [33, 27])
def test_each_half_has_the_full_well_of_its_amplifier(ccdnum):
    image = np.full((200, 2048), 500.0, dtype=np.float32)
    image[100, [300, 1700]] = 3e6
    altered = overflow(image, CCDS[ccdnum])
    for x, well in zip((300, 1700), WELLS[ccdnum], strict=True):
        assert image[:, x].max() == pytest.approx(well, rel=1e-5)
        length = (3e6 - well) / (well - 500.0) + 1
        assert altered[:, x].sum() == pytest.approx(length, abs=1)
    assert not np.delete(altered, [300, 1700], axis=1).any()


@pytest.mark.parametrize("ccdnum", [33, 27])
def test_a_trail_at_the_register_marks_the_rows_read_first_on_its_half(ccdnum):
    ccd = CCDS[ccdnum]
    image = np.full((200, 2048), 500.0, dtype=np.float32)
    image[100, 1700] = 8e7
    altered = overflow(image, ccd)
    rows = altered if ccdnum == 33 else altered[::-1]  # N CCDs are read from row 0, S CCDs from the last row
    assert rows[:12, 1650:1751].all()
    assert not rows[:, :1024].any()
    assert not np.delete(rows[12:], 1700, axis=1).any()
    assert rows[:, 1700].all()


def test_a_pixel_filled_to_its_well_counts_as_altered():
    image = np.full((200, 2048), 500.0, dtype=np.float32)
    well = WELLS[27][1]
    image[50, 1600] = well
    image[60, 1600] = well - 1.0
    assert image[50, 1600] <= well  # nothing overflows
    altered = overflow(image, CCDS[27])
    assert np.argwhere(altered).tolist() == [[50, 1600]]
