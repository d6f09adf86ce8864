"""The match: pointing errors, rotation, scale, few stars, crowding, spurious detections, and refusal."""

import numpy as np
import pytest

from imaging.astrometry.match import match_stars
from imaging.astrometry.settings import AstrometrySettings
from imaging.errors import CcdError

SETTINGS = AstrometrySettings()
WIDTH, HEIGHT = 540.0, 1080.0  # a CCD in arcseconds


def scene(seed, n_stars, *, spurious=0.3, found=0.85, offset=(0.0, 0.0), rotation_deg=0.0, scale=0.0, clustered=False):
    """Return detections, brightness, reference positions, magnitudes, and the true reference of each detection."""
    random = np.random.default_rng(seed)
    place = random.uniform((0, 0), (WIDTH, HEIGHT), (n_stars, 2))
    if clustered:
        place[: n_stars // 2] = random.normal((270, 500), 45.0, (n_stars // 2, 2))
    place += np.array([1500.0, -2800.0])
    mag = random.uniform(13.0, 20.7, n_stars)
    angle = np.radians(rotation_deg)
    turn = (1 + scale) * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reference = place @ turn.T + offset
    error = 0.004 + 0.03 * 10 ** (0.2 * (mag - 20.7))
    seen = np.flatnonzero(random.random(n_stars) < found)
    detected = place[seen] + error[seen, None] * random.normal(size=(seen.size, 2))
    n_false = int(np.ceil(spurious * seen.size))
    false = random.uniform((0, 0), (WIDTH, HEIGHT), (n_false, 2)) + np.array([1500.0, -2800.0])
    detected = np.concatenate([detected, false])
    brightness = 10 ** (-0.4 * np.concatenate([mag[seen], random.uniform(13.0, 20.7, n_false)]))
    return detected, brightness, reference, mag, np.concatenate([seen, np.full(n_false, -1)])


def check(truth, match, at_least):
    right = truth[match.detection] == match.reference
    assert right.mean() > 0.98
    assert right.sum() >= at_least


@pytest.mark.parametrize("seed", range(4))
def test_sixty_arcseconds_with_rotation_and_scale(seed):
    angle = 2.0 * np.pi * seed / 4
    *stars, truth = scene(
        seed,
        250,
        offset=(60 * np.cos(angle), 60 * np.sin(angle)),
        rotation_deg=0.1,
        scale=0.003 * (-1) ** seed,
    )
    match = match_stars(*stars, SETTINGS)
    check(truth, match, 0.95 * (truth >= 0).sum())


@pytest.mark.parametrize("seed", range(6))
def test_eight_stars_and_thirty_percent_spurious(seed):
    *stars, truth = scene(seed, 8, found=1.0, offset=(20.0, -35.0))
    check(truth, match_stars(*stars, SETTINGS), 8)


def test_eight_stars_among_a_hundred_detections():
    *stars, truth = scene(7, 8, found=1.0, spurious=12.0, offset=(-15.0, 10.0))
    check(truth, match_stars(*stars, SETTINGS), 7)


def test_crowded_field():
    *stars, truth = scene(3, 3000, clustered=True, offset=(30.0, 30.0), rotation_deg=0.1)
    check(truth, match_stars(*stars, SETTINGS), 0.9 * (truth >= 0).sum())


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_lists_are_refused(seed):
    detected, brightness, *_ = scene(seed, 150)
    *_, reference, mag, _ = scene(seed + 100, 150)
    with pytest.raises(CcdError) as caught:
        match_stars(detected, brightness, reference, mag, SETTINGS)
    assert caught.value.reason == "astrometry_no_match"
    assert "chance" in str(caught.value)


def test_three_stars_are_too_few():
    *stars, _ = scene(1, 3, found=1.0, spurious=0.0)
    with pytest.raises(CcdError) as caught:
        match_stars(*stars, SETTINGS)
    assert caught.value.reason == "too_few_stars"
    assert "3 detections" in str(caught.value)
