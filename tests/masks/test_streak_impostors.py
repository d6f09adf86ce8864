"""Spikes of saturated stars, rims of ghosts and what lies along bleed trails are no streaks; trails beside them are."""

import numpy as np
import pytest
from frames import SIGMA, add_streak, blank

from imaging.bits import MaskBit
from imaging.masks import streaks as search
from imaging.masks.settings import StreakSettings
from imaging.masks.streaks import find_streaks

SETTINGS = StreakSettings()
SHAPE = (2048, 1024)
X, Y = 520.0, 1010.0
GY, GX = np.indices(SHAPE)


def spikes(angle_deg, surface, seeing=4.5):
    """Light of the lines of a star at (X, Y): diffraction by strips, averaged over a band, ``surface`` at 300 px."""
    out = np.zeros(SHAPE)
    for turn in (0.0, 90.0):
        c, s = np.cos(np.radians(angle_deg + turn)), np.sin(np.radians(angle_deg + turn))
        t, p = (GX - X) * c + (GY - Y) * s, (GY - Y) * c - (GX - X) * s
        lines = np.mean([np.sinc(t / width) ** 2 for width in np.linspace(17.0, 23.0, 25)], axis=0)  # width of the core
        out += lines * np.exp(-4 * np.log(2) * (p / seeing) ** 2)
    return out * surface / (20.0**2 / (2 * np.pi**2 * 300.0**2))


def frame(seed=11):
    """Noise around a saturated star with a bleed trail and a halo."""
    science, weight, mask = blank(SHAPE, seed)
    radius = np.hypot(GX - X, GY - Y)
    science += (SIGMA * 40.0 * (60.0 / np.maximum(radius, 20.0)) ** 2.5).astype(np.float32)
    mask[radius < 30] |= np.int16(MaskBit.SATURATE)
    mask[:, int(X) - 4 : int(X) + 5] |= np.int16(MaskBit.SATURATE | MaskBit.TRAIL)
    mask[radius < 140] |= np.int16(MaskBit.STAR)
    weight[(mask & np.int16(MaskBit.SATURATE)) != 0] = 0.0
    return science, weight, mask


@pytest.mark.parametrize("angle", [37.0, 45.0, 60.0])
def test_a_spike_is_no_streak(angle, monkeypatch):
    science, weight, mask = frame()
    science += spikes(angle, 3.0 * SIGMA).astype(np.float32)
    assert find_streaks(science, weight, mask, SETTINGS) == []
    monkeypatch.setattr(search, "is_spike", lambda image, streak: False)
    assert find_streaks(science, weight, mask, SETTINGS)  # it is bright enough to be taken for one


@pytest.mark.parametrize("with_spikes", [False, True])
def test_a_trail_over_a_saturated_star_is_a_streak(with_spikes):
    science, weight, mask = frame()
    if with_spikes:
        science += spikes(45.0, 3.0 * SIGMA).astype(np.float32)
    angle = np.radians(72.0)
    add_streak(science, X, Y, angle, 3.0 * SIGMA, 5.0)
    (streak,) = find_streaks(science, weight, mask, SETTINGS)
    assert np.arctan2(streak.y1 - streak.y0, streak.x1 - streak.x0) % np.pi == pytest.approx(angle, abs=0.01)


def test_the_rim_of_a_ghost_is_no_streak_and_a_curved_path_is():
    for radius, number in ((1300.0, 0), (12000.0, 1)):
        science, weight, mask = blank(SHAPE, seed=12)
        distance = np.hypot(GX - (500.0 - radius), GY - 1000.0) - radius
        science += (2.0 * SIGMA * np.exp(-0.5 * (distance / 5.0) ** 2)).astype(np.float32)
        assert len(find_streaks(science, weight, mask, SETTINGS)) == number


def test_what_lies_along_a_bleed_trail_is_no_streak():
    for with_trail in (True, False):
        science, weight, mask = frame(seed=13) if with_trail else blank(SHAPE, seed=13)
        science[300:1800, 700:724] += np.float32(0.7 * SIGMA)
        assert len(find_streaks(science, weight, mask, SETTINGS)) == (0 if with_trail else 1)
