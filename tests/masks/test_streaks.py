"""Streaks: all above one sigma per pixel, none where there is none."""

import numpy as np
import pytest
from frames import SIGMA, add_stars, add_streak, blank

from imaging.bits import MaskBit
from imaging.identity import ExposureId
from imaging.masks.settings import StreakSettings
from imaging.masks.streak_model import Streak, mask_streak
from imaging.masks.streak_strip import HALF_WIDTH, Course, Strip
from imaging.masks.streak_trace import StreakTracer, _stacked_fwhm
from imaging.masks.streaks import find_streaks
from imaging.masks.tables import streak_table, streaks_from_table
from imaging.schemas.masks import STREAKS

SETTINGS = StreakSettings()
SHAPE = (2048, 1024)
CCD_SHAPE = (4096, 2048)


@pytest.fixture(scope="module")
def field():
    science, weight, mask = blank(SHAPE, seed=4)
    add_stars(science, 400, 4.2)
    return science, weight, mask


@pytest.fixture(scope="module")
def whole_ccd():
    science, weight, mask = blank(CCD_SHAPE, seed=4)
    add_stars(science, 1600, 4.2)
    return science, weight, mask


def test_a_field_of_stars_has_no_streak(field, whole_ccd):
    assert find_streaks(*field, SETTINGS) == []
    assert find_streaks(*whole_ccd, SETTINGS) == []


@pytest.mark.parametrize(
    ("peak", "fwhm", "angle"), [(1.0, 5.0, 0.4), (1.0, 9.0, 2.0), (1.0, 5.0, 1.56), (20.0, 6.0, 3.0), (2.0, 40.0, 1.0)]
)
def test_a_streak_is_found_measured_and_covered(field, peak, fwhm, angle):
    science, weight, mask = field[0].copy(), field[1], field[2].copy()
    light = add_streak(science, 500.0, 1100.0, angle, peak * SIGMA, fwhm)
    (streak,) = find_streaks(science, weight, mask, SETTINGS)
    assert streak.surface_sigma == pytest.approx(peak, rel=0.25)
    assert streak.surface_electrons == pytest.approx(peak * SIGMA, rel=0.25)
    assert streak.fwhm_pixels == pytest.approx(fwhm, rel=0.35)
    assert streak.significance > 25
    mask_streak(mask, streak)
    covered = (mask & MaskBit.STREAK) != 0
    assert covered[light > 0.5 * peak * SIGMA].mean() > 0.98
    assert light[~covered].max() < max(0.25 * SIGMA, 0.25 * peak * SIGMA)


@pytest.mark.parametrize(
    ("peak", "fwhm", "place", "angle"),
    [
        *((11.0, 134.0, (500.0, 1100.0), 1.0), (1.0, 100.0, (500.0, 1100.0), 0.3), (11.0, 134.0, (300.0, 300.0), 2.3)),
        *((6.0, 177.0, (1000.0, 1300.0), 0.38), (3.0, 240.0, (1000.0, 2000.0), 1.2)),
    ],
)
def test_the_trail_of_an_aircraft_is_covered(whole_ccd, peak, fwhm, place, angle):
    """Out of focus, as wide as half an arcminute, also across a corner of the CCD."""
    science, weight, mask = whole_ccd[0].copy(), whole_ccd[1], whole_ccd[2].copy()
    light = add_streak(science, *place, angle, peak * SIGMA, fwhm)
    streaks = find_streaks(science, weight, mask, SETTINGS)
    widest = max(streaks, key=lambda streak: streak.fwhm_pixels)
    assert widest.fwhm_pixels == pytest.approx(fwhm, rel=0.25)
    assert widest.surface_sigma == pytest.approx(peak, rel=0.25)
    for streak in streaks:
        mask_streak(mask, streak)
    assert light[(mask & MaskBit.STREAK) == 0].max() < 0.25 * SIGMA


@pytest.mark.parametrize(
    ("peak", "fwhm", "place", "angle"),
    [
        (6.0, 45.0, (985, 110), 1.109),
        (1.0, 30.0, (960, 130), 1.1),
        (3.0, 60.0, (60, 90), 2.3),
        (6.0, 45.0, (40, 1960), 1),
    ],
)
def test_a_wide_trail_that_clips_a_corner_is_covered(field, peak, fwhm, place, angle):
    """Of one side the image has less than the width of the strip, and the line is nearest to its middle outside."""
    science, weight, mask = field[0].copy(), field[1], field[2].copy()
    light = add_streak(science, *place, angle, peak * SIGMA, fwhm)
    (streak,) = find_streaks(science, weight, mask, SETTINGS)
    assert streak.fwhm_pixels == pytest.approx(fwhm, rel=0.1)
    assert streak.surface_sigma == pytest.approx(peak, rel=0.1)
    mask_streak(mask, streak)
    assert light[(mask & MaskBit.STREAK) == 0].max() < 0.3 * SIGMA


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        *(("disc of 3 arcmin", place) for place in ((985, 90, 1.1), (1000, 40, 0.9), (940, 150, 2.2))),
        *(("edge-on", place) for place in ((985, 90, 1.1), (940, 150, 2.2), (1024, 0, 0.8))),
        *(("spike", place) for place in ((985, 90, 1.1), (1000, 40, 0.9))),
        *((kind, (985, 90, 1.1)) for kind in ("halo", "glow of the corner")),
    ],
)
def test_what_fades_at_a_corner_is_not_a_streak(field, kind, place):
    """Both ends of a galaxy's disc, and that of a spike, may be beyond the edges."""
    x, y, angle = place
    science, weight, mask = field[0].copy(), field[1], field[2].copy()
    yy, xx = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    along = (xx - x) * np.cos(angle) + (yy - y) * np.sin(angle)
    across = (yy - y) * np.cos(angle) - (xx - x) * np.sin(angle)
    light = {
        "disc of 3 arcmin": 40.0 * np.exp(-np.hypot(along / 90.0, across / 30.0)),
        "edge-on": 10.0 * np.exp(-np.abs(along) / 60.0 - np.abs(across) / 8.0),
        "spike": 60.0 / (1.0 + (along / 40.0) ** 2) * np.exp(-0.5 * (across / 4.0) ** 2),
        "halo": 3.0 * (100.0 / np.maximum(np.hypot(xx - 1050.0, yy + 30.0), 30.0)) ** 2,
        "glow of the corner": 5.0 * np.exp(-(1023.0 - xx) / 40.0 - yy / 40.0),
    }[kind]
    if kind == "spike":
        mask[np.hypot(xx - x, yy - y) < 40.0] |= np.int16(MaskBit.STAR)
    science += (light * SIGMA).astype(np.float32)
    assert find_streaks(science, weight, mask, SETTINGS) == []


def test_what_is_highest_at_the_last_column_of_a_corner_has_no_width():
    across = np.arange(-HALF_WIDTH, HALF_WIDTH + 1.0)
    profile = np.tile(20.0 * np.exp(-0.5 * ((across - 5.0) / 3.0) ** 2), (30, 1))
    profile[:, HALF_WIDTH + 5 :] = np.nan  # outside of the image
    strip = Strip(np.linspace(-300.0, 300.0, 30), profile, np.ones(30), 4)
    assert _stacked_fwhm(strip, 300.0) is None
    for values in (profile, profile[:, ::-1]):
        assert _stacked_fwhm(Strip(strip.along, values.copy(), strip.error, 4), 300.0) is None


@pytest.mark.parametrize(("fwhm", "widths", "found"), [(80.0, 3.8, False), (80.0, 4.2, True), (55.0, 3.8, True)])
def test_a_wide_streak_is_at_least_four_widths_long(fwhm, widths, found):
    """The edge of a ghost across a corner is as bright and as even, but shorter; below 60 pixels nothing is so wide."""
    science, weight, mask = blank((400, 400))
    length, step = widths * fwhm, 4
    across = step * np.arange(-HALF_WIDTH, HALF_WIDTH + 1.0)
    along = (np.arange(16) + 0.5) * length / 16 - 0.5 * length
    profile = np.tile(5.0 * np.exp(-4.0 * np.log(2.0) * (across / fwhm) ** 2), (16, 1))
    tracer = StreakTracer(science, weight, mask, 0, SETTINGS)
    course, strip = Course(200.0, 200.0, 0.6, 0.8), Strip(along, profile, np.full(16, 0.1), step)
    streak = tracer._measure(course, strip, fwhm, (-0.5 * length, 0.5 * length))
    assert (streak is not None) == found


def test_a_nearby_galaxy_a_ghost_and_a_gradient_are_not_wide_streaks():
    science, weight, mask = blank(CCD_SHAPE, seed=9)
    yy, xx = np.mgrid[0 : CCD_SHAPE[0], 0 : CCD_SHAPE[1]]
    along, across = (
        (xx - 500) * np.cos(0.9) + (yy - 600) * np.sin(0.9),
        (yy - 600) * np.cos(0.9) - (xx - 500) * np.sin(0.9),
    )
    science += (40 * SIGMA * np.exp(-np.hypot(along / 90.0, across / 40.0))).astype(np.float32)  # a disc of 3 arcmin
    radius = np.hypot(xx - 600, yy - 1500)
    science += np.where((radius < 300) & (radius > 110), 0.8 * SIGMA, 0.0).astype(np.float32)
    science += (0.5 * SIGMA * (yy / CCD_SHAPE[0] + np.sin(xx / 700.0))).astype(np.float32)
    assert find_streaks(science, weight, mask, SETTINGS) == []


def test_two_streaks_that_cross_are_both_found(field):
    science, weight, mask = field[0].copy(), field[1], field[2]
    add_streak(science, 500.0, 1000.0, 0.6, 2 * SIGMA, 5.0)
    add_streak(science, 500.0, 1200.0, 2.1, 1 * SIGMA, 6.0)
    assert len(find_streaks(science, weight, mask, SETTINGS)) == 2


def test_the_end_of_a_streak_is_found_to_a_piece(field):
    science, weight, mask = field[0].copy(), field[1], field[2]
    add_streak(science, 500.0, 1000.0, np.pi / 2, 3 * SIGMA, 5.0, stop=400.0)
    (streak,) = find_streaks(science, weight, mask, SETTINGS)
    assert max(streak.y0, streak.y1) == pytest.approx(1400.0, abs=64)
    assert min(streak.y0, streak.y1) == pytest.approx(0.0, abs=3 * streak.half_width_pixels + 2)


def test_an_edge_on_galaxy_is_not_a_streak():
    """As bright and as thin as a streak, but its light falls off and it ends inside the CCD."""
    science, weight, mask = blank(SHAPE, seed=6)
    yy, xx = np.mgrid[0:2048, 0:1024]
    for x, y, angle, length in ((400, 700, 0.3, 90.0), (600, 1500, 2.0, 140.0)):
        along = (xx - x) * np.cos(angle) + (yy - y) * np.sin(angle)
        across = (yy - y) * np.cos(angle) - (xx - x) * np.sin(angle)
        science += (2000 * np.exp(-np.abs(along) / length * 2.5 - np.abs(across) / 6.0)).astype(np.float32)
    assert find_streaks(science, weight, mask, SETTINGS) == []


def test_a_bad_column_is_not_a_streak():
    science, weight, mask = blank(SHAPE, seed=7)
    science[:, 300] += 4 * SIGMA
    science[500:, 640:642] += 3 * SIGMA
    assert find_streaks(science, weight, mask, SETTINGS) == []


def test_a_step_between_amplifiers_is_not_a_streak():
    science, weight, mask = blank(SHAPE, seed=8)
    science[:, 512:] += 0.5 * SIGMA
    assert find_streaks(science, weight, mask, SETTINGS) == []


def test_what_is_masked_is_not_looked_at(field):
    science, weight, mask = field[0].copy(), field[1], field[2].copy()
    light = add_streak(science, 500.0, 1100.0, 0.4, 5 * SIGMA, 5.0)
    mask[light > 0.01 * SIGMA] |= np.int16(MaskBit.STAR)
    assert find_streaks(science, weight, mask, SETTINGS) == []


def test_the_mask_follows_the_curve():
    streak = Streak(10.0, 50.0, 190.0, 50.0, 12.0, 4.0, 3.0, 100.0, 2.0, 50.0)
    mask = np.zeros((100, 200), np.int16)
    n = mask_streak(mask, streak)
    assert n == np.count_nonzero(mask)
    assert mask[62, 100] == MaskBit.STREAK
    assert mask[50, 100] == 0
    assert mask[50, 12] == MaskBit.STREAK
    x, y = streak.points(3)
    assert (x[1], y[1]) == pytest.approx((100.0, 62.0))
    assert n == pytest.approx(6.0 * 180.0, rel=0.1)


def test_the_table_returns_the_streaks_that_were_seen():
    exposure = ExposureId(1300001, "i", 20240510)
    seen = Streak(1.0, 2.0, 3.0, 4.0, 0.5, 5.0, 7.5, 80.0, 1.5, 30.0)
    predicted = Streak(1.0, 2.0, 3.0, 4.0, 0.5, 5.0, 7.5, 80.0, 1.5, 0.0)
    table = streak_table([seen, predicted], exposure, 33)
    assert table.schema.equals(STREAKS)
    assert streaks_from_table(table) == {33: [seen]}
    assert streak_table([], exposure, 33).schema.equals(STREAKS)
