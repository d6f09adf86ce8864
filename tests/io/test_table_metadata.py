"""Units and meanings of tables as astropy, DuckDB and the Virtual Observatory's readers find them."""

import importlib
import io
import pkgutil
import warnings

import astropy.units as u
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import votable
from astropy.table import Table
from astropy.utils.metadata import MergeConflictWarning

import imaging.schemas
from imaging.io.tables import read_table, write_table
from imaging.schemas.fields import F32, F64, I16, I64, TEXT, field, schema
from imaging.tables import facts_of, make_table, with_facts

SCHEMAS = {
    f"{module.name}.{name}": found
    for module in pkgutil.iter_modules(imaging.schemas.__path__)
    for name, found in vars(importlib.import_module(f"imaging.schemas.{module.name}")).items()
    if isinstance(found, pa.Schema)
}
TABLE = schema(
    field("id", I64, "", 'identifier <of> the "source" & more'),
    field("ra", F64, "deg", "right ascension: ICRS"),
    field("flux", F32, "electron", "flux"),
    field("density", F32, "deg-2", "surface density"),
    field("speed", F32, "arcsec/h", "motion"),
    field("name", TEXT, "", "name"),
    field("apertures", pa.list_(F32, 3), "electron", "fluxes"),
    field("exposures", pa.list_(I64), "", "exposures"),
    field("flags", I16, "", "bits"),
)
BIG = 4657193606465368705


@pytest.fixture
def path(tmp_path):
    columns = {
        "id": [BIG, BIG + 1],
        "ra": [1.0, 2.0],
        "flux": [10.0, None],
        "density": [0.5, 1.5],
        "speed": [1.0, 2.0],
        "name": ["GWJ", None],
        "apertures": np.arange(6.0).reshape(2, 3),
        "exposures": [[1, 2], [3]],
        "flags": [1, 2],
    }
    write_table(tmp_path / "t.parquet", with_facts(make_table(columns, TABLE), {"ORDERING": "NESTED", "ORDER": 12}))
    return tmp_path / "t.parquet"


def test_astropy_reads_values_units_meanings_and_facts(path):
    table = Table.read(path)
    assert table["id"].tolist() == [BIG, BIG + 1]
    assert table["flux"].unit == u.electron and table["apertures"].unit == u.electron
    assert table["density"].unit == u.deg**-2 and table["speed"].unit == u.arcsec / u.hour
    assert table["ra"].description == "right ascension: ICRS" and table["flags"].unit is None
    assert table["id"].description == 'identifier <of> the "source" & more'
    assert table["apertures"].tolist() == [[0, 1, 2], [3, 4, 5]] and list(table["exposures"][0]) == [1, 2]
    assert table["name"].tolist() == ["GWJ", "None"], "astropy's Parquet reader has no missing texts"
    assert table.meta == {"ORDERING": "NESTED", "ORDER": 12}


def test_astropy_reads_a_table_without_rows(tmp_path):
    write_table(tmp_path / "t.parquet", TABLE.empty_table())
    table = Table.read(tmp_path / "t.parquet")
    assert len(table) == 0 and table["density"].unit == u.deg**-2


def test_the_virtual_observatory_reads_them(path):
    content = pq.ParquetFile(path).metadata.metadata[b"IVOA.VOTable-Parquet.content"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (resource,) = votable.parse(io.BytesIO(content), verify="exception").resources
    described = resource.tables[0]
    assert [f.name for f in described.fields] == TABLE.names
    assert {f.name: f.description for f in described.fields}["id"] == 'identifier <of> the "source" & more'
    assert [(p.name, p.value) for p in described.params] == [("ORDERING", "NESTED"), ("ORDER", 12)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MergeConflictWarning)  # the standard does not know electrons
        table = Table.read(path, format="parquet.votable")
    assert table["id"].tolist() == [BIG, BIG + 1] and table["density"].unit == u.deg**-2


def test_duckdb_shows_them(path):
    rows = dict(duckdb.sql(f"select decode(key), decode(value) from parquet_kv_metadata('{path}')").fetchall())
    assert '"unit": "deg-2"' in rows["table_meta_yaml"] and rows["ORDERING"] == "NESTED"


def test_our_reader_keeps_units_and_facts(path):
    table = read_table(path, ["id", "density"])
    assert table.schema.field("density").metadata[b"unit"] == b"deg-2" and facts_of(table)["ORDER"] == 12


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_unit_of_every_table_is_a_unit(name):
    for column in SCHEMAS[name]:
        text = column.metadata[b"unit"].decode()
        unit = u.Unit(text, parse_strict="raise")
        if text != "electron":  # the standard does not know electrons
            assert u.Unit(text, format="vounit", parse_strict="raise") == unit, column.name
