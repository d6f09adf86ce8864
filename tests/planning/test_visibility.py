"""Airmass, twilight and Moon against astropy's coordinates, real headers of the telescope, and almanacs."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body, get_sun
from astropy.time import Time
from astropy.utils import iers

from imaging.planning.visibility import HEIGHT_M, LATITUDE_DEG, LONGITUDE_DEG, airmass, heights_deg, night_hours, sky_at

BLANCO = EarthLocation.from_geodetic(LONGITUDE_DEG, LATITUDE_DEG, HEIGHT_M)


@pytest.fixture(autouse=True)
def offline():
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        yield


def test_heights_are_those_of_astropy():
    rng = np.random.default_rng(1)
    ra, dec, mjd = rng.uniform(0, 360, 200), rng.uniform(-89, 60, 200), rng.uniform(57000, 60000, 200)
    frame = AltAz(obstime=Time(mjd, format="mjd"), location=BLANCO)
    expected = SkyCoord(ra, dec, unit="deg").transform_to(frame).alt.deg
    np.testing.assert_allclose(heights_deg(ra, dec, mjd), expected, atol=20 / 3600)


def test_the_airmass_is_one_overhead_and_forty_at_the_horizon():
    assert airmass(90.0) == pytest.approx(1.0, abs=1e-4)
    assert airmass(30.0) == pytest.approx(1.995, abs=0.005)  # plane-parallel: 2; the Earth is round
    assert airmass(10.0) == pytest.approx(5.59, abs=0.03)  # Kasten & Young 1989: 5.58
    assert np.isinf(airmass([-5.0, 0.5])).all()


@pytest.mark.parametrize(
    ("mjd", "ra", "dec", "stated"),
    [  # MJD-OBS, position and AIRMASS of public raw headers of the camera
        (56536.25203419, "02:51:16.686", "-00:00:04.698", 1.57),
        (56336.3761686, "18:02:42.907", "-23:46:59.898", 1.77),
        (58575.21271276, "14:23:28.889", "-13:36:23.800", 1.10),
        (57073.03288341, "09:13:31.220", "-02:18:01.098", 1.67),
    ],
)
def test_the_airmass_is_that_of_the_telescope(mjd, ra, dec, stated):
    place = SkyCoord(ra, dec, unit=("hourangle", "deg"))
    assert airmass(heights_deg(place.ra.deg, place.dec.deg, mjd)) == pytest.approx(stated, abs=0.012)


@pytest.mark.parametrize("night", [20230923, 20231221, 20240621, 20170817, 20251231])
def test_the_night_begins_and_ends_where_the_sun_is_at_its_limit(night):
    begin, end = night_hours(night, -14.0)
    times = Time([begin, end], format="mjd")
    height = get_sun(times).transform_to(AltAz(obstime=times, location=BLANCO)).alt.deg
    np.testing.assert_allclose(height, -14.0, atol=0.02)
    assert int(Time(begin - 5 / 24, format="mjd").strftime("%Y%m%d")) == night, "local date of the evening"
    assert 0.3 < end - begin < 0.52


def test_sun_and_moon_are_those_of_astropy():
    for mjd in np.linspace(57000.3, 60000.3, 25):
        sky = sky_at(mjd)
        time = Time(mjd, format="mjd")
        moon = get_body("moon", time)  # geocentric
        found = SkyCoord(sky.moon_ra_deg, sky.moon_dec_deg, unit="deg")
        assert found.separation(SkyCoord(moon.ra, moon.dec)).to_value(u.arcmin) < 2.0
        frame = AltAz(obstime=time, location=BLANCO)
        assert sky.sun_height_deg == pytest.approx(get_sun(time).transform_to(frame).alt.deg, abs=0.02)
        elongation = SkyCoord(moon.ra, moon.dec).separation(SkyCoord(get_sun(time).ra, get_sun(time).dec))
        assert sky.moon_fraction == pytest.approx(0.5 * (1 - np.cos(elongation.rad)), abs=0.01)


def test_the_full_moon_of_a_known_night_is_full():
    assert sky_at(Time("2023-09-29T09:58").mjd).moon_fraction > 0.995  # full moon of September 2023
    assert sky_at(Time("2023-10-14T17:55").mjd).moon_fraction < 0.005  # annular eclipse of October 2023
