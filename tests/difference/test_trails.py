"""A fast mover on a difference is one detection with a flag; point sources on a line and galaxies are not."""

import galsim
import numpy as np
import pytest

from imaging.difference.detect import BrightStars, detect, find_peaks
from imaging.difference.settings import DetectionSettings
from imaging.difference.trail_fit import _around, _fit
from imaging.schemas.difference import DetectionFlag
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw, model_of

SHAPE = (140, 150)
SETTINGS = DetectionSettings()
NO_STARS = BrightStars(np.zeros(0), np.zeros(0), np.zeros(0))
ERROR = SIGMA / float(np.sqrt(np.sum(model_of(ROUND).stamp(70.0, 70.0, 20) ** 2)))
"""Error of a point source's flux."""
MIDDLE = (75.0, 70.0)


def found_on(light, seed=3, template=None, masked=0):
    """Detections and number of peaks on a drawn difference, of which some columns in the middle may be masked."""
    image = light + np.random.default_rng(seed).normal(0.0, SIGMA, SHAPE)
    gap = np.abs(np.arange(SHAPE[1]) - MIDDLE[0]) < 0.5 * masked
    weight = np.broadcast_to(np.where(gap, 0.0, 1 / SIGMA**2), SHAPE).astype(np.float32)
    mask = np.broadcast_to(gap, SHAPE).astype(np.int16)
    difference = difference_of(np.where(gap, 0.0, image), psf=model_of(ROUND), model=template, weight=weight, mask=mask)
    peaks = find_peaks(difference.score, SETTINGS.threshold_sigma, SETTINGS.peak_radius_pixels)
    return detect(difference, SETTINGS, NO_STARS), len(peaks[0])


def trail(length, snr, angle_deg):
    """Light of a source that moves by ``length`` pixels, with a significance of ``snr`` all along."""
    n = 4 * int(length)
    along = np.linspace(-0.5, 0.5, n) * length
    x, y = (m + along * f(np.radians(angle_deg)) for m, f in zip(MIDDLE, (np.cos, np.sin), strict=True))
    light = draw(SHAPE, x, y, np.full(n, 1.0 / n), ROUND)
    stamp = model_of(ROUND).stamp(*MIDDLE, 20)
    seen = np.sum(light[50:91, 55:96] * stamp) / np.sum(stamp**2)
    return light * snr * ERROR / seen


def is_trail(found):
    return (found.flags & int(DetectionFlag.STREAK)) != 0


@pytest.mark.parametrize(
    ("length", "snr"), [(8.0, 19.0), (12.0, 12.0), (20.0, 6.5), (20.0, 19.0), (20.0, 60.0), (40.0, 9.0), (60.0, 19.0)]
)
@pytest.mark.parametrize("angle_deg", [0.0, 63.0, 150.0])
def test_a_trail_is_one_detection_at_its_middle_with_all_of_its_light(length, snr, angle_deg):
    light = trail(length, snr, angle_deg)
    found, _ = found_on(light)
    assert len(found) == 1 and is_trail(found).all()
    m, (x, y) = found.measured, MIDDLE
    assert abs(m.x[0] - x) < 4.0 * m.x_error[0] and abs(m.y[0] - y) < 4.0 * m.y_error[0]
    assert max(m.x_error[0], m.y_error[0]) < FWHM * (0.2 + 1.0 / snr) * 2.0
    assert abs(m.flux[0] - light.sum()) < 4.0 * m.flux_error[0]
    assert found.score[0] == pytest.approx(light.sum() / m.flux_error[0], rel=0.5)
    assert m.trail_length[0] == pytest.approx(length, abs=8.0 * max(m.x_error[0], m.y_error[0]))
    assert abs(m.trail_length[0] - length) < 4.5 * np.hypot(m.trail_length_error[0], 0.02 * FWHM)
    turn = (m.trail_angle[0] - angle_deg + 90.0) % 180.0 - 90.0
    assert abs(turn) < 4.5 * np.hypot(m.trail_angle_error[0], 0.2)
    assert abs(turn) < np.degrees(8.0 * FWHM / (snr * length))


@pytest.mark.parametrize("masked", [3, 7, 11])
@pytest.mark.parametrize(("length", "snr"), [(40.0, 9.0), (60.0, 19.0)])
def test_masked_columns_do_not_cut_a_trail_in_two(length, snr, masked):
    for seed in range(4):
        found, n_peaks = found_on(trail(length, snr, 20.0 + 5.0 * seed), seed, masked=masked)
        assert len(found) == 1 < n_peaks and is_trail(found).all()
        m = found.measured
        assert abs(m.trail_length[0] - length) < 4.5 * np.hypot(m.trail_length_error[0], 0.02 * FWHM)
        assert abs(m.x[0] - MIDDLE[0]) < 4.5 * m.x_error[0] and abs(m.y[0] - MIDDLE[1]) < 4.5 * m.y_error[0]


@pytest.mark.parametrize("snr", [(30.0, 30.0), (30.0, 18.0)])
def test_point_sources_on_both_sides_of_masked_columns_remain_two(snr):
    for seed, apart in enumerate((14.0, 17.0, 20.0)):
        x = [MIDDLE[0] - 0.5 * apart, MIDDLE[0] + 0.5 * apart]
        found, _ = found_on(draw(SHAPE, x, [70.0, 72.0], np.array(snr) * ERROR, ROUND), seed, masked=7)
        assert len(found) == 2 and not is_trail(found).any()


def test_a_trail_does_not_move_with_a_thousandth_of_the_noise():
    """Ten noises, each with another one of a thousandth added: peaks come and go, the trail stays where it is."""
    n_peaks = []
    for seed in range(10):
        light, places = trail(20.0, 15.0, 31.0), []
        for other in (0, 1, 2):
            added = np.random.default_rng((seed, other)).normal(0.0, 1e-3 * SIGMA, SHAPE)
            found, n = found_on(light + added, seed)
            n_peaks.append(n)
            assert len(found) == 1 and is_trail(found).all()
            places.append([found.measured.x[0], found.measured.y[0], found.measured.trail_length[0]])
        assert np.ptp(places, axis=0).max() < 0.1
    assert len(set(n_peaks)) > 1


@pytest.mark.parametrize("snr", [(12.0, 12.0), (30.0, 18.0), (9.0, 7.0), (19.0, 19.0, 19.0), (25.0, 19.0, 25.0)])
@pytest.mark.parametrize("angle_deg", [0.0, 40.0, 111.0])
def test_point_sources_seven_pixels_apart_remain_as_many(snr, angle_deg):
    along = 7.0 * (np.arange(len(snr)) - 0.5 * (len(snr) - 1))
    x, y = MIDDLE[0] + along * np.cos(np.radians(angle_deg)), MIDDLE[1] + along * np.sin(np.radians(angle_deg))
    found, n_peaks = found_on(draw(SHAPE, x, y, np.array(snr) * ERROR, ROUND))
    assert len(found) == n_peaks == len(snr)
    assert not is_trail(found).any()


def test_a_round_or_an_elliptical_source_is_no_trail():
    for profile in (galsim.Gaussian(fwhm=1.6 * FWHM), galsim.Gaussian(fwhm=1.8 * FWHM).shear(g1=0.25)):
        found, _ = found_on(draw(SHAPE, [75.3], [70.2], [60.0 * ERROR], profile))
        assert len(found) == 1 and found.measured.spread[0] > 5.0 * found.measured.spread_error[0]
        assert not is_trail(found).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("angle_deg", [17.0, 90.0, 118.0])
def test_a_trail_of_seventy_five_pixels_is_one_detection_with_the_flag_of_streaks(angle_deg, sign):
    found, n_peaks = found_on(sign * trail(75.0, 9.0, angle_deg))
    assert n_peaks >= 5  # what the filter for point sources makes of it
    assert len(found) == 1
    assert found.flags[0] & int(DetectionFlag.STREAK)
    assert np.hypot(found.measured.x[0] - MIDDLE[0], found.measured.y[0] - MIDDLE[1]) < 2.5 * FWHM


def test_a_transient_on_a_trail_stays_a_detection():
    light = trail(75.0, 9.0, 17.0) + draw(SHAPE, [85.0], [73.1], [60.0 * ERROR], ROUND)
    found, _ = found_on(light)
    near = np.hypot(found.measured.x - 85.0, found.measured.y - 73.1) < 1.0
    assert near.sum() == 1
    assert not found.flags[near][0] & int(DetectionFlag.STREAK)


def test_point_sources_on_a_line_are_sources_of_their_own():
    x, y = 35.0 + 3.0 * FWHM * np.arange(6), np.full(6, 70.0)
    found, _ = found_on(draw(SHAPE, x, y, np.full(6, 9.0 * ERROR), ROUND))
    assert len(found) == 6
    assert not np.any(found.flags & int(DetectionFlag.STREAK))


@pytest.mark.parametrize("kind", ["edge-on galaxy", "spike"])
def test_what_is_left_of_a_galaxy_or_a_spike_is_no_trail(kind):
    """A tenth of it is left; without the template's light the galaxy would be a trail in half of the noises."""
    if kind == "spike":
        along = np.arange(0.0, 100.0, 0.25)
        light = draw(SHAPE, 30.0 + along, np.full(along.size, 70.0), 0.75 * ERROR * np.exp(-along / 60.0), ROUND)
    else:
        disc = galsim.Convolve([galsim.InclinedExponential(87 * galsim.degrees, half_light_radius=35.0), ROUND])
        light = draw(SHAPE, [MIDDLE[0]], [MIDDLE[1]], [150.0 * ERROR], disc, reach=60)
    for seed in range(3):
        found, n_peaks = found_on(light, seed, template=10.0 * light)
        assert n_peaks >= 4
        assert not np.any(found.flags & int(DetectionFlag.STREAK))


def test_a_fit_draws_every_place_once_for_light_and_slopes():
    image = trail(20.0, 19.0, 31.0) + np.random.default_rng(3).normal(0.0, SIGMA, SHAPE)
    start = np.array([20.0 * ERROR, MIDDLE[0] + 1.0, MIDDLE[1] - 1.0, 12.0, 12.0])
    window, used = _around(image, np.full(SHAPE, SIGMA**-2), model_of(ROUND), start)
    drawn = []

    def draw(p):
        drawn.append(tuple(p))
        return window.line(p)

    fitted = _fit(draw, start, window, used)
    assert np.hypot(*fitted[3:]) == pytest.approx(20.0, abs=2.0)
    assert len(set(drawn)) == len(drawn) > 3


def test_the_slopes_of_a_line_are_those_of_its_light():
    """Along a parameter of a line of some length, and of none, where sine and cosine are expanded."""
    for u, v in ((9.0, -14.0), (1e-4, 2e-4)):
        p = np.array([3.0, *MIDDLE, u, v])
        window, _ = _around(np.zeros(SHAPE), np.ones(SHAPE), model_of(ROUND), np.array([3.0, *MIDDLE, 9.0, -14.0]))
        light, slopes = window.line(p)
        assert light.sum() == pytest.approx(3.0, rel=0.01)
        for k, slope in enumerate(slopes):
            step = 1e-4 * np.eye(5)[k]
            of_light = (window.line(p + step)[0] - window.line(p - step)[0]) / 2e-4
            assert slope == pytest.approx(of_light, abs=1e-7 * np.abs(slopes).max())
