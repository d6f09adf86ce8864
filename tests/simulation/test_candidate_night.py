"""The night in tables: light curves, numbers, errors, detections and forced photometry against their laws."""

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import Distance
from astropy.time import Time
from scipy.stats import kstest
from sky_judges import coordinates

from imaging.detector.ccds import CCDS, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.simulation.candidate_night import footprints_of, join_footprints, make_night
from imaging.simulation.candidate_sources import (
    AB_ZERO_NJY,
    CENTRE,
    KINDS,
    LIMIT_MAG,
    MJD_EVENT,
    Exposures,
    draw_contaminants,
    draw_galaxies,
    draw_kilonova,
    draw_stars,
    flux_errors,
    pointing_of,
)
from imaging.tables import column
from imaging.wcs.sphere import inside_convex

BANDS = ("g", "r", "i", "z")


def magnitude(flux):
    """AB magnitude of nanojanskys, by astropy."""
    return (np.asarray(flux) * u.nJy).to_value(u.ABmag)


def every(days, bands=BANDS) -> Exposures:
    """One exposure per band at each of the days since the event."""
    rows = [(band, MJD_EVENT + d) for d in days for band in bands]
    n = len(rows)
    return Exposures(
        np.arange(n),
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows]),
        np.full(n, 20251004),
        np.zeros(n, int),
    )


@pytest.fixture(scope="module")
def night():
    return make_night(4, scale=0.5)


@pytest.fixture(scope="module")
def hosts():
    return draw_galaxies(np.random.default_rng(1), 1.0)[1]


@pytest.fixture(scope="module")
def crowd(hosts):
    """Contaminants of 40 shallow searches, seen in all bands on several days before and after the event."""
    days = [-40.0, -20.0, -3.0, 0.5, 0.52, 1.5, 2.5]
    exposures = every(days)
    kinds = draw_contaminants(np.random.default_rng(2), exposures, hosts, 5.0)
    return exposures, {s.kind: s for s in kinds}


def in_band(exposures, band, day):
    return int(np.flatnonzero((exposures.band == band) & np.isclose(exposures.mjd, MJD_EVENT + day))[0])


def test_nanojanskys_are_ab():
    assert magnitude(AB_ZERO_NJY) == pytest.approx(0.0, abs=1e-4)
    exposures = every([0.5])
    assert magnitude(5 * flux_errors(exposures)) == pytest.approx([LIMIT_MAG[b] for b in exposures.band], abs=1e-3)


def test_numbers_are_those_of_a_shallow_search(crowd):
    _, kinds = crowd
    assert set(kinds) == set(KINDS) - {"kilonova"}
    wanted = {"supernova": 300, "nucleus": 250, "variable": 350, "flare": 40, "fast transient": 2, "asteroid": 80}
    for kind, number in (wanted | {"artefact": 1500}).items():
        assert abs(len(kinds[kind].ra) - 5 * number) < 4 * np.sqrt(5 * number)
        assert kinds[kind].flux.shape == (len(kinds[kind].ra), 28)
        assert ((kinds[kind].score >= 0.0) & (kinds[kind].score <= 1.0)).all()
    assert kstest(kinds["supernova"].score, "beta", (9.0, 1.0)).pvalue > 1e-3
    assert kstest(kinds["artefact"].score, "beta", (1.0, 4.0)).pvalue > 1e-3
    assert not any(s.rate.any() for k, s in kinds.items() if k != "asteroid")


def test_flares_decay_exponentially_and_are_blue(crowd, hosts):
    exposures, kinds = crowd
    flux = kinds["flare"].flux
    assert (flux >= 0.0).all()
    assert not flux[:, exposures.mjd < MJD_EVENT].any()
    g, r, i, z = (flux[:, in_band(exposures, b, 0.5)] for b in BANDS)
    on = g > 0
    for other, colour in ((r, 0.5), (i, 0.9), (z, 1.1)):
        np.testing.assert_allclose(magnitude(other[on]) - magnitude(g[on]), colour, atol=1e-6)
    days = 0.5 + 0.001 * np.arange(300)
    fine = draw_contaminants(np.random.default_rng(3), every(days, ("g",)), hosts, 5.0)
    flux = next(s.flux for s in fine if s.kind == "flare")
    peak, on = np.argmax(flux, axis=1), (flux[:, 0] == 0.0) & (flux[:, 298] > 0.0)
    assert on.sum() > 100
    at = np.flatnonzero(on)
    decay = -0.001 / np.log(flux[at, peak[at] + 1] / flux[at, peak[at]])
    np.testing.assert_allclose(flux[at, 299] / flux[at, 298], np.exp(-0.001 / decay), rtol=1e-6)
    assert kstest(np.log(decay / 0.02) / 0.8, "norm").pvalue > 1e-3
    assert kstest((days[peak[at]] - 0.48) / 0.319, "uniform").statistic < 0.15


def test_fast_transients_fade_after_their_onset():
    exposures = every(np.arange(0.5, 9.5, 1.0), ("r",))
    rng = np.random.default_rng(3)
    kinds = {s.kind: s for s in draw_contaminants(rng, exposures, draw_galaxies(rng, 0.1)[1], 60.0)}
    flux = kinds["fast transient"].flux
    assert len(flux) > 60
    slope = np.diff(magnitude(np.where(flux > 0, flux, np.nan)), axis=1)
    slope = slope[np.isfinite(slope)]
    assert kstest((slope - 0.1) / 0.25, "uniform").pvalue > 1e-6
    assert slope.min() >= 0.1 - 1e-9
    assert slope.max() <= 0.35 + 1e-9
    assert (np.diff(flux > 0, axis=1).sum(axis=1) <= 1).all()


def test_supernovae_rise_by_a_power_and_redden(hosts):
    days = np.arange(-60.0, 100.0, 1.0)
    exposures = every(days, ("g", "i"))
    kinds = draw_contaminants(np.random.default_rng(5), exposures, hosts, 0.5)
    flux = next(s.flux for s in kinds if s.kind == "supernova")
    i, g = flux[:, 1::2], flux[:, 0::2]
    top = np.argmax(i, axis=1)
    whole = (top > 20) & (top < 100)
    assert whole.sum() > 50
    peak = magnitude(i.max(axis=1)[whole])
    assert peak.max() < 25.0
    assert np.median(peak) == pytest.approx(24.5 - 0.75 * np.log(2.0), abs=4 * 0.75 / np.sqrt(whole.sum()))
    declines, powers, reddening = [], [], []
    for k in np.flatnonzero(whole):
        fade = np.diff(magnitude(i[k, top[k] + 2 : top[k] + 22]))
        assert np.ptp(fade) < 1e-9
        declines.append(fade[0])
        rising = np.flatnonzero(i[k] > 0)[0]
        assert top[k] - rising < 21
        assert not i[k, :rising].any()
        # age follows from two points of a power law of 1.8
        a, b = i[k, rising + 2] ** (1 / 1.8), i[k, rising + 4] ** (1 / 1.8)
        c = i[k, rising + 3] ** (1 / 1.8)
        powers.append((a + b) / 2 / c)
        colour = magnitude(g[k, top[k] + 2 : top[k] + 80]) - magnitude(i[k, top[k] + 2 : top[k] + 80])
        assert colour[0] >= -0.4 - 1e-9
        assert colour.max() <= 1.6 + 1e-9
        reddening.append(np.median(np.diff(colour)[:12]))
    assert np.array(powers)[np.array(powers) < 1.0005] == pytest.approx(1.0, abs=1e-3)
    assert np.median(powers) == pytest.approx(1.0, abs=1e-6)
    assert kstest((np.array(declines) - 0.01) / 0.08, "uniform").pvalue > 1e-3
    assert np.median(reddening) == pytest.approx(0.04, abs=1e-6)


@pytest.mark.parametrize(("kind", "memory"), [("nucleus", 30.0), ("variable", 0.3)])
def test_nuclei_and_variables_wander_for_their_memory(hosts, kind, memory):
    days = memory * np.array([0.1, 0.2, 0.6, 1.1, 2.1])
    exposures = every(days, ("i",))
    kinds = draw_contaminants(np.random.default_rng(6), exposures, hosts, 8.0)
    flux = next(s.flux for s in kinds if s.kind == kind)
    assert 0.4 < (flux > 0).mean() < 0.6  # of either sign
    longest = np.log(np.abs(flux[:, 0] - flux[:, 4]))
    for other, lag in ((1, 0.1), (3, 1.0)):
        ratio = np.log(np.abs(flux[:, 0] - flux[:, other])) - longest
        expected = 0.5 * np.log((1 - np.exp(-lag)) / (1 - np.exp(-2.0)))
        # the logarithm of a Gaussian deviate scatters by 1.11
        assert ratio.mean() == pytest.approx(expected, abs=4 * 1.11 * np.sqrt(2.0 / len(ratio)))
    mag = magnitude(np.abs(flux[:, 0]))
    assert 22.0 < np.median(mag) < 24.5


def test_nuclei_lie_on_galaxies_and_supernovae_around_them(crowd, hosts):
    _, kinds = crowd
    galaxies = coordinates(hosts["ra"], hosts["dec"])
    for kind, reach in (("nucleus", 0.16), ("supernova", 6.0)):
        place = coordinates(kinds[kind].ra, kinds[kind].dec)
        _, apart, _ = place.match_to_catalog_sky(galaxies)
        assert np.quantile(apart.arcsec, 0.95) < reach
    _, apart, _ = coordinates(kinds["nucleus"].ra, kinds["nucleus"].dec).match_to_catalog_sky(galaxies)
    # 0.05 arcsec rms in both axes
    assert np.median(apart.arcsec) == pytest.approx(0.05 * np.sqrt(2 * np.log(2.0)), rel=0.08)


def test_asteroids_appear_after_the_event_and_have_solar_colours(crowd):
    exposures, kinds = crowd
    asteroids = kinds["asteroid"]
    days = exposures.mjd - MJD_EVENT
    assert not asteroids.flux[:, days < 0].any()
    mags = [magnitude(asteroids.flux[:, in_band(exposures, b, 0.5)]) for b in BANDS]
    for pair, colour in (((0, 1), 0.5), ((1, 2), 0.2), ((2, 3), 0.0)):
        np.testing.assert_allclose(mags[pair[0]] - mags[pair[1]], colour, atol=1e-6)
    assert kstest(np.log(asteroids.rate / 25.0) / 0.5, "norm").pvalue > 1e-3
    assert kstest((mags[1] + 0.2 - 19.0) / 4.0, "uniform").pvalue > 1e-3


def test_artefacts_are_single_but_for_an_eighth_on_the_cores_of_galaxies(crowd, hosts):
    exposures, kinds = crowd
    artefacts = kinds["artefact"]
    days = exposures.mjd - MJD_EVENT
    n = len(artefacts.ra)
    times = (artefacts.flux > 0).sum(axis=1)
    assert not artefacts.flux[:, days < 0].any()
    np.testing.assert_array_equal(times[: n // 8], (days > 0).sum())
    np.testing.assert_array_equal(times[n // 8 :], 1)
    assert kstest((magnitude(artefacts.flux[n // 8 :].max(axis=1)) - 20.0) / 2.8, "uniform").pvalue > 1e-3
    _, apart, _ = coordinates(artefacts.ra[: n // 8], artefacts.dec[: n // 8]).match_to_catalog_sky(
        coordinates(hosts["ra"], hosts["dec"])
    )
    assert apart.arcsec.max() < 0.08 * 6


def test_nearby_galaxies_fill_space_evenly_and_have_their_distance():
    near, hosts = draw_galaxies(np.random.default_rng(8), 40.0)
    distance = near["distance_error_mpc"] / 0.1
    assert kstest(((distance / 300.0) ** 3 - 0.005) / 0.995, "uniform").pvalue > 1e-3
    assert (near["distance_mpc"] / distance).std() == pytest.approx(0.08, rel=0.05)
    absolute = near["mag"] - Distance(distance * u.Mpc).distmod.value
    assert (absolute.mean(), absolute.std()) == (pytest.approx(-20.0, abs=0.06), pytest.approx(1.0, rel=0.05))
    kpc = (near["a_arcsec"] * u.arcsec).to_value(u.rad) * distance * 1000.0
    assert np.median(kpc) == pytest.approx(2.5, rel=0.03)
    np.testing.assert_array_equal(hosts["ra"][: len(distance)], near["ra"])
    ratio = hosts["b_arcsec"] / hosts["a_arcsec"]
    assert kstest((ratio - 0.4) / 0.6, "uniform").pvalue > 1e-3
    assert (pointing_of(0), pointing_of(1)) == ((CENTRE[0] - 1.0, CENTRE[1]), (CENTRE[0] + 1.0, CENTRE[1]))


def test_the_kilonova_declines_linearly_faster_in_the_blue():
    days = np.array([-1.0, 0.5, 0.7, 1.5, 2.5])
    exposures = every(days)
    centre = (np.float64(CENTRE[0]), np.float64(CENTRE[1]))
    slopes, absolute = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        near, hosts = draw_galaxies(rng, 0.02)
        kilonova, near_with, hosts_with = draw_kilonova(rng, exposures, centre, 20.0, near, hosts)
        flux = kilonova.flux[0].reshape(len(days), 4)
        assert not flux[0].any()
        mags = magnitude(flux[1:])
        rate = np.diff(mags, axis=0) / np.diff(days[1:])[:, None]
        assert np.ptp(rate, axis=0).max() < 1e-6
        slopes.append(rate[0])
        absolute.append(mags[1, 2] - Distance(20.0 * u.Mpc).distmod.value)
        assert len(hosts_with["ra"]) - len(hosts["ra"]) in (0, 1)
        assert len(near_with["ra"]) - len(near["ra"]) <= len(hosts_with["ra"]) - len(hosts["ra"])
        assert abs(kilonova.ra[0] - CENTRE[0]) <= 1.7 + 1e-9
        assert abs(kilonova.dec[0] - CENTRE[1]) <= 0.7 + 1e-9
    # scatter: stretch 0.25 and 0.15 in ln, over 60 draws
    assert np.median(slopes, axis=0) == pytest.approx([1.25, 0.9, 0.65, 0.5], rel=4 * 1.25 * 0.29 / np.sqrt(60))
    assert np.mean(absolute) == pytest.approx(-15.2, abs=4 * 0.8 / np.sqrt(60))


def test_the_kilonova_is_above_the_limit_in_two_visits(night):
    found = (night.exposures.mjd > MJD_EVENT) & (night.kilonova_snr > 5.0)
    assert found.sum() >= 2
    names = np.array(list(night.kind.values()))
    assert (names == "kilonova").sum() >= 2
    ids = [k for k, kind in night.kind.items() if kind == "kilonova"]
    assert {night.source[k] for k in ids} == {0}
    chosen = np.isin(column(night.detections, "detection_id"), ids)
    place = coordinates(column(night.detections, "ra")[chosen], column(night.detections, "dec")[chosen])
    assert coordinates(*night.kilonova_position).separation(place).arcsec.max() < 5 * 0.16


def test_detections_are_above_five_sigma_after_the_event_with_errors_in_position(night):
    t = night.detections
    snr, flux, error = (column(t, name) for name in ("snr", "flux", "flux_error"))
    assert np.abs(snr).min() > 5.0
    np.testing.assert_allclose(flux / error, snr, rtol=1e-5)
    assert column(t, "mjd").min() > MJD_EVENT
    negative = flux < 0
    assert 0 < negative.sum() < len(flux) / 2
    np.testing.assert_array_equal(column(t, "flags") == 1, negative)
    assert t.column("mag").null_count == negative.sum()
    np.testing.assert_allclose(column(t, "mag")[~negative], magnitude(flux[~negative]), atol=2e-4)
    np.testing.assert_allclose(column(t, "mag_error")[~negative], 2.5 / np.log(10) / snr[~negative], rtol=1e-3)
    np.testing.assert_allclose(column(t, "position_error_arcsec"), np.clip(0.5 / np.abs(snr), 0.01, 0.15), rtol=1e-5)
    assert len(set(column(t, "detection_id").tolist())) == t.num_rows


def test_errors_grow_with_the_light_and_noise_has_their_size(night):
    e = night.exposures
    blank = np.broadcast_to(flux_errors(e), night.flux.shape)
    seen = night.flux_error < 1e8
    assert (night.flux_error[seen] >= blank[seen] * (1 - 1e-12)).all()
    before = seen & (e.mjd < MJD_EVENT)
    kinds = np.zeros(len(night.flux), dtype=object)
    for identity, kind in night.kind.items():
        kinds[night.source[identity]] = kind
    still = np.isin(kinds, ("kilonova", "artefact", "asteroid", "flare"))  # nothing of these before the event
    chi = (night.flux / night.flux_error)[still[:, None] & before]
    assert chi.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * len(chi)))
    assert abs(chi.mean()) < 4 / np.sqrt(len(chi))
    np.testing.assert_array_equal(night.flux[~seen], 0.0)
    centres = np.array([pointing_of(int(p))[0] for p in e.pointing])
    own = np.abs(night.kilonova_position[0] - centres) < 1.0
    np.testing.assert_array_equal(seen[0], own)


def test_movers_move_by_their_rate_between_the_visits():
    night = make_night(6, scale=2.0, days_after=0.5)
    rows = {}
    ids = column(night.detections, "detection_id")
    place = coordinates(column(night.detections, "ra"), column(night.detections, "dec"))
    for k, identity in enumerate(ids):
        if night.kind[int(identity)] == "asteroid":
            rows.setdefault(night.source[int(identity)], []).append(k)
    mjd, speeds = column(night.detections, "mjd"), []
    for members in rows.values():
        first, last = members[np.argmin(mjd[members])], members[np.argmax(mjd[members])]
        hours = (mjd[last] - mjd[first]) * 24.0
        if hours > 0.9:
            speeds.append(place[first].separation(place[last]).arcsec / hours)
    assert len(speeds) > 20
    # log-normal about 25 arcsec per hour with 0.5 in ln
    assert np.median(speeds) == pytest.approx(25.0, rel=4 * 1.25 * 0.5 / np.sqrt(len(speeds)))


def test_forced_photometry_is_the_flux_of_all_exposures(night):
    bright = [k for k, kind in night.kind.items() if kind == "kilonova"][:1]
    faint = [k for k, kind in night.kind.items() if kind == "artefact"][:1]
    candidates = pa.table({"candidate_id": ["one", "two"], "detection_ids": [bright, faint]})
    assert night.kind_of(candidates) == ["kilonova", "artefact"]
    forced = night.forced(candidates)
    m = len(night.exposures.mjd)
    assert forced.num_rows == 2 * m
    assert column(forced, "candidate_id").tolist() == ["one"] * m + ["two"] * m
    flux, error = column(forced, "flux")[:m], column(forced, "flux_error")[:m]
    np.testing.assert_allclose(flux, night.flux[0], rtol=1e-6)
    np.testing.assert_allclose(column(forced, "snr")[:m], night.kilonova_snr, rtol=1e-5, atol=1e-8)
    known = forced.column("mag").is_valid().to_numpy(zero_copy_only=False)[:m]
    np.testing.assert_array_equal(known, flux > 2 * error)
    np.testing.assert_allclose(column(forced, "mag")[:m][known], magnitude(flux[known]), atol=2e-4)
    np.testing.assert_allclose(column(forced, "limit_mag")[:m], magnitude(5 * error), atol=2e-4)
    np.testing.assert_array_equal(column(forced, "expnum")[m:], night.exposures.expnum)


def test_the_distance_and_place_of_the_map_are_those_of_its_draw():
    pulls, offsets = [], []
    for seed in range(6):
        made = make_night(seed, scale=0.01, days_after=0.5)
        mean, sigma = made.skymap.distance_mean_mpc, made.skymap.distance_sigma_mpc
        assert 50.0 < mean < 165.0
        pulls.append(sigma / mean)
        peak = coordinates(*made.skymap.peak())
        offsets.append(peak.separation(coordinates(*CENTRE)).arcsec)
    assert pulls == pytest.approx([0.2] * 6, abs=0.025)
    assert 500.0 < np.sqrt(np.mean(np.square(offsets)) / 2) < 4000.0  # 2000 per axis


def test_stars_hold_the_variables_that_gaia_knows(crowd, hosts):
    _, kinds = crowd
    stars, joined = draw_stars(np.random.default_rng(4), list(kinds.values()), hosts, 5.0)
    places = coordinates(column(stars, "ra"), column(stars, "dec"))
    for kind, share in (("variable", 0.7), ("flare", 0.4)):
        _, apart, _ = coordinates(kinds[kind].ra, kinds[kind].dec).match_to_catalog_sky(places)
        n = len(apart)
        assert (apart.arcsec < 1e-3).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n))
    listed = stars.num_rows - 30_000
    assert column(stars, "variable").sum() == pytest.approx(0.2 * listed, abs=4 * np.sqrt(0.16 * listed))
    point_like = column(joined, "point_like").astype(bool)
    expected = 0.27 * len(kinds["variable"].ra) + 0.4 * len(kinds["flare"].ra)
    assert abs(point_like.sum() - expected) < 4 * np.sqrt(expected)
    assert joined.num_rows == len(hosts["ra"]) + point_like.sum()
    assert kstest((20.8 - column(stars, "phot_g_mean_mag")) / 1.8, "expon").statistic < 0.02


def test_footprints_are_62_ccds_of_nine_by_eighteen_arcminutes():
    prints = footprints_of(7, "i", 60952.0, 40.0, -24.0, 22.7)
    assert prints.ccd.tolist() == list(SCIENCE_CCDS)
    a, b, c = (coordinates(prints.corners[:, k, 0], prints.corners[:, k, 1]) for k in (0, 1, 2))
    sides = np.sort([a.separation(b).arcmin, b.separation(c).arcmin], axis=0)
    # the tangent plane stretches by up to 0.03 per cent a degree out
    np.testing.assert_allclose(sides[0], 2048 * 0.263 / 60.0, rtol=1e-3)
    np.testing.assert_allclose(sides[1], 4096 * 0.263 / 60.0, rtol=1e-3)
    centre = coordinates(40.0, -24.0)
    for k, ccd in enumerate(SCIENCE_CCDS):
        away = np.hypot(*CCDS[ccd].focal_plane_centre) * 0.263 / 3600.0
        middle = a[k].directional_offset_by(a[k].position_angle(c[k]), a[k].separation(c[k]) / 2)
        assert centre.separation(middle).deg == pytest.approx(away, abs=2e-3)
        assert inside_convex(prints.corners[k], middle.ra.deg, middle.dec.deg).all()
        # The abutted focal plane leaves out the gaps between the CCDs, which add up to 0.085 degrees at its rim.
        true_ra, true_dec = seed_wcs(ccd, 40.0, -24.0).pixel_to_sky(np.array([1023.5]), np.array([2047.5]))
        assert middle.separation(coordinates(true_ra[0], true_dec[0])).deg < 0.09
    both = join_footprints([prints, footprints_of(8, "g", 60953.0, 41.0, -24.0, 23.0)])
    assert len(both) == 124
    assert both.expnum[[0, -1]].tolist() == [7, 8]
    assert both.m50_mag[[0, -1]].tolist() == [22.7, 23.0]


def test_every_exposure_is_of_the_night_whose_date_its_time_has(night):
    exposures = night.exposures
    before = exposures.mjd < MJD_EVENT
    noon_before = Time(exposures.mjd[before] - 0.5, format="mjd", scale="utc")
    assert exposures.night[before].tolist() == [int(t.strftime("%Y%m%d")) for t in noon_before]
    assert set(exposures.night[~before].tolist()) == {20251004}


def test_the_seed_alone_decides_on_the_night(night):
    again = make_night(4, scale=0.5)
    np.testing.assert_array_equal(again.flux, night.flux)
    assert again.detections.equals(night.detections)
    assert again.stars.equals(night.stars)
    other = make_night(5, scale=0.5)
    assert other.kilonova_position != night.kilonova_position
    assert make_night(4, scale=0.01, days_after=0.75).exposures.mjd.max() == pytest.approx(MJD_EVENT + 0.75 + 0.0522)
