"""The sky: counts, light curves, motions, and the plan of the exposures."""

import numpy as np
import pytest

from imaging.errors import InputError
from imaging.exposure import night_of
from imaging.simulation.asteroids import make_asteroids
from imaging.simulation.galaxies import luminosity_distance_mpc, make_galaxies, redshift_at
from imaging.simulation.observing import dark_hours, horizontal
from imaging.simulation.plan import field_of, plan_exposures
from imaging.simulation.reference_catalogues import gaia_like_table, locus_colour_terms
from imaging.simulation.settings import SimulationSettings, demo_settings
from imaging.simulation.sky import CCD_AREA_DEG2, make_sky
from imaging.simulation.stars import make_stars, stellar_locus
from imaging.simulation.transients import INVISIBLE_MAG, kilonova_magnitude
from imaging.tables import column
from imaging.wcs.sphere import separation_deg

RADIUS = 0.4
AREA = np.pi * RADIUS**2


@pytest.fixture(scope="module")
def stars():
    return make_stars(1, 190.5, -10.0, RADIUS, 1.0, 100.0, 60441.0)


def test_star_counts_are_those_of_high_latitude(stars):
    per_ccd = CCD_AREA_DEG2 / AREA
    assert (stars.g < 20.7).sum() * per_ccd == pytest.approx(250, rel=0.1)
    assert 700 < (stars.mags["i"] < 25.0).sum() * per_ccd < 1500


def test_galaxy_counts_and_sizes():
    galaxies = make_galaxies(1, 190.5, -10.0, RADIUS, 1.0)
    i = galaxies.mags["i"]
    assert (i < 25.0).sum() / AREA == pytest.approx(120_000, rel=0.05)
    bright, faint = (i > 18.5) & (i < 19.5), (i > 23.5) & (i < 24.5)
    assert np.median(galaxies.radius_arcsec[bright]) > 3 * np.median(galaxies.radius_arcsec[faint])


def test_magnitudes_follow_the_colour_terms_that_the_library_gets(stars):
    terms = locus_colour_terms()
    for band in ("g", "r", "i", "z", "Y"):
        term = terms.bands[band]
        colour = stars.bp - stars.rp
        valid = (colour > term.colour_min) & (colour < term.colour_max)
        residual = (stars.mags[band] - stars.g - np.polynomial.Polynomial(term.coefficients)(colour))[valid]
        assert residual.std() == pytest.approx(term.scatter_mag, rel=0.1)
        assert abs(residual.mean()) < 4 * residual.std() / np.sqrt(valid.sum()) + 0.001
        assert 0.010 < term.scatter_mag < 0.02


def test_locus_is_smooth_and_red_stars_are_red():
    colour = np.linspace(0.0, 4.0, 400)
    locus = stellar_locus(colour)
    assert np.abs(np.diff(locus["i"])).max() < 0.05
    assert (locus["g"] - locus["i"])[-1] > 3.0 > (locus["g"] - locus["i"])[100] > 0.4


def test_proper_motion_and_parallax_move_stars(stars):
    ra, dec = stars.at_epoch(60441.0)
    years = 2000.0 + (60441.0 - 51544.5) / 365.25 - 2016.0
    moved = separation_deg(stars.ra, stars.dec, ra, dec) * 3.6e6
    expected = np.hypot(stars.pmra, stars.pmdec) * years
    assert np.abs(moved - expected).max() <= (stars.parallax * 1.02).max()
    nearby = int(np.argmax(stars.parallax))
    half_year = [stars.at_epoch(60441.0 + d) for d in (0.0, 182.625)]
    shift_ra = (half_year[1][0] - half_year[0][0])[nearby] * np.cos(np.radians(stars.dec[nearby])) * 3.6e6
    assert abs(shift_ra - stars.pmra[nearby] / 2) > 0.3 * stars.parallax[nearby]


def test_catalogue_errors_are_as_stated(stars):
    table = gaia_like_table(1, stars)
    index = np.searchsorted(stars.source_id, column(table, "source_id"))
    good = column(table, "ruwe") < 1.35
    error = column(table, "dec_error")
    pull = ((column(table, "dec") - stars.dec[index]) * 3.6e6 / error)[good]
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    assert abs(pull.mean()) < 4 / np.sqrt(good.sum())
    assert 0.015 < error.min() < 0.03
    assert np.median(error[column(table, "phot_g_mean_mag") > 20]) > 0.4
    assert table.column("pmra").null_count > 0


def test_variable_stars_vary_and_others_do_not(stars):
    change = stars.magnitude("i", 60441.1) - stars.magnitude("i", 60400.3)
    assert not change[stars.variability == 0].any()
    assert np.abs(change[stars.variability == 1]).max() > 0.1
    assert (stars.variability > 0).sum() == pytest.approx(100 * AREA, rel=0.35)


def test_kilonova_follows_at2017gfo():
    at_40 = np.array([40.0])
    assert kilonova_magnitude("i", np.array([0.5]), at_40)[0] == pytest.approx(17.45, abs=0.01)
    assert kilonova_magnitude("i", np.array([0.5]), np.array([165.0]))[0] == pytest.approx(20.53, abs=0.02)
    assert kilonova_magnitude("i", np.array([-0.1]), at_40)[0] == INVISIBLE_MAG
    days, once = np.array([1.0, 4.5]), np.array([40.0, 40.0])
    g, z = kilonova_magnitude("g", days, once), kilonova_magnitude("z", days, once)
    assert g[1] - g[0] > 3.0 > z[1] - z[0] > 1.0  # it fades faster and ends redder in the blue


def test_distances_and_redshifts_invert():
    assert redshift_at(165.0) == pytest.approx(0.0375, abs=0.0005)
    assert luminosity_distance_mpc(np.array([0.1]))[0] == pytest.approx(460.0, rel=0.01)


def test_asteroids_move_by_their_rate():
    asteroids = make_asteroids(1, 20240510, 60441.0, 190.5, -10.0, 1.0, 200.0)
    first, second = asteroids.position(60441.0), asteroids.position(60441.0 + 2.5 / 24.0)
    moved = separation_deg(*first, *second) * 3600.0 / 2.5
    np.testing.assert_allclose(moved, np.hypot(asteroids.rate_east, asteroids.rate_north), rtol=2e-3)
    assert np.median(moved) == pytest.approx(33.0, abs=5.0)
    other = make_asteroids(1, 20240511, 60442.0, 190.5, -10.0, 1.0, 200.0)
    assert not set(asteroids.source_id) & set(other.source_id)


def test_plan_observes_in_the_dark_and_high():
    settings = demo_settings(bands=("i", "z"))
    exposures = plan_exposures(settings)
    search = [e for e in exposures if e.role == "search"]
    templates = [e for e in exposures if e.role == "template"]
    assert len(search) == 4
    assert len({e.expnum for e in exposures}) == len(exposures)
    assert len({e.night for e in templates}) == 3
    assert all(e.night == settings.night for e in search)
    assert (search[-1].mjd - search[0].mjd) * 24 == pytest.approx(2.5, abs=0.1)
    for e in exposures:
        first, last = dark_hours(e.night)
        assert first <= e.mjd <= last
        assert night_of(e.mjd) == e.night
        assert e.airmass < 1.4
        assert e.airmass == pytest.approx(horizontal(e.true_ra_deg, e.true_dec_deg, e.mjd).airmass)
    assert all(35 <= search[0].mjd - e.mjd <= 115 for e in templates)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99, -30.0), (12.0, -90.0), (12.0, 89.9)])
def test_any_field_can_be_simulated(ra, dec):
    settings = SimulationSettings(
        ccds=(27,), field_ra_deg=ra, field_dec_deg=dec, galaxy_density=0.01, n_search_exposures=1, n_template_epochs=1
    )
    assert field_of(settings) == (ra, dec)
    exposures = plan_exposures(settings)
    sky = make_sky(settings, exposures)
    assert all(1.0 <= e.airmass < 2.1 for e in exposures)
    assert len(sky.stars.g) > 300
    assert np.isfinite(sky.stars.at_epoch(60441.0)).all()


def test_the_sky_does_not_depend_on_the_ccds():
    exposures = plan_exposures(SimulationSettings(n_search_exposures=1, n_template_epochs=0))
    few = make_sky(SimulationSettings(ccds=(27,), galaxy_density=0.02, host_ccd=27), exposures)
    more = make_sky(SimulationSettings(ccds=(26, 27), galaxy_density=0.02, host_ccd=27), exposures)
    index = np.searchsorted(more.stars.source_id, few.stars.source_id)
    np.testing.assert_array_equal(more.stars.ra[index], few.stars.ra)
    assert set(few.transients.source_id) <= set(more.transients.source_id)


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="the kilonova's CCD is not simulated"):
        SimulationSettings(ccds=(1, 3), host_ccd=4)
    with pytest.raises(InputError, match="unknown band"):
        SimulationSettings(bands=("q",))
    with pytest.raises(InputError, match="CCD number out of range"):
        SimulationSettings(ccds=(63,))
