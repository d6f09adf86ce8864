"""Few stars with proper motions: a galaxy is not charged with them, and the stars leave nothing that is significant."""

import galsim
import numpy as np
import pytest

from imaging.difference.settings import SubtractionSettings
from imaging.difference.subtract import subtract
from tests.difference.drawn import draw
from tests.difference.known_pairs import calibrated, detectability

SHAPE, SIGMA, FWHM = (240, 240), 10.0, 4.6
BROAD, SHARP = galsim.Gaussian(fwhm=FWHM), galsim.Gaussian(fwhm=4.0)
GALAXY, OFFSET = galsim.Exponential(half_light_radius=2.5), 1.5
ELECTRONS = 60.0 / detectability(FWHM, 4.0, SIGMA, 3.0)
"""Flux of a transient that has a signal to noise of 60 on blank sky."""

N, MOTION = 8, 0.2


@pytest.fixture(scope="module", params=[1, 2])
def pair(request):
    """Return the difference and the places of galaxy and stars; the stars moved by 0.2 pixels per axis."""
    rng = np.random.default_rng(request.param)
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(40, 200, 3), np.linspace(40, 200, 3)))
    order = rng.permutation(N + 1)
    x, y = x[order] + rng.uniform(-3, 3, N + 1), y[order] + rng.uniform(-3, 3, N + 1)
    motion = rng.normal(0.0, MOTION, (2, N + 1))
    motion[:, 0] = 0.0
    flux = np.append(2e4, 6e4 * rng.uniform(0.5, 2.0, N))
    search, template = (
        draw(SHAPE, x + m[0], y + m[1], flux, [galsim.Convolve(GALAXY, psf)] + [psf] * N)
        for m, psf in ((motion, BROAD), (0.0 * motion, SHARP))
    )
    search += draw(SHAPE, [x[0] + OFFSET], [y[0]], [ELECTRONS], BROAD) + rng.normal(0.0, SIGMA, SHAPE)
    template += rng.normal(0.0, 3.0, SHAPE)
    difference = subtract(calibrated(search, SIGMA, BROAD), calibrated(template, 3.0, SHARP), SubtractionSettings())
    return difference, x, y


def highest(difference, x, y, reach):
    i, j = round(x), round(y)
    return float(np.abs(difference.score[j - reach : j + reach + 1, i - reach : i + reach + 1]).max())


def test_a_transient_on_a_galaxy_keeps_its_significance(pair):
    difference, x, y = pair
    filtered = difference.filtered
    i, j = round(x[0] + OFFSET), round(y[0])
    noise = filtered.numerator[j, i] / np.sqrt(filtered.norm[j, i])
    assert 25.0 < noise < 60.0  # less than on blank sky for the photons of the galaxy
    assert highest(difference, x[0] + OFFSET, y[0], 2) > 0.72 * noise


def test_stars_that_moved_leave_nothing_significant(pair):
    difference, x, y = pair
    assert max(highest(difference, a, b, 4) for a, b in zip(x[1:], y[1:], strict=True)) < 5.0
