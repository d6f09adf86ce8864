"""Asteroids and the observatory's sky, against astropy's coordinates."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_sun
from astropy.time import Time
from scipy.stats import kstest
from sky_judges import coordinates, project, tangent_plane

from imaging.exposure import night_of
from imaging.simulation.asteroids import make_asteroids
from imaging.simulation.observing import (
    best_instant,
    dark_hours,
    default_field,
    galactic_latitude_deg,
    horizontal,
    local_sidereal_deg,
    night_start_mjd,
    sun_altitude_deg,
)

FIELD = (190.5, -60.0)
MJD = 60441.0
CTIO = EarthLocation.from_geodetic(-70.81489 * u.deg, -30.16606 * u.deg, 2200.0 * u.m)


def when(mjd):
    """An instant whose UT1 is its UTC: within 0.1 s, or 1.5 arcsec, of the truth in 2024."""
    time = Time(mjd, format="mjd", scale="utc", location=CTIO)
    time.delta_ut1_utc = np.zeros(np.shape(mjd))
    return time


@pytest.fixture(scope="module")
def asteroids():
    return make_asteroids(3, 20240510, MJD, *FIELD, 1.4, 4000.0)


def test_asteroids_fill_the_disc_at_their_instant_and_are_as_many_as_wanted(asteroids):
    n = len(asteroids.mag_i)
    assert abs(n - 4000) < 4 * np.sqrt(4000)
    xi, eta = project(*asteroids.position(MJD), *FIELD)
    assert kstest((xi**2 + eta**2) / 1.4**2, "uniform").pvalue > 1e-3
    assert kstest(np.arctan2(eta, xi) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
    assert asteroids.source_id[0] == 4_000_000_000 + 2_405_100_000
    assert len(np.unique(asteroids.source_id)) == n


def test_asteroids_move_on_straight_lines_of_the_tangent_plane(asteroids):
    for hours in (-3.0, 2.5):
        ra, dec = asteroids.position(MJD + hours / 24.0)
        xi, eta = (
            asteroids.xi + asteroids.rate_east * hours / 3600.0,
            asteroids.eta + asteroids.rate_north * hours / 3600.0,
        )
        expected = tangent_plane(*FIELD).wcs_pix2world(xi, eta, 0)
        assert coordinates(ra, dec).separation(coordinates(*expected)).arcsec.max() < 1e-4
    which, hours = np.array([5, 5, 9]), np.array([0.0, 1.0, 1.0])
    ra, dec = asteroids.position_of(which, hours)
    later = asteroids.position(MJD + 1.0 / 24.0)
    assert (ra[1], ra[2]) == pytest.approx((later[0][5], later[0][9]), abs=1e-9)
    moved = coordinates(ra[0], dec[0]).separation(coordinates(ra[1], dec[1])).arcsec
    assert moved == pytest.approx(np.hypot(asteroids.rate_east[5], asteroids.rate_north[5]), rel=2e-3)


def test_asteroid_counts_speeds_and_directions(asteroids):
    n = len(asteroids.mag_i)
    edges = 10.0 ** (0.35 * np.array([17.5, 23.5]))
    assert kstest((10.0 ** (0.35 * asteroids.mag_i) - edges[0]) / (edges[1] - edges[0]), "uniform").pvalue > 1e-3
    speed = np.hypot(asteroids.rate_east, asteroids.rate_north)
    fast = speed > 50.0
    assert abs(fast.mean() - 0.1) < 4 * np.sqrt(0.09 / n)
    assert kstest((speed[fast] - 60.0) / 340.0, "uniform").pvalue > 1e-3
    assert kstest((speed[~fast] - 20.0) / 25.0, "uniform").pvalue > 1e-3
    heading = np.arctan2(asteroids.rate_north, asteroids.rate_east) % (2 * np.pi)
    assert heading[~fast].mean() == pytest.approx(np.pi + 0.4, abs=4 * 0.25 / np.sqrt(n))  # to the west: retrograde
    assert heading[~fast].std() == pytest.approx(0.25, rel=4 / np.sqrt(2 * n))
    assert kstest(heading[fast] / (2 * np.pi), "uniform").pvalue > 1e-3


def test_asteroids_have_the_colour_of_the_sun(asteroids):
    """AB colours after Willmer (2018): g - r 0.45 to 0.5, r - i 0.12, i - z 0.03, u - g 1.45."""
    mag = {band: asteroids.magnitude(band)[0] for band in ("u", "g", "r", "i", "z", "Y", "VR")}
    assert mag["i"] == asteroids.mag_i[0]
    assert mag["g"] - mag["r"] == pytest.approx(0.47, abs=0.04)
    assert mag["r"] - mag["i"] == pytest.approx(0.12, abs=0.04)
    assert mag["i"] - mag["z"] == pytest.approx(0.03, abs=0.03)
    assert mag["u"] - mag["g"] == pytest.approx(1.45, abs=0.1)
    assert mag["VR"] == pytest.approx(0.45 * mag["g"] + 0.55 * mag["r"], abs=0.01)


@pytest.mark.parametrize("night", [20240109, 20240510, 20241201])
def test_the_sun_stands_where_astropy_says(night):
    instants = night_start_mjd(night) + np.array([0.0, 0.25, 0.4, 0.6, 0.75])
    frame = AltAz(obstime=when(instants), location=CTIO)
    exact = get_sun(when(instants)).transform_to(frame).alt.deg
    assert [sun_altitude_deg(mjd) for mjd in instants] == pytest.approx(exact, abs=0.03)  # 0.01 deg, and aberration
    first, last = dark_hours(night)
    edges = np.array([first - 0.1 / 24, first + 0.1 / 24, last - 0.1 / 24, last + 0.1 / 24])
    dark = get_sun(when(edges)).transform_to(AltAz(obstime=when(edges), location=CTIO)).alt.deg < -18.0
    assert dark.tolist() == [False, True, True, False]
    assert night_of(first) == night_of(last) == night
    assert first < night_start_mjd(night) + 0.5 < last


def test_night_begins_at_local_noon():
    assert Time(night_start_mjd(20240510), format="mjd").isot[:16] == "2024-05-10T16:43"


@pytest.mark.parametrize("mjd", [51544.5, 60441.1, 60700.9])
def test_sidereal_time_is_that_of_astropy(mjd):
    exact = when(mjd).sidereal_time("mean").deg
    assert (local_sidereal_deg(mjd) - exact + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=0.001)


@pytest.mark.parametrize("hour_angle", [-35.0, -2.0, 1.0, 40.0])
@pytest.mark.parametrize("dec", [-60.0, -30.0, 0.0])
def test_a_field_stands_where_astropy_says(hour_angle, dec):
    mjd = 60441.1
    ra = (when(mjd).sidereal_time("mean").deg - hour_angle) % 360.0
    # the mean place of date is meant: precession since 2000 moves the hour angle by up to 0.4 degrees
    ours = horizontal(ra, dec, mjd)
    assert ours.hour_angle_deg == pytest.approx(hour_angle, abs=0.002)
    place = SkyCoord((hour_angle * u.deg).to(u.hourangle), dec * u.deg, frame="hadec", obstime=when(mjd), location=CTIO)
    seen = place.transform_to(AltAz(obstime=when(mjd), location=CTIO))
    assert ours.zenith_distance_deg == pytest.approx(90.0 - seen.alt.deg, abs=0.2)
    assert np.cos(np.radians(ours.azimuth_deg - seen.az.deg)) * np.sin(
        np.radians(90.0 - seen.alt.deg)
    ) == pytest.approx(np.sin(np.radians(90.0 - seen.alt.deg)), abs=0.003)
    zenith = SkyCoord((ra + hour_angle) * u.deg, -30.16606 * u.deg)
    towards = SkyCoord(ra * u.deg, dec * u.deg).position_angle(zenith).deg
    assert np.cos(np.radians(ours.parallactic_deg - towards)) > 1.0 - 1e-6
    assert ours.airmass == pytest.approx(1.0 / np.cos(np.radians(ours.zenith_distance_deg)), abs=0.003)


def test_airmass_is_that_of_kasten_and_young_down_to_the_lowest_field():
    mjd = 60441.1
    for hour_angle in (0.0, 60.0, 120.0):
        place = horizontal(local_sidereal_deg(mjd) - hour_angle, -30.0, mjd)
        assert place.zenith_distance_deg <= 60.0
        altitude = 90.0 - place.zenith_distance_deg
        exact = 1.0 / (np.sin(np.radians(altitude)) + 0.50572 * (altitude + 6.07995) ** -1.6364)
        assert place.airmass == pytest.approx(exact, rel=1e-9)
    assert place.airmass == pytest.approx(1.9939, abs=0.002)  # of 60 degrees, by their table


@pytest.mark.parametrize("place", [(0.0, 0.0), (83.6, 22.0), (190.5, -10.0), (266.4, -28.9), (192.86, 27.13)])
def test_galactic_latitude_is_that_of_astropy(place):
    assert galactic_latitude_deg(*place) == pytest.approx(coordinates(*place).galactic.b.deg, abs=0.01)


@pytest.mark.parametrize(("night", "interval"), [(20240109, 2.5), (20240510, 2.5), (20241201, 0.0)])
def test_the_default_field_is_high_dark_and_far_from_the_galaxy(night, interval):
    ra, dec = default_field(night, interval)
    assert 2 * ra == round(2 * ra)
    assert 0.0 <= ra < 360.0
    assert abs(coordinates(ra, dec).galactic.b.deg) > 35.0
    start = best_instant(ra, dec, night, interval) - interval / 48.0
    first, last = dark_hours(night)
    assert first <= start <= start + interval / 24.0 <= last + 1e-9
    for mjd in (start, start + interval / 24.0):
        assert coordinates(ra, dec).transform_to(AltAz(obstime=when(mjd), location=CTIO)).alt.deg > 48.0


def test_the_best_instant_is_the_culmination_or_the_end_of_the_night_nearest_to_it():
    night = 20240510
    first, last = dark_hours(night)
    ra = local_sidereal_deg((first + last) / 2) % 360.0
    instant = best_instant(ra, -20.0, night, 2.0)
    assert instant == pytest.approx((first + last) / 2, abs=1.1 / 1440.0)
    early, late = ((local_sidereal_deg(mjd) + shift) % 360.0 for mjd, shift in ((first, -20.0), (last, 20.0)))
    assert best_instant(early, -20.0, night, 2.0) == pytest.approx(first + 1.0 / 24.0, abs=1e-6)
    assert best_instant(late, -20.0, night, 2.0) == pytest.approx(last - 1.0 / 24.0, abs=2.1 / 1440.0)
    assert first <= best_instant(ra, -20.0, night, 48.0) <= last
