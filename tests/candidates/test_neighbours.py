import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.associate import candidate_table
from imaging.candidates.crossmatch import match_point_sources, match_reference_stars
from imaging.candidates.hosts import add_distances, directional_light_radius, hosts_of_catalogue, match_hosts
from imaging.candidates.settings import CrossmatchSettings
from imaging.detector.distortion import seed_wcs
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.fields import NO_ID
from imaging.schemas.hosts import HOSTS
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import make_table
from imaging.wcs.sphere import offset_position

SETTINGS = CrossmatchSettings()
RA, DEC = 30.0, -40.0
MJD_2026 = 51544.5 + 26 * 365.25
GAIA = 4657193606465368705


def candidates(offsets, error=0.05):
    ra, dec = offset_position(RA, DEC, *np.array(offsets, dtype=float).T)
    n = len(offsets)
    return candidate_table(
        {
            "candidate_id": [f"C{i}" for i in range(n)],
            "ra": ra,
            "dec": dec,
            "position_error_arcsec": np.full(n, error),
            "flags": np.zeros(n, dtype=int),
        }
    )


def stars(rows):
    n = len(rows)
    columns = {name: np.zeros(n) for name in REFERENCE_STARS.names}
    columns |= {"ref_epoch": np.full(n, 2016.0), "phot_g_mean_mag": np.full(n, 19.0)}
    columns |= {f"{name}_error": np.full(n, 0.2) for name in ("pmra", "pmdec", "parallax")}
    columns |= {"source_id": GAIA + np.arange(n), "variable": np.zeros(n, dtype=bool)}
    ra, dec = offset_position(RA, DEC, *np.array([row[:2] for row in rows], dtype=float).T)
    columns |= {"ra": ra, "dec": dec}
    for i, row in enumerate(rows):
        for name, value in row[2].items():
            columns[name][i] = value
    return make_table(columns, REFERENCE_STARS)


def hosts(rows):
    ra, dec = offset_position(RA, DEC, *np.array([row[:2] for row in rows], dtype=float).T)
    table = {"ra": ra, "dec": dec}
    defaults = {"a_arcsec": 1.0, "b_arcsec": 1.0, "position_angle_deg": 0.0, "mag": 19.0, "point_like": False}
    defaults |= {"distance_mpc": None, "distance_error_mpc": None, "distance_source": None}
    for name, value in defaults.items():
        table[name] = [row[2].get(name, value) for row in rows]
    return make_table(table, HOSTS)


def flags_of(table):
    return [CandidateFlag(f) for f in table.column("flags").to_pylist()]


def test_stars_are_found_where_they_have_moved_to():
    # two arcseconds a year to the east: 20 arcsec in ten years
    moving = stars([(-20.0, 0.0, {"pmra": 2000.0, "parallax": 50.0})])
    matched = match_reference_stars(candidates([(0, 0), (-20, 0)]), moving, MJD_2026, SETTINGS)
    assert flags_of(matched) == [CandidateFlag.ON_STAR, CandidateFlag(0)]
    row = matched.to_pylist()[0]
    assert row["gaia_source_id"] == GAIA
    assert row["gaia_separation_arcsec"] < 0.1
    assert matched.to_pylist()[1]["gaia_source_id"] == NO_ID


def test_what_does_not_move_may_be_a_nucleus():
    still = stars([(0.2, 0.0, {}), (30.0, 0.0, {"variable": True}), (60.0, 1.5, {})])
    matched = match_reference_stars(candidates([(0, 0), (30, 0), (60, 0)]), still, MJD_2026, SETTINGS)
    expected = [
        CandidateFlag.ON_POINT_SOURCE,
        CandidateFlag.ON_POINT_SOURCE | CandidateFlag.KNOWN_VARIABLE,
        CandidateFlag(0),
    ]
    assert flags_of(matched) == expected
    assert matched.to_pylist()[2]["gaia_separation_arcsec"] == pytest.approx(1.5, abs=0.01)


def test_halos_shrink_with_magnitude():
    bright = stars([(0.0, 0.0, {"phot_g_mean_mag": 10.0})])
    matched = match_reference_stars(candidates([(35, 0), (45, 0)]), bright, MJD_2026, SETTINGS)
    assert flags_of(matched) == [CandidateFlag.NEAR_STAR, CandidateFlag(0)]
    faint = stars([(0.0, 0.0, {"phot_g_mean_mag": 17.0})])
    assert flags_of(match_reference_stars(candidates([(5, 0)]), faint, MJD_2026, SETTINGS)) == [CandidateFlag(0)]


def test_point_sources_of_the_template():
    table = hosts([(0.3, 0, {"point_like": True}), (50.3, 0, {})])
    matched = match_point_sources(candidates([(0, 0), (50, 0)]), table, SETTINGS)
    assert flags_of(matched) == [CandidateFlag.ON_POINT_SOURCE, CandidateFlag(0)]


def test_the_directional_light_radius_follows_the_ellipse():
    a, b, angle = np.full(3, 4.0), np.full(3, 1.0), np.full(3, 30.0)
    radius = directional_light_radius(a, b, angle, np.array([30.0, 120.0, 210.0]))
    np.testing.assert_allclose(radius, [4.0, 1.0, 4.0])


def test_a_large_spiral_keeps_its_transients_from_the_galaxy_behind():
    spiral = {"a_arcsec": 12.0, "b_arcsec": 3.0, "position_angle_deg": 90.0, "mag": 13.0, "distance_mpc": 41.0}
    table = hosts([(0, 0, spiral), (23, 2.5, {"a_arcsec": 0.6, "b_arcsec": 0.6, "mag": 22.0})])
    matched = match_hosts(candidates([(20, 0), (0, 20), (0.1, 0.1)]), table, SETTINGS).to_pylist()
    assert matched[0]["host_mag"] == 13.0
    assert matched[0]["host_dlr"] == pytest.approx(20 / 12, rel=0.01)
    assert matched[0]["host_distance_mpc"] == 41.0
    assert matched[1]["host_dlr"] is None  # along the minor axis: more than five light radii
    assert matched[2]["flags"] == CandidateFlag.NUCLEAR


def test_a_catalogue_of_the_template_becomes_hosts():
    wcs = seed_wcs(28, 30.0, -40.0)
    n = 2
    columns = {name: np.zeros(n) for name in CATALOGUE.names}
    columns |= {"band": np.array(["i"] * n, dtype=object), "flux_auto": np.array([1e4, 1e4])}
    columns |= {"flux_aper": np.zeros((n, 12)), "flux_aper_error": np.zeros((n, 12))}
    columns |= {"x": np.array([1000.0, 200.0]), "y": np.array([2000.0, 300.0])}
    columns["ra"], columns["dec"] = wcs.pixel_to_sky(columns["x"], columns["y"])
    columns |= {"a_image": np.full(n, 8.0), "b_image": np.full(n, 2.0), "theta_image": np.array([0.0, 90.0])}
    columns |= {"spread_model": np.array([0.02, 0.0])}
    integers = ("expnum", "night", "ccd", "number", "isoarea", "flags", "mask")
    table = make_table({k: v.astype(int) if k in integers else v for k, v in columns.items()}, CATALOGUE)
    found = hosts_of_catalogue(table, wcs, 30.0, SETTINGS).to_pylist()
    assert [row["point_like"] for row in found] == [False, True]
    assert found[0]["a_arcsec"] == pytest.approx(8 * 0.263, rel=0.02)
    assert found[0]["mag"] == pytest.approx(20.0)
    # x runs to the south and y to the east
    assert abs(found[0]["position_angle_deg"]) == pytest.approx(180.0, abs=1.0)
    assert found[1]["position_angle_deg"] == pytest.approx(90.0, abs=1.0)


def test_distances_come_from_the_galaxy_catalogue_and_missing_galaxies_are_added():
    table = hosts([(0, 0, {"a_arcsec": 5.0, "point_like": True}), (100, 0, {})])
    ra, dec = offset_position(RA, DEC, np.array([4.0, 300.0]), np.array([0.0, 0.0]))
    galaxies = pa.table(
        {"ra": ra, "dec": dec, "distance_mpc": [40.0, 100.0], "distance_error_mpc": [4.0, 10.0], "mag": [13.0, 15.0]}
    )
    joined = add_distances(table, galaxies, SETTINGS).to_pylist()
    assert [row["distance_mpc"] for row in joined] == [40.0, None, 100.0]
    assert joined[0]["point_like"] is False
    assert joined[2]["a_arcsec"] == pytest.approx(2.5 / 1e5 * 206265, rel=0.01)


def test_empty_tables_change_nothing():
    some, none = candidates([(0, 0)]), hosts([(0, 0, {})]).slice(0, 0)
    assert match_hosts(some, none, SETTINGS).to_pylist()[0]["host_dlr"] is None
    assert match_point_sources(some, none, SETTINGS).equals(some)
    assert match_reference_stars(some, stars([(0, 0, {})]).slice(0, 0), MJD_2026, SETTINGS).equals(some)
    assert match_hosts(some.slice(0, 0), hosts([(0, 0, {})]), SETTINGS).num_rows == 0
