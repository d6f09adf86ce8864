"""Colours of stars of which the reference knows only G, or nothing."""

import numpy as np
import pytest

from imaging.photometry.expected_colours import expected_colours

LIMIT_G = 20.9


def field(seed, slope, n=400):
    """Return magnitudes, G, BP - RP as the reference gives them, and the true colours; G - m is slope times colour.

    The reference has no colour of stars fainter than 21.2 in BP, and lists nothing beyond its limit.
    """
    random = np.random.default_rng(seed)
    colour = np.where(random.random(n) < 0.5, random.normal(0.9, 0.2, n), random.normal(2.2, 0.4, n)).clip(0.3, 3.4)
    g_mag = 22.5 - random.exponential(1.8, n)
    magnitude = g_mag - slope * (colour - 1.0) - 30.0 + random.normal(0.0, 0.03, n)
    listed = g_mag < LIMIT_G
    with_colour = listed & (g_mag + 0.6 * colour < 21.2)
    known = np.where(with_colour, colour + random.normal(0.0, 0.05, n), np.nan)
    return magnitude, np.where(listed, g_mag, np.nan), known, colour


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("slope", [0.9, -0.6], ids=["i", "g"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_g_alone_gives_the_colour(slope, seed):
    """The scatter of 0.03 mag in the magnitude is 0.03 to 0.05 mag in the colour, beside steps of the colour."""
    magnitude, g_mag, known, true = field(seed, slope)
    found = expected_colours(magnitude, g_mag, known)
    only_g = np.isfinite(g_mag) & np.isnan(known)
    assert only_g.sum() > 20
    assert np.array_equal(found[np.isfinite(known)], known[np.isfinite(known)])
    assert rms((found - true)[only_g]) < 0.25
    assert rms((np.nanmedian(known) - true)[only_g]) > 0.6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_stars_that_the_reference_does_not_list_are_red_in_i(seed):
    magnitude, g_mag, known, true = field(seed, 0.9)
    found = expected_colours(magnitude, g_mag, known)
    near = np.isnan(g_mag) & (magnitude < LIMIT_G - 30.0 - 0.5)
    assert near.sum() > 20
    assert rms((found - true)[near]) < 0.6 * rms((np.nanmedian(known) - true)[near])


def test_few_known_stars_and_sources_without_magnitude_give_no_estimate():
    magnitude, g_mag, known, _ = field(1, 0.9)
    known[np.flatnonzero(np.isfinite(known))[25:]] = np.nan
    assert np.array_equal(expected_colours(magnitude, g_mag, known), known, equal_nan=True)
    magnitude, g_mag, known, _ = field(1, 0.9)
    magnitude[np.isnan(known)] = np.nan
    assert np.array_equal(expected_colours(magnitude, g_mag, known), known, equal_nan=True)
