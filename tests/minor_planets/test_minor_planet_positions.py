"""Known minor planets: the format of their orbits, and their positions against JPL Horizons."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import EarthLocation, get_body_barycentric, solar_system_ephemeris
from astropy.time import Time

from imaging.errors import InputError
from imaging.io.orbits import read_mpcorb, read_orbits, write_orbits
from imaging.minor_planets.motion import Planets, integrate
from imaging.minor_planets.orbits import GAUSS, eccentric_anomaly, packed_mjd, state_at
from imaging.minor_planets.positions import (
    _magnitudes,
    astrometric_positions,
    observer_au,
    predict_positions,
    terrestrial_mjd,
)
from imaging.wcs.sphere import separation_deg

CERES = (
    "00001    3.34  0.15 K2669 274.41935   73.29420   80.24863   10.58803  0.0796923  0.21430445   2.7655526  0 "
    "MPO980521  7297 126 1801-2026 0.83 M-v 30k Veres      4000      (1) Ceres              20260103\n"
)
"""A line of MPCORB.DAT of 2026."""

HORIZONS_MJD, HORIZONS_RA, HORIZONS_DEC, HORIZONS_V = 61297.0, 101.706521, 22.985889, 8.825
"""Astrometric position of Ceres from the centre of the Earth, 2026 September 14, 0h UTC (JPL Horizons)."""


@pytest.fixture
def ceres(tmp_path):
    path = tmp_path / "MPCORB.DAT"
    path.write_text("MINOR PLANET CENTER ORBIT DATABASE\n\nDes'n     H     G\n" + "-" * 160 + "\n" + CERES + "\n")
    return read_mpcorb(path)


def test_mpcorb_is_read_with_and_without_its_introduction(tmp_path, ceres):
    (row,) = ceres.to_pylist()
    assert (row["designation"], row["name"]) == ("00001", "(1) Ceres")
    assert row["epoch_mjd"] == Time("2026-06-09").mjd
    assert (row["mean_anomaly_deg"], row["eccentricity"], row["semimajor_axis_au"]) == (274.41935, 0.0796923, 2.7655526)
    assert row["absolute_mag"] == pytest.approx(3.34)
    bare = tmp_path / "NEA.txt.gz"
    unknown = CERES.replace("00001    3.34  0.15", "K26A01B".ljust(19)).replace("(1) Ceres", "2026 AB1 ")
    bare.write_bytes(gzip.compress((CERES + "\n" + unknown).encode()))
    both = read_mpcorb(bare)
    assert both.column("name").to_pylist() == ["(1) Ceres", "2026 AB1"]
    assert both.column("absolute_mag").to_pylist()[1] is None
    write_orbits(tmp_path / "mpcorb", both)
    assert read_orbits(tmp_path / "mpcorb").equals(both)


@pytest.mark.parametrize(
    ("old", "new"),
    [("274.41935", "27x.41935"), ("K2669", "Q2669"), ("K2669", "K26D9"), ("10.58803", "210.5880"), (CERES[:150], "x")],
)
def test_lines_of_another_format_are_refused(tmp_path, old, new):
    path = tmp_path / "MPCORB.DAT"
    path.write_text(CERES + CERES.replace(old, new))
    with pytest.raises(InputError, match="MPCORB"):
        read_mpcorb(path)


def test_packed_dates():
    assert packed_mjd("J9611") == Time("1996-01-01").mjd
    assert packed_mjd("K01AM") == Time("2001-10-22").mjd
    assert packed_mjd("K232P") == Time("2023-02-25").mjd


def test_keplers_equation():
    e = np.array([0.0, 0.3, 0.9, 0.999, 0.97])
    mean = np.radians([12.0, 350.0, 3.0, 0.01, -179.0])
    anomaly = eccentric_anomaly(mean, e)
    assert np.remainder(anomaly - e * np.sin(anomaly) - mean + np.pi, 2 * np.pi) - np.pi == pytest.approx(0, abs=1e-11)


def test_ceres_is_where_horizons_has_it_97_days_after_the_epoch(ceres):
    time = np.array([HORIZONS_MJD])
    ra, dec = astrometric_positions(ceres, time, observer_au(time, geocentre=True))
    assert 3600 * separation_deg(ra[0], dec[0], HORIZONS_RA, HORIZONS_DEC)[0] < 0.1
    # the unperturbed orbit is off by more: this is what the planets do
    elements = {
        n: np.asarray(ceres.column(n)) for n in ceres.column_names if ceres.schema.field(n).type == pa.float64()
    }
    towards = observer_au(time, geocentre=True)[0]
    delay = 0.0
    for _ in range(3):
        seen = state_at(elements, terrestrial_mjd(HORIZONS_MJD) - 61200.0 - delay)[0][0] - towards
        delay = np.linalg.norm(seen) * 499.0 / 86400
    alone = np.degrees(np.arctan2(seen[1], seen[0])) % 360, np.degrees(np.arcsin(seen[2] / np.linalg.norm(seen)))
    assert 3600 * separation_deg(*alone, HORIZONS_RA, HORIZONS_DEC) > 1.0
    assert _magnitudes(ceres, HORIZONS_MJD)[0] == pytest.approx(HORIZONS_V, abs=0.1)


def test_the_telescope_is_where_astropy_has_it():
    times = np.array([61297.1, 61297.4])
    with solar_system_ephemeris.set("builtin"):
        earth = get_body_barycentric("earth", Time(times, format="mjd")) - get_body_barycentric(
            "sun", Time(times, format="mjd")
        )
    assert observer_au(times, geocentre=True) == pytest.approx(earth.xyz.to_value("au").T, abs=1e-8)
    site = EarthLocation.from_geodetic(-70.81489, -30.16606, 2215.0)
    itrs = np.linalg.norm([site.x.to_value("au"), site.y.to_value("au"), site.z.to_value("au")])
    offset = observer_au(times) - observer_au(times, geocentre=True)
    assert np.linalg.norm(offset, axis=1) == pytest.approx(itrs, rel=1e-9)
    # it turns by 15.04 degrees an hour about the pole: the length of the chord does not depend on where that is
    chord = 2 * np.hypot(site.x, site.y).to_value("au") * np.sin(np.radians(0.3 * 360.98565) / 2)
    assert np.linalg.norm(offset[1] - offset[0]) == pytest.approx(chord, rel=1e-6)


def test_jupiter_attracts_what_passes_it():
    planets = Planets(61000.0, 61400.0)
    times = np.array([61000.0, 61020.0])
    place = planets._spline(61000.0)[4] * 1.02  # a tenth of an AU beyond Jupiter
    speed = planets._spline(61000.0, 1)[4]
    path = integrate(place[None], speed[None], 61000.0, times, planets)[0]
    kepler = Planets(61000.0, 61400.0)
    kepler._gm = kepler._gm * 0.0
    free = integrate(place[None], speed[None], 61000.0, times, kepler)[0]
    moved = np.linalg.norm(path[1] - free[1])
    distance = np.linalg.norm(place) * 0.02 / 1.02
    expected = 0.5 * GAUSS**2 / 1047.35 / distance**2 * 20.0**2
    assert moved == pytest.approx(expected, rel=0.1)  # it comes nearer by a twentieth meanwhile


def test_those_in_the_field_are_found_among_many(ceres):
    rng = np.random.default_rng(1)
    n = 2000
    columns = {name: ceres.column(name).to_pylist() * n for name in ceres.column_names}
    columns["mean_anomaly_deg"] = rng.uniform(0, 360, n)
    columns["name"] = [f"other {i}" for i in range(n)]
    columns["absolute_mag"] = rng.uniform(10, 20, n)
    many = pa.concat_tables([pa.table(columns, schema=ceres.schema), ceres])
    times = HORIZONS_MJD + np.array([0.05, 0.2, 0.05])
    field = np.array([101.75, 140.0]), np.array([22.99, 0.0])
    found = predict_positions(many, times, field, 0.2)
    assert "(1) Ceres" in found.name.tolist()
    assert found.mjd.tolist() == sorted(set(times.tolist()))
    ra, dec = astrometric_positions(many, found.mjd)
    near = (separation_deg(ra, dec, 101.75, 22.99) < 0.2) | (separation_deg(ra, dec, 140.0, 0.0) < 0.2)
    names = np.array(many.column("name").to_pylist())
    assert sorted(found.name.tolist()) == sorted(names[near.any(axis=1)].tolist())
    assert len(predict_positions(many, times, field, 0.2, faint_mag=5.0)) == 0
    assert len(predict_positions(many, times, field, 0.2, max_days=50.0)) == 0
