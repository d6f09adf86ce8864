"""Reference stars at the epoch: against astropy's own space motion, at the poles, with missing values."""

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import Distance, SkyCoord
from astropy.time import Time

from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import make_table

SETTINGS = AstrometrySettings()


def star_table(**columns):
    """Make a table of quiet stars with some columns given."""
    n = len(columns["ra"])
    quiet = {
        "source_id": np.arange(n),
        "ra_error": np.full(n, 0.1),
        "dec_error": np.full(n, 0.1),
        "ref_epoch": np.full(n, 2016.0),
        "pmra": np.zeros(n),
        "pmdec": np.zeros(n),
        "pmra_error": np.full(n, 0.1),
        "pmdec_error": np.full(n, 0.1),
        "parallax": np.zeros(n),
        "parallax_error": np.full(n, 0.1),
        "ruwe": np.ones(n),
        "variable": np.zeros(n, bool),
    }
    for band in ("g", "bp", "rp"):
        quiet[f"phot_{band}_mean_mag"] = np.full(n, {"g": 17.0, "bp": 17.5, "rp": 16.3}[band])
        quiet[f"phot_{band}_mean_mag_error"] = np.full(n, 0.005)
    return make_table(quiet | columns, REFERENCE_STARS)


@pytest.mark.parametrize(("ra", "dec"), [(197.45, -23.38), (0.0001, 12.0), (80.0, 89.9), (300.0, -89.9)])
def test_proper_motion_agrees_with_astropy(ra, dec):
    mjd = 60000.0
    table = star_table(ra=[ra], dec=[dec], pmra=[850.0], pmdec=[-420.0])
    moved = reference_at_epoch(table, mjd, SETTINGS)
    start = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=850.0 * u.mas / u.yr,
        pm_dec=-420.0 * u.mas / u.yr,
        distance=Distance(100.0 * u.pc),
        obstime=Time(2016.0, format="jyear", scale="tdb"),
    )
    expected = start.apply_space_motion(new_obstime=Time(mjd, format="mjd", scale="utc"))
    separation = SkyCoord(moved.ra * u.deg, moved.dec * u.deg).separation(SkyCoord(expected.ra, expected.dec))
    assert separation.to_value(u.mas)[0] < 0.2


def test_parallax_moves_a_star_by_its_size_over_half_a_year():
    table = star_table(ra=[90.0], dec=[0.0], parallax=[100.0])
    # At ecliptic longitude near 90 degrees the Earth is on opposite sides in March and September.
    places = [reference_at_epoch(table, mjd, SETTINGS).ra[0] for mjd in (60024.0, 60024.0 + 182.6)]
    shift_mas = abs(places[1] - places[0]) * 3.6e6
    assert shift_mas == pytest.approx(200.0, abs=4.0)


def test_errors_grow_with_time_and_missing_motion_costs_more():
    table = star_table(
        ra=[10.0, 10.1],
        dec=[0.0, 0.0],
        pmra=pa.array([1.0, None], pa.float32()),
        pmdec=pa.array([1.0, None], pa.float32()),
        pmra_error=pa.array([0.5, None], pa.float32()),
        pmdec_error=pa.array([0.5, None], pa.float32()),
    )
    years = 8.0
    stars = reference_at_epoch(table, 51544.5 + 365.25 * (16.0 + years), SETTINGS)
    assert stars.ra_error_mas[0] == pytest.approx(np.hypot(0.1, 0.5 * years), rel=1e-3)
    assert stars.ra_error_mas[1] == pytest.approx(np.hypot(0.1, SETTINGS.unknown_motion_mas_per_year * years), rel=1e-3)


def test_selection_refuses_doubles_bad_fits_and_the_too_faint():
    arcsec = 1.0 / 3600.0
    table = star_table(
        ra=[0.0, 0.0, 5.0, 6.0, 7.0, 7.0],
        dec=[0.0, 1.5 * arcsec, 0.0, 0.0, 0.0, 1.5 * arcsec],
        ruwe=[1.0, 1.0, 2.5, 1.0, 1.0, 1.0],
        phot_g_mean_mag=[17.0, 17.5, 17.0, 21.5, 15.0, 19.0],
    )
    good = reference_at_epoch(table, 58000.0, SETTINGS).good
    # Two equal neighbours, a bad fit, a faint star; a star with a much fainter neighbour stays, the neighbour does not.
    assert good.tolist() == [False, False, False, False, True, False]


def test_unknown_ruwe_is_no_reason_to_refuse():
    table = star_table(ra=[1.0], dec=[2.0], ruwe=pa.array([None], pa.float32()))
    assert reference_at_epoch(table, 58000.0, SETTINGS).good.all()
