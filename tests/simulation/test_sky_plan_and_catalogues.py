"""The exposures of a simulation by their laws, the catalogues that the processing gets, and the sky as a whole."""

import numpy as np
import pytest
from astropy.time import Time
from scipy.stats import kstest
from sky_judges import coordinates, project, some_galaxies, some_stars, some_transients

from imaging.bands import BANDS
from imaging.detector.distortion import seed_wcs
from imaging.exposure import night_of
from imaging.simulation.exposures import effective_time_factor, quadratic
from imaging.simulation.galaxies import luminosity_distance_mpc
from imaging.simulation.observing import horizontal
from imaging.simulation.plan import field_of, first_search_mjd, plan_exposures
from imaging.simulation.reference_catalogues import gaia_like_table, galaxy_table
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.sky import (
    CCD_AREA_DEG2,
    SimulatedSky,
    concatenate,
    host_ccd,
    host_position,
    make_sky,
    near_any,
    select,
)
from imaging.simulation.stars import FIRST_ID
from imaging.simulation.streams import random_stream
from imaging.simulation.truth import read_exposure_truth, read_sky, write_exposure_truth, write_sky
from imaging.tables import column
from tests.simulated_exposures import MJD, an_exposure

MANY = SimulationSettings(
    seed=2, bands=("g", "i", "Y"), n_search_exposures=40, n_template_epochs=40, search_interval_h=0.1,
    template_ages_days=(40.0, 110.0), cloud_mag=0.2, field_ra_deg=190.5, field_dec_deg=-30.0, streaks_per_exposure=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def exposures():
    return plan_exposures(MANY)


def offsets(exposures, first, second):
    """Arcseconds to the east and north between two pointings of each exposure."""
    pairs = [project(*(getattr(e, f"{second}{a}_deg") for a in ("ra", "dec")), *first(e)) for e in exposures]
    return 3600.0 * np.array(pairs)[:, :, 0].T


def test_pointings_scatter_by_the_dither_and_the_pointing_error(exposures):
    for role, dither in (("search", 30.0), ("template", 60.0)):
        chosen = [e for e in exposures if e.role == role]
        moved = offsets(chosen, lambda e: (190.5, -30.0), "")
        assert moved.std() == pytest.approx(dither, rel=4 / np.sqrt(2 * moved.size))
        assert abs(moved.mean()) < 4 * dither / np.sqrt(moved.size)
    error = np.hypot(*offsets(exposures, lambda e: (e.ra_deg, e.dec_deg), "true_"))
    assert kstest((error / 20.0) ** 2, "uniform").pvalue > 1e-3
    turned = np.array([e.rotation_deg for e in exposures])
    assert turned.std() == pytest.approx(0.05, rel=4 / np.sqrt(2 * len(turned)))


def test_exposures_have_the_zero_point_and_sky_of_band_and_airmass(exposures):
    ratio, fwhm = [], {"search": [], "template": []}
    for e in exposures:
        band = BANDS[e.band]
        first_order = band.zeropoint_rate_mag + 2.5 * np.log10(90.0) - band.extinction_mag * (e.airmass - 1.0)
        assert e.zeropoint_mag == pytest.approx(first_order, abs=1e-9)
        assert e.airmass == pytest.approx(horizontal(e.true_ra_deg, e.true_dec_deg, e.mjd).airmass)
        ratio.append(e.sky_electrons / (90.0 * band.sky_rate_electrons * e.airmass**0.7))
        fwhm[e.role].append(e.psf.fwhm_arcsec / e.airmass**0.6 / (band.wavelength_nm / 783.5) ** -0.2)
        transparency = 10.0 ** (-0.4 * e.clouds.mean_mag)
        assert e.t_eff == pytest.approx(
            effective_time_factor(e.band, e.psf.fwhm_arcsec, e.sky_electrons / 90.0, transparency), rel=1e-9
        )
        assert (len(e.sky_modes) == 6) == (e.band == "Y")
        assert night_of(e.mjd) == e.night
    assert np.mean(ratio) == pytest.approx(1.05, abs=4 * 0.04 / np.sqrt(len(ratio)))
    assert np.std(ratio) == pytest.approx(0.04, rel=4 / np.sqrt(2 * len(ratio)))
    assert kstest((np.array(fwhm["search"]) - 0.9) / 0.3, "uniform").pvalue > 1e-3
    assert kstest((np.array(fwhm["template"]) - 0.8) / 0.2, "uniform").pvalue > 1e-3
    fringes = [e.sky_modes[5] / 0.009 for e in exposures if e.band == "Y"]
    assert kstest((np.array(fringes) - 0.7) / 0.6, "uniform").pvalue > 1e-3


def test_the_effective_time_follows_seeing_sky_and_clouds():
    """Neilsen et al. (2016): the squares of seeing and transparency, and the sky; one for the reference night."""
    reference = effective_time_factor("i", 1.0, 4.0 * 7.87, 1.0)
    assert reference == pytest.approx(1.0, rel=1e-9)
    assert effective_time_factor("i", 2.0, 4.0 * 7.87, 1.0) == pytest.approx(0.25)
    assert effective_time_factor("i", 1.0, 8.0 * 7.87, 1.0) == pytest.approx(0.5)
    assert effective_time_factor("i", 1.0, 4.0 * 7.87, 0.5) == pytest.approx(0.25)
    for band in BANDS.values():
        good = effective_time_factor(band.name, band.reference_fwhm_arcsec, band.sky_rate_electrons, 1.0)
        assert good == pytest.approx(1.0, rel=0.01)


def test_clouds_and_streaks_have_their_mean_numbers(exposures):
    mean = np.array([e.clouds.mean_mag for e in exposures])
    assert kstest((mean - 0.1) / 0.2, "uniform").pvalue > 1e-3
    rms = [np.sqrt(sum(w.amplitude**2 for w in e.clouds.waves) / 2) for e in exposures]
    np.testing.assert_allclose(rms, 0.3 * mean, rtol=1e-9)
    waves = np.array([2 * np.pi / np.hypot(w.kx, w.ky) for e in exposures for w in e.clouds.waves])
    assert kstest((waves - 0.8) / 3.2, "uniform").pvalue > 1e-3
    streaks = [s for e in exposures for s in e.streaks]
    assert abs(len(streaks) - 2 * len(exposures)) < 4 * np.sqrt(2 * len(exposures))
    assert kstest([s.xi_deg**2 + s.eta_deg**2 for s in streaks], "uniform").pvalue > 1e-3
    assert kstest([s.angle_deg / 180.0 for s in streaks], "uniform").pvalue > 1e-3


def test_visits_follow_one_another(exposures):
    search = [e for e in exposures if e.role == "search"]
    assert [e.band for e in search[:6]] == ["g", "i", "Y"] * 2
    assert [(e.mjd - search[0].mjd) * 86400.0 for e in search[:4]] == pytest.approx(
        [0.0, 119.0, 238.0, 360.0], abs=0.01
    )
    assert search[0].expnum == MANY.first_expnum
    assert [e.expnum for e in search] == sorted({e.expnum for e in search})
    assert search[0].mjd == pytest.approx(first_search_mjd(MANY))
    ages = [round(search[0].mjd - e.mjd) for e in exposures if e.role == "template" and e.band == "g"]
    assert ages == sorted(ages, reverse=True)
    assert 108 <= ages[0] <= 110
    assert 40 <= ages[-1] <= 42
    assert field_of(MANY) == (190.5, -30.0)


def test_calibrations_are_taken_in_the_afternoon_before():
    settings = SimulationSettings(bands=("r", "z"), n_bias_exposures=2, n_flat_exposures=3, n_template_epochs=0)
    rest = [e for e in plan_exposures(settings) if not e.is_on_sky]
    assert [(e.role, e.band) for e in rest] == [("zero", "r")] * 2 + [("dome flat", "r")] * 3 + [("dome flat", "z")] * 3
    assert [e.exptime_s for e in rest] == [0.0] * 2 + [10.0] * 6
    assert [e.sky_electrons for e in rest] == [0.0] * 2 + [60000.0] * 6
    assert (rest[0].obstype, rest[-1].obstype) == ("zero", "dome flat")
    assert (np.diff([e.mjd for e in rest[2:]]) * 86400.0).tolist() == pytest.approx([39.0] * 5, abs=1e-3)
    assert rest[-1].mjd < first_search_mjd(settings) - 0.19
    # cosmic rays are collected while the shutter is open and during half of the readout
    assert rest[0].cosmic_rays_per_ccd == pytest.approx(55.0 * 14.5 / 60.0)
    assert rest[-1].cosmic_rays_per_ccd == pytest.approx(55.0 * 24.5 / 60.0)


def test_middle_of_an_exposure_and_the_quadratic_over_the_focal_plane():
    exposure = an_exposure(exptime_s=120.0)
    middle = Time(exposure.mjd_mid, format="mjd") - Time(MJD, format="mjd")
    assert middle.sec == pytest.approx(60.0, abs=1e-3)
    assert quadratic((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), np.array([0.5]), np.array([-2.0]))[0] == 1 + 1 - 6 + 1 - 5 + 24


def test_streams_differ_by_seed_purpose_and_identity_only():
    first = random_stream(1, "stars", 7).random(4)
    np.testing.assert_array_equal(first, random_stream(1, "stars", 7).random(4))
    for other in ((2, "stars", 7), (1, "galaxies", 7), (1, "stars", 8), (1, "stars")):
        assert not np.isclose(first, random_stream(*other).random(4)).any()


@pytest.fixture(scope="module")
def gaia():
    rng = np.random.default_rng(11)
    n = 40_000
    g = rng.uniform(12.0, 21.5, n)
    stars = some_stars(
        rng.uniform(189.0, 191.0, n),
        rng.uniform(-61.0, -59.0, n),
        g,
        parallax=rng.exponential(1.0, n),
        variability=np.int8(rng.random(n) < 0.1),
    )
    return stars, gaia_like_table(3, stars)


def test_errors_of_the_star_catalogue_are_those_of_gaias_third_release(gaia):
    """Median errors in position after Lindegren et al. (2021), mas: 0.02 at G 9 to 14, 0.07 at 17, 0.5 at 20."""
    stars, table = gaia
    mag, error = column(table, "phot_g_mean_mag"), column(table, "ra_error")
    for at, expected in ((13.0, 0.02), (17.0, 0.07), (20.0, 0.45)):
        assert np.median(error[np.abs(mag - at) < 0.05]) == pytest.approx(expected, rel=0.15)
    index = np.searchsorted(stars.source_id, column(table, "source_id"))
    east, north = (
        (column(table, "ra") - stars.ra[index]) * np.cos(np.radians(stars.dec[index])),
        column(table, "dec") - stars.dec[index],
    )
    ruwe = column(table, "ruwe")
    binary = ruwe > 1.38
    assert abs(binary.mean() - 0.05 * (5.0 - 1.38) / 3.6) < 4 * np.sqrt(0.05 / len(ruwe))
    for offset in (east, north):
        pull = offset * 3.6e6 / error
        n = (~binary).sum()
        assert pull[~binary].std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * n) + 2e-3)
        assert (pull / ruwe)[binary].std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * binary.sum()))
    known = table.column("pmra").is_valid().to_numpy(zero_copy_only=False)
    assert abs((~known[mag > 20.7]).mean() - 0.3) < 4 * np.sqrt(0.21 / (mag > 20.7).sum())
    assert known[mag < 20.5].all()
    for name, factor in (("pmra", 1.03), ("pmdec", 1.03), ("parallax", 1.15)):
        good = known & ~binary
        value, stated = (column(table, c)[good] for c in (name, f"{name}_error"))
        np.testing.assert_allclose(stated, factor * error[good], rtol=1e-5)
        assert ((value - getattr(stars, name)[index][good]) / stated).std() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(column(table, "ref_epoch"), 2016.0)


def test_the_star_catalogue_is_incomplete_and_ends_at_its_limit(gaia):
    stars, table = gaia
    above = stars.g < 20.9
    assert abs(table.num_rows - 0.975 * above.sum()) < 4 * np.sqrt(0.975 * 0.025 * above.sum())
    index = np.searchsorted(stars.source_id, column(table, "source_id"))
    assert stars.g[index].max() < 20.9
    varies = stars.variability[index] > 0
    listed = column(table, "variable").astype(bool)
    assert not listed[~varies].any()
    assert abs(listed[varies].mean() - 0.8) < 4 * np.sqrt(0.16 / varies.sum())
    for name, at, expected in (("g", 17.0, 0.003), ("bp", 17.0, 0.008), ("rp", 17.0, 0.008), ("bp", 20.0, 0.07)):
        truth = getattr(stars, name)[index]
        near = np.abs(truth - at) < 0.2
        error = column(table, f"phot_{name}_mean_mag_error")[near]
        assert np.median(error) == pytest.approx(expected, rel=0.06)
        measured = column(table, f"phot_{name}_mean_mag")[near]
        assert ((measured - truth[near]) / error).std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * near.sum()))
    lost = table.column("phot_bp_mean_mag").is_null().to_numpy(zero_copy_only=False)
    assert not lost[stars.bp[index] < 21.2].any()
    assert abs(lost[stars.bp[index] > 21.2].mean() - 0.6) < 0.15


def test_the_galaxy_catalogue_has_distances_of_both_kinds():
    rng = np.random.default_rng(12)
    n = 30_000
    mag = rng.uniform(14.0, 18.5, n)
    galaxies = some_galaxies(
        190.0, -10.0 + rng.uniform(-1, 1, n), mag, redshift=rng.uniform(0.01, 0.2, n), radius_arcsec=np.full(n, 5.0)
    )
    host = int(galaxies.source_id[np.argmax(mag)])  # fainter than the catalogue
    table = galaxy_table(3, galaxies, host, 165.0)
    index = np.searchsorted(galaxies.source_id, column(table, "source_id"))
    bright = (mag < 17.5).sum()
    assert abs(table.num_rows - 1 - 0.7 * bright) < 4 * np.sqrt(0.21 * bright)
    known = table.column("distance_mpc").is_valid().to_numpy(zero_copy_only=False)
    assert abs((~known).mean() - 0.05) < 4 * np.sqrt(0.05 / len(known))
    row = np.flatnonzero(column(table, "source_id") == host)[0]
    assert known[row]
    assert abs(column(table, "distance_mpc")[row] / 165.0 - 1.0) < 4 * 0.03
    distance, error = column(table, "distance_mpc")[known], column(table, "distance_error_mpc")[known]
    relative = error / distance
    spectroscopic = relative < 0.05
    np.testing.assert_allclose(relative, np.where(spectroscopic, 0.03, 0.15), rtol=1e-5)
    assert abs(spectroscopic.mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / len(relative))
    z = galaxies.redshift[index][known]
    off = np.log(distance / luminosity_distance_mpc(z))
    for chosen, sigma in ((spectroscopic, 0.03), (~spectroscopic, 0.15)):
        chosen = chosen & (galaxies.source_id[index][known] != host)
        assert off[chosen].std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * chosen.sum()))
        assert abs(off[chosen].mean()) < 4 * sigma / np.sqrt(chosen.sum())
    other = galaxies.source_id[index][known] != host
    np.testing.assert_allclose(column(table, "redshift")[known][other] / z[other], np.exp(off[other]), rtol=1e-4)
    # g = r = i here, so that B is g + 0.15 within a tenth
    blue = column(table, "mag_b") - mag[index]
    assert blue.mean() == pytest.approx(0.15, abs=4 * 0.1 / np.sqrt(len(blue)))
    size = np.log(column(table, "half_light_radius_arcsec") / 5.0)
    assert size.std() == pytest.approx(0.05, rel=4 / np.sqrt(2 * len(size)))


def test_the_kilonova_stands_in_the_inner_part_of_the_best_ccd():
    settings = SimulationSettings(ccds=(2, 27, 31, 34, 60), field_ra_deg=190.5, field_dec_deg=-30.0)
    corner = {c: np.hypot(*np.subtract(seed_wcs(c).crpix, (1024.0, 2048.0))) for c in settings.ccds}
    assert host_ccd(settings) == min((27, 34, 60), key=corner.get)
    assert host_ccd(SimulationSettings(ccds=(2, 60))) == 60  # CCD 2 does not work
    for seed in range(5):
        chosen = settings.with_values(seed=seed, host_ccd=60)
        x, y = seed_wcs(60, 190.5, -30.0).sky_to_pixel(*host_position(chosen))
        assert 0.3 * 2048 <= x <= 0.7 * 2048
        assert 0.3 * 4096 <= y <= 0.7 * 4096


def test_sources_near_a_ccd_are_kept_up_to_1500_pixels_outside():
    wcs = seed_wcs(27, 190.5, -30.0)
    x = np.array([-1400.0, 2048 + 1400.0, -1650.0, 2048 + 1650.0, 1000.0, 1000.0, 1000.0])
    y = np.array([2000.0, 2000.0, 2000.0, 2000.0, -1400.0, 4096 + 1650.0, 2000.0])
    kept = near_any(*wcs.pixel_to_sky(x, y), (27,), 190.5, -30.0)
    assert kept.tolist() == [True, True, False, False, True, False, True]
    assert near_any(*seed_wcs(1, 190.5, -30.0).pixel_to_sky([1000.0], [2000.0]), (27, 1), 190.5, -30.0).all()


@pytest.fixture(scope="module")
def sky():
    settings = SimulationSettings(
        seed=8, ccds=(27, 34), field_ra_deg=190.5, field_dec_deg=-30.0, galaxy_density=0.05, extra_star_mag=8.0,
        n_search_exposures=1, n_template_epochs=1, supernovae_per_ccd=20.0,
    )  # fmt: skip
    return settings, make_sky(settings, plan_exposures(settings))


def test_the_whole_sky_holds_what_the_settings_ask_for(sky):
    settings, made = sky
    bright = made.stars.source_id == FIRST_ID + 999_999_999
    assert bright.sum() == 1
    assert made.stars.g[bright][0] == pytest.approx(8.0)
    assert (made.stars.bp - made.stars.rp)[bright][0] == pytest.approx(0.82, abs=0.02)
    assert made.stars.mags["i"][bright][0] == pytest.approx(8.0 - 0.15, abs=0.15)
    x, y = seed_wcs(host_ccd(settings), 190.5, -30.0).sky_to_pixel(made.stars.ra[bright], made.stars.dec[bright])
    assert (x[0] / 2048, y[0] / 4096) == pytest.approx((0.85, 0.8), abs=1e-6)
    kilonova = made.transients.kind == 0
    host = made.galaxies.source_id == made.transients.host_id[kilonova]
    assert made.galaxies.source_id[host].tolist() == [2_999_999_999]
    place = coordinates(*host_position(settings))
    assert place.separation(coordinates(made.galaxies.ra[host], made.galaxies.dec[host])).arcsec[0] < 0.5
    assert made.transients.start_mjd[kilonova][0] == pytest.approx(first_search_mjd(settings) - 16.0 / 24.0)
    kept = (2048 + 3000) * (4096 + 3000) / (2048 * 4096)
    n = (made.transients.kind > 0).sum()
    assert 20 * 2 * 0.5 < n < 20 * 2 * kept  # the two areas with their margins overlap
    assert sorted(made.asteroids) == sorted({night_of(e.mjd) for e in plan_exposures(settings)})
    per_night = 2.0 / CCD_AREA_DEG2 * np.pi * 1.4**2
    for asteroids in made.asteroids.values():
        assert abs(len(asteroids.mag_i) - per_night) < 4 * np.sqrt(per_night)


def test_the_sky_survives_its_files(sky, tmp_path):
    _, made = sky
    write_sky(tmp_path, made)
    back = read_sky(tmp_path)
    for part, names in (
        ("stars", ("ra", "pmdec", "phase")),
        ("galaxies", ("dec", "bulge")),
        ("transients", ("kind", "stretch")),
    ):
        for name in names:
            np.testing.assert_array_equal(getattr(getattr(back, part), name), getattr(getattr(made, part), name))
    np.testing.assert_array_equal(back.stars.mags["VR"], made.stars.mags["VR"])
    for night, asteroids in made.asteroids.items():
        np.testing.assert_array_equal(back.asteroids[night].position(60441.2), asteroids.position(60441.2))
    exposure = an_exposure(expnum=12)
    write_exposure_truth(tmp_path, exposure)
    assert read_exposure_truth(tmp_path, 12) == exposure
    write_sky(tmp_path, SimulatedSky(made.stars, made.galaxies, made.transients, {}))
    assert read_sky(tmp_path).asteroids == {}


def test_rows_are_chosen_and_joined_with_all_their_columns():
    stars = some_stars([1.0, 2.0, 3.0], -10.0, [14.0, 15.0, 16.0])
    some = select(stars, np.array([2, 0]))
    assert some.ra.tolist() == [3.0, 1.0]
    assert some.mags["z"].tolist() == [16.0, 14.0]
    joined = concatenate(some, select(stars, np.array([False, True, False])))
    assert joined.source_id.tolist() == [1002, 1000, 1001]
    assert joined.mags["g"].tolist() == [16.0, 14.0, 15.0]
    both = concatenate(some_transients([0, 1]), some_transients([3]))
    assert both.kind.tolist() == [0, 1, 3]
