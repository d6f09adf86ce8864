"""Photometric surveys in the bands of the camera, by a mapping of column names."""

import json

import numpy as np
import pyarrow as pa
import pytest

from imaging.errors import InputError
from imaging.reference.mapping import SHIPPED, calibrated_stars, parse_mapping, shipped_mapping
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.schemas.reference import CALIBRATED_STARS
from imaging.tables import column

SETTINGS = ReferenceCatalogueSettings()


def pan_starrs(g, r, i, z, detections=10):
    n = len(g)
    columns = {"objid": np.arange(n), "ramean": np.linspace(10, 11, n), "decmean": np.zeros(n)}
    for band, mag in zip("griz", (g, r, i, z), strict=True):
        columns[f"{band}meanpsfmag"] = np.asarray(mag, float)
        columns[f"{band}meanpsfmagerr"] = np.full(n, 0.01)
    columns["ndetections"] = np.broadcast_to(np.asarray(detections, float), n)
    return pa.table(columns)


def test_pan_starrs_becomes_decam():
    stars = calibrated_stars(pan_starrs([18.0], [17.5], [17.3], [17.2]), shipped_mapping("ps1_dr2"), SETTINGS)
    assert stars.schema == CALIBRATED_STARS
    row = stars.to_pylist()[0]
    assert row["mag_g"] == pytest.approx(18.0 + 0.0994 * 0.5 - 0.0076, abs=2e-4)
    assert row["mag_r"] == pytest.approx(17.5 - 0.1335 * 0.5 + 0.0189, abs=2e-4)
    assert row["mag_z"] == pytest.approx(17.2 - 0.2575 * 0.1 - 0.0074, abs=2e-4)
    assert row["mag_Y"] == pytest.approx(17.2 - 0.6032 * 0.1 + 0.0185, abs=2e-4)
    assert row["mag_u"] is None
    assert row["mag_VR"] is None
    assert row["mag_g_error"] == pytest.approx(np.hypot(0.01, 0.02), rel=0.01)


def test_stars_outside_the_colours_and_missing_values_have_no_magnitude():
    # g - r = 1.5 is too red for g and r; -999 is Pan-STARRS' missing value; one detection is too few.
    source = pan_starrs([19.0, 18.0, 18.0], [17.5, -999.0, 17.5], [17.3] * 3, [17.2] * 3, [10, 10, 1])
    first, second = calibrated_stars(source, shipped_mapping("ps1_dr2"), SETTINGS).to_pylist()
    assert (first["mag_g"], second["mag_g"]) == (None, None)
    assert first["mag_i"] == pytest.approx(second["mag_i"])


def sky_mapper(u, v, g, r, i, z, **changes):
    """Make rows as the master tables of the second and the fourth release have them."""
    n = len(u)
    columns = {"object_id": np.arange(n), "raj2000": np.linspace(10, 11, n), "dej2000": np.full(n, -60.0)}
    for band, mag in zip("uvgriz", (u, v, g, r, i, z), strict=True):
        columns |= {f"{band}_psf": np.asarray(mag, float), f"e_{band}_psf": np.full(n, 0.01)}
    columns |= {"flags": np.zeros(n), "class_star": np.full(n, 0.98)}
    return pa.table(columns | changes)


@pytest.mark.parametrize("release", ["skymapper_dr2", "skymapper_dr4"])
def test_sky_mapper_becomes_decam(release):
    source = sky_mapper([17.6], [17.1], [15.6], [15.2], [15.1], [15.05])
    row = calibrated_stars(source, shipped_mapping(release), SETTINGS).to_pylist()[0]
    assert row["mag_u"] == pytest.approx(17.6 + 0.1432 - 1.2396 * 0.5, abs=2e-4)  # u reaches halfway to v
    assert row["mag_g"] == pytest.approx(15.6 + 0.0080 + 0.3768 * 0.4, abs=2e-4)  # SkyMapper's g is the redder one
    assert row["mag_r"] == pytest.approx(15.2 + 0.0034 - 0.1187 * 0.5 + 0.0129 * 0.25, abs=2e-4)
    assert row["mag_z"] == pytest.approx(15.05, abs=0.003)
    assert row["mag_Y"] is None
    assert row["mag_u_error"] > 0.05


def test_sky_mapper_galaxies_flagged_and_incomplete_rows_are_left_out():
    mags = [[17.6] * 4, [17.1] * 4, [15.6] * 4, [15.2] * 4, [15.1] * 4, [15.05] * 4]
    mags[0][3] = np.nan  # not measured in u: empty in the archive's files
    source = sky_mapper(*mags, flags=[0.0, 4.0, 0.0, 0.0], class_star=[0.98, 0.98, 0.1, 0.98])
    stars = calibrated_stars(source, shipped_mapping("skymapper_dr4"), SETTINGS)
    assert column(stars, "source_id").tolist() == [0, 3]
    assert stars.column("mag_u").null_count == 1
    assert stars.column("mag_r").null_count == 0


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_mappings_hold_for_the_bands_of_the_camera(name):
    mapping = shipped_mapping(name)
    assert mapping.name == name
    assert set("griz") <= set(mapping.bands)
    assert all(rule.scatter_mag > 0.0 for rule in mapping.bands.values())
    assert parse_mapping(mapping.model_dump_json(), name) == mapping  # it travels to the workers as JSON


def test_a_mapping_of_ones_own():
    document = {
        "name": "mine",
        "source_id": "ID",
        "ra": "RA",
        "dec": "DE",
        "ref_epoch": 2014.0,
        "bands": {"g": {"magnitude": "gpsf", "scatter_mag": 0.02}},
    }
    source = pa.table({"id": [1, 2], "ra": [-0.5, 10.0], "de": [1.0, 2.0], "gpsf": [17.0, 99.0]})
    mapping = parse_mapping(json.dumps(document), "mine.json")
    stars = calibrated_stars(source, mapping, SETTINGS)
    assert column(stars, "ra").tolist() == pytest.approx([359.5])
    assert column(stars, "mag_g_error").tolist() == pytest.approx([0.02], rel=0.01)
    with pytest.raises(InputError, match=r"columns of the mapping .* are missing: gpsf"):
        calibrated_stars(source.drop_columns(["gpsf"]), mapping, SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"bands": {"q": {"magnitude": "x"}}}, "unknown bands: q"), ({"bands": {}}, "bands"), ({"raa": "RA"}, "raa")],
)
def test_bad_mappings_are_refused(change, message):
    document = {"name": "m", "source_id": "i", "ra": "r", "dec": "d", "ref_epoch": 2014.0}
    document |= {"bands": {"g": {"magnitude": "x"}}} | change
    with pytest.raises(InputError, match=message):
        parse_mapping(json.dumps(document), "m.json")


GOLD = {"ext_mash": [0.0, 1.0, 3.0], "coadd_object_id": [1041000000000000001, 1041000000000000003, 5]}


@pytest.mark.parametrize(("name", "bands"), [("des_y6", "grizY"), ("delve_dr3", "griz")])
def test_gold_catalogues_of_des_and_delve_keep_stars_and_all_digits(name, bands):
    columns = GOLD | {"ra": [10.0, 11.0, 12.0], "dec": [-60.0] * 3}
    for place, band in enumerate(bands.lower()):
        columns |= {f"wavg_mag_psf_{band}": [18.0 + place, 99.0, 18.0], f"wavg_magerr_psf_{band}": [0.004, 0.01, 0.01]}
    columns["wavg_mag_psf_i"][1] = 19.25
    first, second = calibrated_stars(pa.table(columns), shipped_mapping(name), SETTINGS).to_pylist()
    assert (first["source_id"], second["source_id"]) == (1041000000000000001, 1041000000000000003)
    assert [first[f"mag_{band}"] for band in bands] == pytest.approx([18.0 + k for k in range(len(bands))], abs=1e-4)
    assert (second["mag_g"], second["mag_i"]) == (None, pytest.approx(19.25, abs=1e-4))


def test_fluxes_of_the_monster_are_nanojansky_and_its_positions_radians():
    mapping = shipped_mapping("monster")
    columns = {"id": [4657193606465368705], "coord_ra": [np.radians(150.1)], "coord_dec": [np.radians(2.2)]}
    for band in "grizy":
        columns |= {f"monster_des_{band}_flux": [3630780.5], f"monster_des_{band}_fluxerr": [36307.8]}
    columns["monster_des_y_flux"] = [np.nan]
    (row,) = calibrated_stars(pa.table(columns), mapping, SETTINGS).to_pylist()
    assert (row["source_id"], row["ra"], row["dec"]) == (4657193606465368705, pytest.approx(150.1), pytest.approx(2.2))
    assert row["mag_g"] == pytest.approx(15.0, abs=2e-4)  # 3631 Jy is magnitude zero, AB
    assert row["mag_g_error"] == pytest.approx(np.hypot(1.0857 * 0.01, 0.01), rel=0.01)
    assert row["mag_Y"] is None


@pytest.mark.parametrize(
    ("ra", "dec", "kept"),
    [(150.1, 2.2, True), (-0.5, -90.0, True), (-999.0, -999.0, False), (np.nan, 2.2, False), (10.0, np.nan, False)],
)
def test_a_row_without_a_position_is_left_out(ra, dec, kept):
    columns = {"source_id": [5, 6], "ra": [ra, 80.0], "dec": [dec, -69.0]}
    for band in "grizy":
        columns |= {f"decam_flux_{band}": [1e-28] * 2, f"decam_flux_error_{band}": [1e-30] * 2}
    stars = calibrated_stars(pa.table(columns), shipped_mapping("gaia_xp"), SETTINGS)
    assert stars["source_id"].to_pylist() == ([5, 6] if kept else [6])


@pytest.mark.parametrize(
    ("name", "ra", "dec"),
    [("monster", 150.1, 2.2), ("monster", 1.5, -2.2), ("gaia_xp", 361.0, 2.2), ("gaia_xp", 1.0, 95.0)],
)
def test_positions_in_another_unit_are_refused(name, ra, dec):
    mapping = shipped_mapping(name)
    columns = {column_name: [1.0] for column_name in mapping.source_types()}
    columns |= {mapping.source_id: [5], mapping.ra: [ra], mapping.dec: [dec]}
    unit = "radians" if name == "monster" else "degrees"
    with pytest.raises(InputError, match=f"not on the sky in {unit}"):
        calibrated_stars(pa.table(columns), mapping, SETTINGS)


def test_synthetic_photometry_of_gaias_spectra():
    columns = {"source_id": [4657193606465368705], "ra": [80.0], "dec": [-69.0]}
    flux = 10 ** (-0.4 * (16.0 + 56.1))  # W / m2 / Hz, the unit of GaiaXPy
    for band in "grizy":
        columns |= {f"decam_flux_{band}": [flux], f"decam_flux_error_{band}": [0.005 * flux]}
    (row,) = calibrated_stars(pa.table(columns), shipped_mapping("gaia_xp"), SETTINGS).to_pylist()
    assert [row[f"mag_{band}"] for band in "grizY"] == pytest.approx([16.0] * 5, abs=2e-4)
    with pytest.raises(InputError, match="columns of the mapping gaia_xp are missing: dec, ra"):
        calibrated_stars(pa.table(columns).drop_columns(["ra", "dec"]), shipped_mapping("gaia_xp"), SETTINGS)
