"""Spikes are measured on the template and become noise by what is left of them; all else stays as deep as before."""

import numpy as np
import pytest

from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.spikes import SpikeModel, add_spikes, measure_spikes, predicted_spikes
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw

SIDE, SCALE, WIDTH = 801, 0.27, 18.0
GY, GX = np.indices((SIDE, SIDE))
STARS = np.array([[400.0, 380.0, 6.0e9], [-40.0, 520.0, 9.0e9], [650.0, 560.0, 2.0e9]])
"""x, y and flux of three stars, one beside the image."""
NOISE_AREA = 1.0 / np.sum(ROUND.drawImage(nx=41, ny=41, scale=1.0).array ** 2)
SHARE = 2.0e-3
"""Share of a star's light in each line."""


def profile(t):
    """Light along a line per pixel: diffraction by a strip (sinc squared), averaged over a band, in total one."""
    return np.mean([np.sinc(t / width) ** 2 / width for width in np.linspace(0.85, 1.15, 41) * WIDTH], axis=0)


def spikes(angle_deg, stars=STARS):
    """Draw the spikes of stars; across them they are as wide as the PSF."""
    out, sigma = np.zeros((SIDE, SIDE)), FWHM / 2.3548
    for x, y, flux in stars:
        for turn in (0.0, 90.0):
            c, s = np.cos(np.radians(angle_deg + turn)), np.sin(np.radians(angle_deg + turn))
            t, p = (GX - x) * c + (GY - y) * s, (GY - y) * c - (GX - x) * s
            across = np.exp(-0.5 * (p / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
            out += SHARE * flux * profile(t) * across
    return out


def blank(seed=5):
    return np.random.default_rng(seed).normal(0.0, SIGMA, (SIDE, SIDE))


def noise_of(image, template):
    difference = difference_of(image, model=template)
    return ResidualNoise(difference.filtered, difference.weight, (0.0, 0.0), FWHM, SCALE)


def score_of(noise):
    return noise.filtered.numerator / np.sqrt(noise.filtered.norm)


def distances(angle_deg):
    """Return the distance of every pixel from the nearest line, and along it from its star."""
    best, along = np.full((SIDE, SIDE), np.inf), np.zeros((SIDE, SIDE))
    for x, y, _ in STARS:
        for turn in (0.0, 90.0):
            c, s = np.cos(np.radians(angle_deg + turn)), np.sin(np.radians(angle_deg + turn))
            p = np.abs((GY - y) * c - (GX - x) * s)
            nearer = p < best
            best[nearer], along[nearer] = p[nearer], np.abs((GX - x) * c + (GY - y) * s)[nearer]
    return best, along


@pytest.mark.parametrize("angle", [20.0, 45.0, 52.3, 80.0])
def test_angle_brightness_and_power_are_those_of_the_diffraction(angle):
    radius = np.hypot(GX - 400.0, GY - 380.0)
    halo = 6.0e9 * 1e-4 / np.maximum(radius, 10.0) ** 2
    model = measure_spikes(noise_of(blank(), spikes(angle) + halo + blank(6)), *STARS.T)
    assert model.angle_deg == pytest.approx(angle, abs=0.1)
    assert model.power == pytest.approx(2.0, abs=0.1)
    # a point source fits the line, which is as wide: its sum with the PSF is 1 / (2 sqrt(pi) sigma) per unit length
    line = SHARE * WIDTH / (2 * np.pi**2 * 150.0**2) / (2 * np.sqrt(np.pi) * FWHM / 2.3548) * NOISE_AREA
    assert model.share(np.array([150.0]))[0] == pytest.approx(line, rel=0.1)


@pytest.mark.parametrize("left", [0.1, -0.3])
def test_what_is_left_of_spikes_is_noise_and_the_rest_is_as_deep_as_before(left):
    light = spikes(45.0)
    noise = noise_of(blank() + left * light, light + blank(6))
    before, norm = score_of(noise), noise.filtered.norm.copy()
    assert add_spikes(noise, *STARS.T) is not None
    after = score_of(noise)
    across, along = distances(45.0)
    near = (across < 1.5) & (along > 30) & (along < 100)
    assert (np.abs(before[near]) > 5).mean() > 0.4 and (np.abs(after[near]) > 5).mean() < 0.01
    changed = noise.filtered.norm < 0.99 * norm
    assert not changed[across > 2.5 * FWHM].any()
    assert 0.4 < np.median(np.abs(after[near])) < 1.4  # 0.67 over the whole width of the spike: no more than is left


def test_spikes_that_the_subtraction_removes_cost_no_depth():
    noise = noise_of(blank(), spikes(45.0) + blank(6))
    norm = noise.filtered.norm.copy()
    assert add_spikes(noise, *STARS.T) is not None
    assert np.sqrt(noise.filtered.norm / norm).min() > 0.9
    across, along = distances(45.0)
    assert np.sqrt(noise.filtered.norm / norm)[(across < 1.5) & (along > 30)].mean() > 0.98


def test_a_transient_between_the_spikes_keeps_its_significance():
    light, flux = spikes(45.0), 30.0 * SIGMA * np.sqrt(NOISE_AREA)
    noise = noise_of(blank() + 0.2 * light + draw((SIDE, SIDE), [400.0], [480.0], [flux]), light)
    before = score_of(noise)[480, 400]
    add_spikes(noise, *STARS.T)
    assert before > 25 and score_of(noise)[480, 400] == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize("lines", [False, True])
def test_stars_without_spikes_and_lines_along_columns_add_none(lines):
    template = blank(6) + draw((SIDE, SIDE), *np.random.default_rng(3).uniform(30, 770, (2, 200)), np.full(200, 3e4))
    if lines:  # what is left beside bleed trails
        template += 30.0 * SIGMA * (np.abs(GX - 400) < 3)
    noise = noise_of(blank(), template)
    norm = noise.filtered.norm.copy()
    assert add_spikes(noise, *STARS.T) is None
    assert np.array_equal(noise.filtered.norm, norm)
    none = np.zeros(0)
    assert add_spikes(noise, none, none, none) is None


def test_the_spikes_of_a_star_beside_the_image_reach_into_it():
    model = SpikeModel(30.0, 1e-6, 2.0, 100.0)
    found = predicted_spikes(noise_of(blank(), blank(6)), model, np.array([-50.0]), np.array([200.0]), np.array([1e9]))
    dx, dy = found.columns + 50.0, found.rows - 200.0
    first = np.abs(dy * np.cos(np.pi / 6) - dx * np.sin(np.pi / 6)) <= 2.0 * FWHM
    second = np.abs(dy * np.sin(np.pi / 6) + dx * np.cos(np.pi / 6)) <= 2.0 * FWHM
    assert (first | second).all() and first.sum() > 3000
    middle = np.abs(dy * np.cos(np.pi / 6) - dx * np.sin(np.pi / 6)) < 0.3
    distance = np.hypot(dx, dy)[middle]
    assert found.light[middle] == pytest.approx(1e9 * 1e-6 * (100.0 / distance) ** 2, rel=0.05)
