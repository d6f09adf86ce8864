import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imaging.errors import InputError, StorageError
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.candidates import read_candidates
from imaging.io.exposure_list import read_exposure_list, write_exposure_list
from imaging.io.manifest import CalibrationEntry
from imaging.io.raw import Exposure
from imaging.io.reference import read_reference_cone, write_reference_catalogue
from imaging.io.tables import read_table, write_table
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import column, make_table
from imaging.wcs.sphere import separation_deg

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.float32()), ("c", pa.list_(pa.float32(), 3)), ("d", pa.string())])


def test_tables_survive_writing_and_reading(tmp_path):
    table = make_table({"a": [1, 2], "b": [0.5, None], "c": np.arange(6.0).reshape(2, 3), "d": ["x", "y"]}, SCHEMA)
    write_table(tmp_path / "t.parquet", table)
    again = read_table(tmp_path / "t.parquet")
    assert again.equals(table)
    assert np.isnan(column(again, "b")[1])
    assert column(again, "c").shape == (2, 3)


def test_columns_of_another_table_are_taken_as_they_are():
    rows = {"a": [1, 2], "b": [0.5, None], "c": np.arange(6.0).reshape(2, 3), "d": ["x", "y"]}
    table = make_table(rows, SCHEMA)
    again = make_table({name: table.column(name) for name in SCHEMA.names}, SCHEMA)
    assert again.equals(table)
    for old, new in zip(table.columns, again.columns, strict=True):
        old_data, new_data = (one.chunk(0).buffers()[-1] for one in (old, new))
        assert new_data.address == old_data.address
    with pytest.raises(pa.ArrowInvalid):
        make_table({**rows, "a": table.column("d")}, SCHEMA)


@pytest.mark.parametrize("columns", [None, ["d", "a"]])
def test_a_table_is_read_as_arrow_reads_it(tmp_path, columns):
    """With what the table states of itself, and without what describes the file to programs of other kinds."""
    facts = {b"about": b'{"night": 20240510}'}
    rows = {"a": [1, 2], "b": [0.5, None], "c": np.arange(6.0).reshape(2, 3), "d": ["x", "y"]}
    write_table(tmp_path / "own.parquet", make_table(rows, SCHEMA).replace_schema_metadata(facts))
    pq.write_table(pa.table({"a": [1, 2], "d": ["x", "y"]}), tmp_path / "foreign.parquet", store_schema=False)
    for name in ("own.parquet", "foreign.parquet"):
        known = pq.read_table(tmp_path / name, columns=columns, partitioning=None)
        again = read_table(tmp_path / name, columns)
        assert again.schema.equals(known.schema, check_metadata=True)
        assert again.equals(known)
    with pytest.raises(StorageError, match="nonsense"):
        read_table(tmp_path / "own.parquet", ["a", "nonsense"])


def test_a_schema_never_drifts(tmp_path):
    with pytest.raises(ValueError, match="missing \\['d'\\]"):
        make_table({"a": [1], "b": [1.0], "c": [[1, 2, 3]]}, SCHEMA)
    with pytest.raises(StorageError):
        read_table(tmp_path / "absent.parquet")


def reference_table(ra, dec):
    n = len(ra)
    columns = {f.name: np.zeros(n) for f in REFERENCE_STARS}
    columns |= {"source_id": np.arange(n), "ra": ra, "dec": dec, "variable": np.zeros(n, bool)}
    return make_table(columns, REFERENCE_STARS)


@pytest.mark.parametrize(("ra0", "dec0"), [(0.0, 0.0), (359.9, -45.0), (120.0, 89.8), (33.0, -90.0), (200.0, 20.0)])
def test_reference_cone_finds_exactly_what_is_inside(tmp_path, ra0, dec0):
    rng = np.random.default_rng(4)
    z = rng.uniform(np.sin(np.radians(dec0)) - 0.01, min(np.sin(np.radians(dec0)) + 0.01, 1), 4000).clip(-1, 1)
    ra = (ra0 + rng.uniform(-3, 3, 4000) / max(np.cos(np.radians(dec0)), 0.01)) % 360
    dec = np.degrees(np.arcsin(z))
    write_reference_catalogue(tmp_path, reference_table(ra, dec), name="test")
    found = column(read_reference_cone(tmp_path, ra0, dec0, 0.4), "source_id")
    expected = np.flatnonzero(separation_deg(ra0, dec0, ra, dec) <= 0.4)
    assert np.array_equal(found, expected)
    assert len(expected) > 3


def test_no_reference_catalogue_is_said(tmp_path):
    with pytest.raises(InputError, match="no reference catalogue"):
        read_reference_cone(tmp_path / "absent", 0, 0, 1)


LIST = "EXPNUM,NITE,MJD,RA,DEC,BAND,EXPTIME,PROPID,OBSTYPE,TEFF,OBJECT\n"


def test_exposure_lists(tmp_path):
    path = tmp_path / "exposures.csv"
    path.write_text(LIST + "1300001,20260817,61269.05,197.45,-23.38,i,90,2026B-0001,object,0.8,hex 1\n"
                    "123456789012,20260110,61050.3,-0.5,-23.38,VR,30,,,,\n")  # fmt: skip
    first, second = read_exposure_list(path)
    assert (first.exposure.expnum, first.t_eff, first.exposure.object_name) == (1300001, 0.8, "hex 1")
    assert (second.exposure.expnum, second.exposure.ra_deg) == (123456789012, 359.5)
    write_exposure_list(tmp_path / "again.csv", (first, second))
    again = read_exposure_list(tmp_path / "again.csv")
    assert [i.exposure.expnum for i in again] == [1300001, 123456789012]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPNUM,NITE\n1,2\n", "lacks columns"),
        (LIST + "1,20260817,x,0,0,i,90,,,,\n", "line 2"),
        (LIST + "1,20260817,61270.1,0,0,q,90,,,,\n", "unknown band"),
        (LIST + "1,20260817,61270.1,0,0,i,90,,,,\n" * 2, "listed twice"),
    ],
)
def test_bad_exposure_lists_are_refused(tmp_path, text, message):
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_exposure_list(tmp_path / "e.csv")


def exposure(night, expnum=500000, band="i"):
    return Exposure(expnum, band, night, 57000.0, 90.0, 0.0, 0.0, 1.0)


@pytest.fixture
def library(tmp_path):
    for name in ("old", "new", "flat_g"):
        (tmp_path / f"{name}_07.fits").touch()
    write_manifest(
        tmp_path,
        (
            CalibrationEntry(
                epoch="y1", kind="bias", files="old_{ccd:02d}.fits", made_night=20130901, last_night=20140301
            ),
            CalibrationEntry(
                epoch="y4", kind="bias", files="new_{ccd:02d}.fits", made_night=20151113, first_night=20140301
            ),
            CalibrationEntry(epoch="y4", kind="flat", band="g", files="flat_g_{ccd:02d}.fits", made_night=20151113),
        ),
        age_limits={},
    )
    return CalibrationLibrary(tmp_path)


def test_calibrations_follow_their_validity(library):
    assert library.find("bias", exposure(20131001), 7).name == "old_07.fits"
    assert (
        library.find("bias", exposure(20140301), 7).name == "old_07.fits"
    )  # both valid: half a year and 20 months away
    assert library.find("bias", exposure(20140302), 7).name == "new_07.fits"
    assert library.find("bias", exposure(20250101), 7, epoch="y1").name == "old_07.fits"
    assert library.find("flat", exposure(20250101, band="g"), 7).name == "flat_g_07.fits"


def test_missing_calibrations_are_named(library, tmp_path):
    with pytest.raises(InputError, match=r"missing: flat, band i"):
        library.find("flat", exposure(20250101), 7)
    with pytest.raises(InputError, match=r"outside its validity: bias.*night 20110101.*y1 nights"):
        CalibrationLibrary(tmp_path).find("bias", exposure(20110101), 7)
    with pytest.raises(InputError, match=r"exposure 500000, CCD 8.*file missing"):
        library.find("bias", exposure(20250101), 8)
    with pytest.raises(InputError, match="no calibration library"):
        CalibrationLibrary(tmp_path / "absent")


def test_terms_of_the_rank_under_their_old_names_are_read(tmp_path):
    """Version 0.1 called them part_*."""
    rng = np.random.default_rng(3)
    columns = {field.name: pa.nulls(2, field.type) for field in CANDIDATES}
    columns["loglr_skymap"] = pa.array(rng.normal(size=2), CANDIDATES.field("loglr_skymap").type)
    now = pa.Table.from_pydict(columns, schema=CANDIDATES)
    old = now.rename_columns([name.replace("loglr_", "part_") for name in now.column_names])
    write_table(tmp_path / "candidates.parquet", old.drop_columns(["code_version", "undecided_because"]))
    read = read_candidates(tmp_path / "candidates.parquet")
    assert read.schema == CANDIDATES
    assert read.column("loglr_skymap").equals(now.column("loglr_skymap"))
