"""A fast mover on a difference is one detection with a flag; point sources on a line and galaxies are not."""

import galsim
import numpy as np
import pytest

from imaging.difference.detect import BrightStars, detect, find_peaks
from imaging.difference.settings import DetectionSettings
from imaging.schemas.difference import DetectionFlag
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw, model_of

SHAPE = (140, 150)
SETTINGS = DetectionSettings()
NO_STARS = BrightStars(np.zeros(0), np.zeros(0), np.zeros(0))
ERROR = SIGMA / float(np.sqrt(np.sum(model_of(ROUND).stamp(70.0, 70.0, 20) ** 2)))
"""Error of a point source's flux."""
MIDDLE = (75.0, 70.0)


def found_on(light, seed=3, template=None):
    image = light + np.random.default_rng(seed).normal(0.0, SIGMA, SHAPE)
    difference = difference_of(image, psf=model_of(ROUND), model=template)
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
