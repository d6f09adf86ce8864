"""Tables of stars in the forms in which archives deliver them."""

import gzip

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Column, Table

from imaging.errors import InputError
from imaging.io import source_tables
from imaging.io.source_tables import format_of, source_batches

TYPES = {"source_id": pa.int64(), "ra": pa.float64(), "mag": pa.float32(), "flag": pa.string()}


def read(path, types=TYPES):
    return pa.concat_tables(source_batches(path, types))


def fits_table(path, n=10):
    rows = np.zeros(n, dtype=[("SOURCE_ID", ">i8"), ("RA", ">f8"), ("mag", ">f4"), ("unused", ">f4"), ("FLAG", "S8")])
    rows["SOURCE_ID"] = np.arange(n) + 2**60
    rows["RA"] = np.linspace(0, 359, n)
    rows["mag"] = np.linspace(14, 20, n)
    rows["mag"][3] = np.nan
    rows["FLAG"] = b"VARIABLE"
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(np.zeros((2, 2)))
        file.write(rows)


@pytest.mark.parametrize("compressed", [False, True])
def test_fits_in_parts_and_without_regard_to_case(tmp_path, monkeypatch, compressed):
    monkeypatch.setattr(source_tables, "BATCH_ROWS", 4)
    path = tmp_path / "stars.fits"
    fits_table(path)
    if compressed:
        packed = tmp_path / "stars.fits.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    batches = list(source_batches(path, TYPES))
    assert [batch.num_rows for batch in batches] == [4, 4, 2]
    table = pa.concat_tables(batches)
    assert set(table.column_names) == set(TYPES)
    assert table.column("source_id").to_pylist()[0] == 2**60
    assert table.column("mag").null_count == 1
    assert set(table.column("flag").to_pylist()) == {"VARIABLE"}


def test_an_image_is_no_table(tmp_path):
    fitsio.write(str(tmp_path / "image.fits"), np.zeros((3, 3)))
    with pytest.raises(InputError, match="no binary table"):
        read(tmp_path / "image.fits")


def test_text_with_blanks_quotes_and_missing_values(tmp_path):
    path = tmp_path / "stars.ecsv"
    path.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: source_id, datatype: int64}\n"
        'source_id ra mag flag\n1 10.5 "" "VARIABLE"\n2 11.5 nan ""\n3 12.5 17.25 CONSTANT\n'
    )
    table = read(path)
    assert table.column("mag").to_pylist() == [None, None, 17.25]
    assert table.column("flag").to_pylist() == ["VARIABLE", None, "CONSTANT"]
    assert table.column("ra").to_pylist() == [10.5, 11.5, 12.5]


def test_large_text_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(source_tables, "BLOCK_BYTES", 4096)
    path = tmp_path / "stars.csv.gz"
    lines = "\n".join(f"{k},{k * 0.01:.4f},{15 + k % 5},x" for k in range(3000))
    path.write_bytes(gzip.compress(f"source_id,ra,mag,flag\n{lines}\n".encode()))
    batches = list(source_batches(path, TYPES))
    assert len(batches) > 5
    assert pa.concat_tables(batches).column("source_id").to_pylist() == list(range(3000))


def test_a_number_that_is_none_is_named(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text("source_id,ra,mag,flag\n1,10.0,bright,x\n")
    with pytest.raises(InputError, match=r"damaged.*bright"):
        read(path)


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_text_without_names_is_damaged(tmp_path, text):
    path = tmp_path / "stars.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="no line of column names"):
        read(path)


def test_parquet_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(source_tables, "BATCH_ROWS", 100)
    table = pa.table({"SOURCE_ID": np.arange(250), "extra": np.zeros(250), "RA": np.linspace(0, 1, 250)})
    pq.write_table(table, tmp_path / "stars.parquet")
    assert [batch.num_rows for batch in source_batches(tmp_path / "stars.parquet", TYPES)] == [100, 100, 50]
    assert read(tmp_path / "stars.parquet").column_names == ["source_id", "ra"]


def test_endings(tmp_path):
    for name, ending in (("A.CSV.GZ", ".csv"), ("b.vot.gz", ".vot"), ("c.fits", ".fits"), ("d.csv.zip", ".csv")):
        assert format_of(tmp_path / name) == ending
    assert format_of(tmp_path / "MD5SUM") is None and format_of(tmp_path / "e.fits.zip") is None


@pytest.mark.parametrize(("unit", "good"), [("deg", True), ("", True), ("degrees", True), ("rad", False), ("h", False)])
@pytest.mark.parametrize("form", ["fits", "ecsv", "vot"])
def test_coordinates_in_radians_or_hours_are_refused_by_name(tmp_path, form, unit, good):
    path = tmp_path / f"stars.{form}"
    if form == "fits":
        rows = np.zeros(3, dtype=[("RA", ">f8"), ("mag", ">f4")])
        fitsio.write(str(path), rows, units=[unit, "mag"])
    elif form == "ecsv":
        kind = f"name: ra, unit: {unit}, datatype" if unit else "name: ra, datatype"
        path.write_text(f"# %ECSV 1.0\n# ---\n# datatype:\n# - {{{kind}: float64}}\nra mag\n0 1\n")
    else:
        fields = f'<FIELD name="ra" datatype="double" unit="{unit}"/><FIELD name="mag" datatype="float"/>'
        data = "<DATA><TABLEDATA><TR><TD>0</TD><TD>1</TD></TR></TABLEDATA></DATA>"
        path.write_text(f"<VOTABLE><RESOURCE><TABLE>{fields}{data}</TABLE></RESOURCE></VOTABLE>")
    if good:
        assert read(path).column("ra").to_pylist()[0] == 0.0
    else:
        with pytest.raises(InputError, match=rf"column ra is in {unit}"):
            read(path)


@pytest.mark.parametrize(("unit", "good"), [("rad", True), ("", True), ("deg", False), ("h", False)])
@pytest.mark.parametrize("form", ["fits", "ecsv", "vot"])
def test_columns_read_as_radians_are_not_in_degrees(tmp_path, form, unit, good):
    """The tables of the Rubin Observatory state radians as the unit of coord_ra."""
    path = tmp_path / f"a.{form}"
    if form == "fits":
        fitsio.write(str(path), np.array([(2.6, 1)], [("coord_ra", "f8"), ("id", "i8")]), units=[unit, ""])
    else:
        column = Column([2.6], name="coord_ra", unit=unit or None)
        Table([column, Column([1], name="id")]).write(path, format={"ecsv": "ascii.ecsv", "vot": "votable"}[form])
    types = {"coord_ra": pa.float64(), "id": pa.int64()}
    if good:
        (table,) = source_batches(path, types, radians=("coord_ra",))
        assert table["coord_ra"].to_pylist() == [2.6]
    else:
        with pytest.raises(InputError, match=rf"column coord_ra is in {unit}.*, not in radians"):
            list(source_batches(path, types, radians=("coord_ra",)))


@pytest.mark.parametrize("unit", ["kpc", "Gpc", "km/s", "km s-1", "mmag", "Jy", "uJy", "mJy"])
def test_distances_and_fluxes_in_another_unit_are_refused_by_name(tmp_path, unit):
    rows = np.array([(13000.0,)], [("DistMpc", "f8")])
    fitsio.write(str(tmp_path / "a.fits"), rows, units=[unit])
    with pytest.raises(InputError, match=rf"column distmpc is in {unit}"):
        list(source_batches(tmp_path / "a.fits", {"distmpc": pa.float64()}))
    for known in ("Mpc", "nJy", "mag", "nanomaggy"):
        fitsio.write(str(tmp_path / f"{known}.fits"), rows, units=[known])
        (table,) = source_batches(tmp_path / f"{known}.fits", {"distmpc": pa.float64()})
        assert table["distmpc"].to_pylist() == [13000.0]


@pytest.mark.parametrize("unit", ["arcsec/yr", "deg.yr-1", "arcsec yr**-1", '"/yr'])
def test_proper_motions_in_another_unit_are_refused_by_name(tmp_path, unit):
    rows = np.zeros(3, dtype=[("pmra", ">f8")])
    fitsio.write(str(tmp_path / "a.fits"), rows, units=[unit])
    with pytest.raises(InputError, match="column pmra is in"):
        read(tmp_path / "a.fits", {"pmra": pa.float64()})
    fitsio.write(str(tmp_path / "b.fits"), rows, units=["mas.yr**-1"])
    assert read(tmp_path / "b.fits", {"pmra": pa.float64()}).num_rows == 3


def test_integers_equal_to_tnull_are_missing_and_scaled_ones_are_read(tmp_path):
    """fitsio 1.4 reads 0.058 for 17.0 in a column with TSCAL."""
    rows = np.array([(2**60, 17000), (-1, -999)], dtype=[("source_id", ">i8"), ("mag", ">i2")])
    cards = {"TNULL1": -1, "TNULL2": -999, "XSCAL2": 0.001}
    path = tmp_path / "a.fits"
    fitsio.write(str(path), rows, header=[{"name": k, "value": v} for k, v in cards.items()])
    unscaled = read(path, {"source_id": pa.int64(), "mag": pa.float64()})
    path.write_bytes(path.read_bytes().replace(b"XSCAL2", b"TSCAL2"))
    table = read(path, {"source_id": pa.int64(), "mag": pa.float64()})
    assert table.column("source_id").to_pylist() == unscaled.column("source_id").to_pylist() == [2**60, None]
    assert unscaled.column("mag").to_pylist() == [17000.0, None]
    assert table.column("mag").to_pylist() == [pytest.approx(17.0), None]


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("source_id,ra,mag,ra\n1,10.5,17,99\n")
    with pytest.raises(InputError, match="two columns have the name ra"):
        read(tmp_path / "a.csv")
