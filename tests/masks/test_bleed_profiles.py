"""How far trails and halos reach, against profiles with a known answer; mask shares against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.bits import MaskBit
from imaging.detector.ccds import science_ccd
from imaging.masks.bleeds import (
    BLOCK_ROWS,
    _star_radius,
    _trail_length,
    mask_bleeds,
    readout_at_bottom,
    sample_sky,
)
from imaging.masks.bleeds import _Star as Star
from imaging.masks.counts import mask_shares
from imaging.masks.settings import BleedSettings

SETTINGS = BleedSettings()


def star(trail_x0=40, trail_x1=43, x=41.0, y=300.0):
    return Star(38, 45, 290, 310, 50, x, y, trail_x0, trail_x1)


def rows(length, excess, n=1200, nx=90, level=0.0, columns=slice(40, 43)):
    """Return rows whose bleeding columns stand above the level as far as a trail is long."""
    image = np.full((n, nx), level, np.float32)
    image[:length, columns] += excess
    return image


@pytest.mark.parametrize("n_blocks", [1, 5, 63, 64, 65, 100])
def test_a_trail_is_as_long_as_its_blocks_and_one_more(n_blocks):
    """A block of eight rows is masked beyond the last that shines; where rows are looked at 512 at a time too."""
    found = _trail_length(rows(n_blocks * BLOCK_ROWS, 11.0), star(), 10.0)
    assert found == (n_blocks + (n_blocks % 64 != 0)) * BLOCK_ROWS


@pytest.mark.parametrize(("excess", "long"), [(9.9, False), (10.0, True)])
def test_a_trail_ends_where_its_excess_falls_below_the_limit(excess, long):
    assert (_trail_length(rows(400, excess), star(), 10.0) >= 400) == long
    assert _trail_length(rows(0, 0.0), star(), 10.0) == 0


def test_one_faded_block_does_not_end_a_trail_and_two_do():
    image = rows(400, 50.0)
    image[160:168] = 0.0
    assert _trail_length(image, star(), 10.0) == 408
    image[168:176] = 0.0
    assert _trail_length(image, star(), 10.0) == 168


def test_the_level_is_that_of_the_columns_beside_the_trail():
    """Light of the halo that lies on both sides alike is no trail; columns 30 to 35 and 47 to 52 tell."""
    halo = np.full((400, 90), 500.0, np.float32)
    assert _trail_length(halo, star(), 10.0) == 0
    for columns, length in ((slice(30, 36), 0), (slice(47, 53), 0), (slice(36, 40), 400), (slice(43, 47), 400)):
        image = rows(400, 50.0, n=400)
        image[:, columns] = 900.0
        both = image.copy()
        mirrored = slice(83 - columns.stop, 83 - columns.start)
        both[:, mirrored] = 900.0
        assert _trail_length(both, star(), 10.0) == length, columns
    # One side alone decides where the trail lies at the border of the image.
    assert _trail_length(rows(400, 50.0, n=400, columns=slice(0, 3)), star(0, 3), 10.0) == 400
    assert _trail_length(rows(400, 50.0, n=400, nx=43), star(), 10.0) == 400


@pytest.mark.parametrize(("trail_x0", "nx", "first"), [(40, 46, 30), (3, 90, 10)])
def test_the_level_is_the_median_of_six_columns_that_begin_four_beyond_the_trail(trail_x0, nx, first):
    """On a slope of 100 electrons per column one column more or less moves the median by 50."""
    level = 100.0 * np.arange(nx, dtype=np.float32)
    for excess, length in ((15.0, 400), (5.0, 0), (-15.0, 0)):
        image = np.tile(level, (400, 1))
        image[:, trail_x0 : trail_x0 + 3] = 100.0 * (first + 2.5) + excess
        assert _trail_length(image, star(trail_x0, trail_x0 + 3), 10.0) == length


def test_a_saturated_image_has_no_columns_beside_the_trail():
    assert _trail_length(np.full((400, 90), 1e5, np.float32), star(0, 90), 10.0) == 0


def test_a_trail_to_the_border_is_as_long_as_the_image():
    assert _trail_length(rows(77, 50.0, n=77), star(), 10.0) == 77
    assert _trail_length(rows(520, 50.0, n=520), star(), 10.0) == 520


@pytest.mark.parametrize("amplitude", [1e4, 3e5])
def test_the_radius_of_a_star_is_where_its_profile_falls_to_seven_sigma(amplitude):
    sigma, sky, alpha = 50.0, 2500.0, 5.0
    y, x = np.mgrid[:600, :600]
    science = sky + amplitude * (1 + ((x - 301.0) ** 2 + (y - 300.0) ** 2) / alpha**2) ** -2.0
    mask = np.zeros(science.shape, np.int16)
    source = star(x=301.0, y=300.0)
    expected = alpha * np.sqrt(np.sqrt(amplitude / (7 * sigma)) - 1)
    radius = _star_radius(science.astype(np.float32), mask, source, sky, sigma, SETTINGS)
    assert expected - 0.5 <= radius <= expected + 1.5
    # Bright pixels that are bad by calibration are no star.
    science[:, 306:309] = 1e5
    mask[:, 306:309] = np.int16(MaskBit.BPM)
    assert _star_radius(science.astype(np.float32), mask, source, sky, sigma, SETTINGS) == radius
    mask[:] = np.int16(MaskBit.BADAMP)
    assert _star_radius(science.astype(np.float32), mask, source, sky, sigma, SETTINGS) == 0.0


def test_halos_are_round_and_as_wide_as_the_setting_says():
    random = np.random.default_rng(1)
    science = random.normal(2500.0, 50.0, (4096, 2048)).astype(np.float32)
    mask = np.zeros(science.shape, np.int16)
    y, x = np.mgrid[900:1100, 900:1100]
    science[900:1100, 900:1100] += (1e7 * (1 + ((x - 1000) ** 2 + (y - 1000) ** 2) / 16.0) ** -3).astype(np.float32)
    mask[science > 1.8e5] |= np.int16(MaskBit.SATURATE)
    areas = []
    for factor in (1.5, 3.0):
        copy = mask.copy()
        quality = mask_bleeds(science, copy, science_ccd(33), 6.0, SETTINGS.with_values(star_factor=factor))
        assert quality == {"n_saturated_stars": 1.0, "n_bleed_trails": 0.0, "n_edge_bleeds": 0.0}
        halo = (copy & MaskBit.STAR) != 0
        rows, columns = np.nonzero(halo)
        assert (rows.mean(), columns.mean()) == pytest.approx((1000.0, 1000.0), abs=0.5)
        radius = 0.5 * (np.ptp(columns) + 1)
        assert halo.sum() == pytest.approx(np.pi * radius**2, rel=0.05)
        areas.append(halo.sum())
    assert areas[1] / areas[0] == pytest.approx(4.0, rel=0.03)
    assert not (copy & MaskBit.EDGEBLEED).any()


def test_the_sky_is_the_median_of_what_shows_it():
    science = np.full((320, 320), 100.0, np.float32)
    science[8::16, 8::16] = np.arange(400).reshape(20, 20)
    mask = np.zeros(science.shape, np.int16)
    assert sample_sky(science, mask) == 199.5
    mask[:200] = np.int16(MaskBit.STAR)
    assert sample_sky(science, mask) == np.median(np.arange(240, 400))
    mask[:] = np.int16(MaskBit.SUSPECT)  # such pixels show the sky
    assert sample_sky(science, mask) == 199.5
    mask[:] = np.int16(MaskBit.CRAY)
    assert sample_sky(science, mask) == 0.0


def test_the_readout_edge_is_below_in_the_north_and_above_in_the_south():
    assert all(readout_at_bottom(science_ccd(n)) == (n > 31) for n in range(1, 63))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shares_of_a_mask_are_those_of_numpy(seed):
    random = np.random.default_rng(seed)
    mask = (random.integers(0, 1 << 15, (23, 17)) & random.integers(0, 1 << 15, (23, 17))).astype(np.int16)
    selections = (1, int(MaskBit.TAPEBUMP), int(MaskBit.CRAY | MaskBit.STREAK), 0)
    expected = [np.mean((mask & bits) != 0) for bits in selections]
    assert mask_shares(mask, *selections) == pytest.approx(expected, abs=1e-12)
