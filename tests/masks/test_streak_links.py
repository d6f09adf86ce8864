"""A trail that crosses the camera is one trail, and is masked where it was too faint to be seen."""

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.masks.settings import StreakSettings
from imaging.masks.streak_links import link_streaks
from imaging.masks.streak_model import Streak

SETTINGS = StreakSettings()
GEOMETRY = {ccd: seed_wcs(ccd) for ccd in range(1, 63)}


def crossing(ccd, angle_deg, distance_deg, jitter=0.0, stop=None):
    """Return the streak that a straight line in the tangent plane leaves on a CCD, or None."""
    along = np.arange(-1.3, 1.3 if stop is None else stop, 0.0005)
    a = np.radians(angle_deg)
    x, y = GEOMETRY[ccd].plane_to_pixel(
        along * np.cos(a) - distance_deg * np.sin(a), along * np.sin(a) + distance_deg * np.cos(a)
    )
    inside = np.flatnonzero((x > 0) & (x < 2047) & (y > 0) & (y < 4095))
    if inside.size < 300:
        return None
    x, y = x[inside], y[inside] + jitter
    ux, uy = np.array([x[-1] - x[0], y[-1] - y[0]]) / np.hypot(x[-1] - x[0], y[-1] - y[0])
    middle = len(x) // 2
    sagitta = (y[middle] - y[0]) * ux - (x[middle] - x[0]) * uy
    return Streak(x[0], y[0], x[-1], y[-1], sagitta, 6.0, 9.0, 100.0, 2.0, 80.0)


def trail(angle_deg, distance_deg, **options):
    found = {ccd: crossing(ccd, angle_deg, distance_deg, **options) for ccd in GEOMETRY}
    return {ccd: streak for ccd, streak in found.items() if streak is not None}


@pytest.mark.parametrize(("angle", "distance"), [(35.0, 0.1), (-70.0, 0.6), (2.0, -0.3)])
def test_a_trail_is_predicted_on_the_ccds_that_did_not_show_it(angle, distance):
    true = trail(angle, distance)
    seen = dict(list(true.items())[::2][:3])
    linked = link_streaks({ccd: [streak] for ccd, streak in seen.items()}, GEOMETRY, SETTINGS)
    assert len(linked.trails) == 1
    assert linked.trails[0].seen == tuple(sorted(seen))
    assert abs(np.sin(np.radians(linked.trails[0].angle_deg - angle))) < 1e-3
    missing = set(true) - set(seen)
    assert missing <= set(linked.predicted)
    for ccd in missing:
        (predicted,) = linked.predicted[ccd]
        x, y = true[ccd].points(7)
        length = predicted.length_pixels
        ux, uy = (predicted.x1 - predicted.x0) / length, (predicted.y1 - predicted.y0) / length
        share = ((x - predicted.x0) * ux + (y - predicted.y0) * uy) / length
        across = (y - predicted.y0) * ux - (x - predicted.x0) * uy
        across -= 4 * predicted.sagitta_pixels * share * (1 - share)
        assert np.abs(across).max() < 4.0
        assert share.min() > -0.02
        assert share.max() < 1.02
        assert predicted.significance == 0.0


def test_two_trails_stay_apart_and_a_lone_streak_predicts_nothing():
    first, second = trail(35.0, 0.1), trail(-70.0, 0.6)
    streaks = {ccd: [streak] for ccd, streak in list(first.items())[:3]}
    for ccd, streak in list(second.items())[:3]:
        streaks.setdefault(ccd, []).append(streak)
    lone = crossing(1, 80.0, -0.93) or next(iter(trail(80.0, 0.2).values()))
    streaks.setdefault(1, []).append(lone)
    linked = link_streaks(streaks, GEOMETRY, SETTINGS)
    assert len(linked.trails) == 2


def test_a_trail_that_ends_is_not_predicted_beyond_its_end():
    whole = trail(10.0, 0.05)
    short = trail(10.0, 0.05, stop=0.1)
    linked = link_streaks({ccd: [streak] for ccd, streak in short.items()}, GEOMETRY, SETTINGS)
    beyond = set(whole) - set(short)
    ended = any(min(s.x1, 2047 - s.x1, s.y1, 4095 - s.y1) > 160 for s in short.values())
    assert ended  # the end lies inside a CCD, or this test says nothing
    assert beyond
    assert not beyond & set(linked.predicted)


def test_nothing_gives_nothing():
    linked = link_streaks({}, GEOMETRY, SETTINGS)
    assert linked.trails == ()
    assert linked.predicted == {}
