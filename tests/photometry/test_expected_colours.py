"""Colours of stars of which the reference knows BP - RP badly, only G, or nothing."""

import numpy as np
import pytest

from imaging.photometry.expected_colours import expected_colours

LIMIT_G = 20.9


NOISE_MAG = 0.03


def field(seed, slope, n=400):
    """Return magnitudes, G, BP - RP and its error as the reference gives them, and true colours.

    G - m is slope times colour. The reference has no colour of stars fainter than 21.2 in BP, and lists nothing beyond
    its limit.
    """
    random = np.random.default_rng(seed)
    colour = np.where(random.random(n) < 0.5, random.normal(0.9, 0.2, n), random.normal(2.2, 0.4, n)).clip(0.3, 3.4)
    g_mag = 22.5 - random.exponential(1.8, n)
    magnitude = g_mag - slope * (colour - 1.0) - 30.0 + random.normal(0.0, NOISE_MAG, n)
    bp_mag, listed = g_mag + 0.6 * colour, g_mag < LIMIT_G
    error = np.interp(bp_mag, [17.0, 18.5, 20.0, 21.5], [0.01, 0.03, 0.08, 0.3])
    known = np.where(listed & (bp_mag < 21.2), colour + random.normal(0.0, 1.0, n) * error, np.nan)
    return magnitude, np.where(listed, g_mag, np.nan), known, error, colour


def found_in(magnitude, g_mag, known, error):
    return expected_colours((magnitude, np.full(magnitude.size, NOISE_MAG)), g_mag, (known, error))


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("slope", [0.9, -0.6], ids=["i", "g"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_g_alone_gives_the_colour(slope, seed):
    """The scatter of 0.03 mag in the magnitude is 0.03 to 0.05 mag in the colour."""
    magnitude, g_mag, known, error, true = field(seed, slope)
    found = found_in(magnitude, g_mag, known, error)
    only_g = np.isfinite(g_mag) & np.isnan(known)
    assert only_g.sum() > 20
    assert rms((found - true)[only_g]) < 0.25
    assert rms((np.nanmedian(known) - true)[only_g]) > 0.6


@pytest.mark.parametrize("slope", [0.9, -0.6], ids=["i", "g"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_g_improves_colours_of_faint_stars_and_leaves_precise_ones(slope, seed):
    """Colours of 0.15 mag and those from G of 0.05 mag or better give 0.05; variable stars keep what BP - RP says."""
    magnitude, g_mag, known, error, true = field(seed, slope)
    precise, poor = (np.isfinite(known) & limit for limit in (error < 0.02, error > 0.1))
    flaring = np.flatnonzero(poor)[:5]
    magnitude[flaring] -= 1.5
    found = found_in(magnitude, g_mag, known, error)
    assert np.array_equal(found[precise], known[precise])
    steady = poor & ~np.isin(np.arange(poor.size), flaring)
    assert steady.sum() > 20
    assert rms((found - true)[steady]) < 0.6 * rms((known - true)[steady])
    assert np.abs((found - known) / error)[flaring].max() < 2.0


def test_a_poor_colour_beyond_those_of_the_precise_stars_is_a_number():
    magnitude, g_mag, known, error, _ = field(1, 0.9)
    known[0], error[0], g_mag[0] = 9.0, 0.05, 18.0
    assert np.isfinite(found_in(magnitude, g_mag, known, error)[np.isfinite(magnitude)]).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_stars_that_the_reference_does_not_list_are_red_in_i(seed):
    magnitude, g_mag, known, error, true = field(seed, 0.9)
    found = found_in(magnitude, g_mag, known, error)
    near = np.isnan(g_mag) & (magnitude < LIMIT_G - 30.0 - 0.5)
    assert near.sum() > 20
    assert rms((found - true)[near]) < 0.6 * rms((np.nanmedian(known) - true)[near])


def test_few_known_stars_and_sources_without_magnitude_give_no_estimate():
    magnitude, g_mag, known, error, _ = field(1, 0.9)
    known[np.flatnonzero(np.isfinite(known))[25:]] = np.nan
    assert np.array_equal(found_in(magnitude, g_mag, known, error), known, equal_nan=True)
    magnitude, g_mag, known, error, _ = field(1, 0.9)
    without = np.isnan(known)
    magnitude[without] = np.nan
    found = found_in(magnitude, g_mag, known, error)
    assert np.isnan(found[without]).all()
    assert np.isfinite(found[~without]).all()
