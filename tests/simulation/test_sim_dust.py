"""A field at low latitude: patchy extinction that reddens, by the distance of the stars."""

import numpy as np
import pytest

from imaging.simulation.dust import PER_VISUAL, redden, visual_extinction
from imaging.simulation.galaxies import make_galaxies
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.stars import make_stars

FIELD = (150.0, -20.0, 0.4)
MEAN = 1.5


@pytest.fixture(scope="module")
def field():
    stars, galaxies = make_stars(3, *FIELD, 4.0, 10.0, 60440.0), make_galaxies(3, *FIELD, 1.0)
    return (stars, galaxies), redden(3, MEAN, stars, galaxies)


def test_the_dust_is_patchy_and_has_its_mean_over_many_fields():
    places = [np.array([15.0 * k]) for k in range(24)]
    values = [visual_extinction(3, MEAN, ra, np.array([dec]))[0] for ra in places for dec in (-50.0, -20.0, 10.0)]
    assert np.mean(values) == pytest.approx(MEAN, rel=0.3)
    assert min(values) < 0.6 * MEAN and max(values) > 1.8 * MEAN
    here = visual_extinction(3, MEAN, np.array([150.0, 150.0005, 150.4]), np.array([-20.0, -20.0, -20.0]))
    assert here[1] == pytest.approx(here[0], rel=0.1)
    assert abs(here[2] / here[0] - 1.0) > 0.02


def test_near_stars_are_hardly_and_far_ones_fully_reddened(field):
    (stars, galaxies), (red, dusty) = field
    total = visual_extinction(3, MEAN, stars.ra, stars.dec)
    dimmed = {band: red.mags[band] - stars.mags[band] for band in "griz"}
    near, far = stars.parallax > 5.0, stars.parallax < 0.12
    assert near.sum() > 10 and far.sum() > 10
    assert np.median(dimmed["i"][near] / total[near]) < 0.2 * PER_VISUAL["i"]
    assert np.median(dimmed["i"][far] / total[far]) > 0.95 * PER_VISUAL["i"]
    some = dimmed["i"] > 0.2
    for band, ratio in (("g", 1.18 / 0.58), ("z", 0.44 / 0.58)):
        np.testing.assert_allclose(dimmed[band][some] / dimmed["i"][some], ratio, rtol=1e-6)
    np.testing.assert_allclose(
        (red.bp - red.rp - stars.bp + stars.rp)[some] / dimmed["i"][some], 0.43 / 0.58, rtol=1e-6
    )
    behind = visual_extinction(3, MEAN, galaxies.ra, galaxies.dec)
    np.testing.assert_allclose(dusty.mags["g"] - galaxies.mags["g"], 1.18 * behind)


def test_the_density_of_faint_stars_follows_the_dust(field):
    (stars, _), (red, _) = field
    total = visual_extinction(3, MEAN, stars.ra, stars.dec)
    thick = total > np.median(total)
    clear, dusty = ((catalogue.mags["g"] < 21.0) for catalogue in (stars, red))
    before = clear[thick].sum() / clear[~thick].sum()
    assert dusty[thick].sum() / dusty[~thick].sum() < before - 3.0 * before / np.sqrt(0.5 * dusty.sum())


def test_the_setting_changes_the_effects_of_any_sky_and_nothing_without():
    plain, low = SimulationSettings(sky="crowded"), SimulationSettings(sky="crowded", low_latitude=True)
    assert plain.effects.extinction_mag == 0.0
    assert low.effects == plain.effects.with_values(extinction_mag=1.5)
    assert low.star_density == plain.star_density
    assert SimulationSettings(low_latitude=True).effects.extinction_mag == 1.5
    assert low.with_values(seed=7).effects == low.effects
    assert low.with_values(low_latitude=False).effects == plain.effects
    assert low.with_values(sky="hard").effects == SimulationSettings(sky="hard", low_latitude=True).effects
