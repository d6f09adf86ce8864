"""Identifiers that were rounded, and answers of archives that are not complete, make no catalogue."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

from imaging.errors import InputError
from imaging.io.source_tables import source_batches

TYPES = {"source_id": pa.int64(), "ra": pa.float64()}
SMALL = np.array([1, 2**31, 2**53 - 1], dtype=np.int64)
GAIA = np.array([4295806720, 6917528997577384320, 6917528997577384321], dtype=np.int64)


def write(path, ids):
    """Write a table with identifiers of any type in the format of the file's name."""
    table = {"source_id": ids, "ra": np.arange(len(ids), dtype=float)}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path)
    elif path.suffix == ".csv":
        rows = [f"{int(i)}.0,{n}" if i == int(i) else f"{i},{n}" for n, i in enumerate(ids.tolist())]
        path.write_text("\n".join(["source_id,ra", *rows]) + "\n")
    elif path.suffix == ".fits":
        fits.BinTableHDU(Table(table)).writeto(path)
    else:
        votable = from_table(Table(table))
        votable.to_xml(
            str(path), tabledata_format={".vot": "tabledata", ".xml": "binary", ".votable": "binary2"}[path.suffix]
        )
    return path


def read(path):
    batches = list(source_batches(path, TYPES))
    return pa.concat_tables(batches).column("source_id").to_pylist()


@pytest.mark.parametrize("ending", ["csv", "fits", "parquet", "vot", "xml", "votable"])
def test_identifiers_are_exact_or_refused(tmp_path, ending):
    if ending != "csv":
        assert read(write(tmp_path / f"whole.{ending}", GAIA)) == GAIA.tolist()
    assert read(write(tmp_path / f"small.{ending}", SMALL.astype(float))) == SMALL.tolist()
    for name, ids in (("large", GAIA.astype(float)), ("half", np.array([1.0, 2.5]))):
        with pytest.raises(InputError, match="source_id") as caught:
            read(write(tmp_path / f"{name}.{ending}", ids))
        assert "rounded" in str(caught.value) and "64-bit integer" in str(caught.value)


@pytest.mark.parametrize("number", ["5.853498713190525696e18", "1.234e18", "4295806720.5"])
def test_a_text_with_the_form_of_a_rounded_number_is_refused_by_the_column(tmp_path, number):
    path = tmp_path / "gaia.csv"
    path.write_text(f"source_id,ra\n1,2.0\n{number},3.0\n")
    with pytest.raises(InputError, match=r"source_id .*rounded .*64-bit integer"):
        read(path)
    path.write_text("source_id,ra\n1e3,2.0\n,3.0\n")
    assert read(path) == [1000, None]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.decimal128(19, 0), pa.uint64(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_of_other_types_has_the_requested_ones(tmp_path, kind):
    ids = pa.array(GAIA)
    stored = ids.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else ids.cast(kind)
    pq.write_table(pa.table({"source_id": stored, "ra": [1.0, 2.0, 3.0]}), tmp_path / "a.parquet")
    (batch,) = source_batches(tmp_path / "a.parquet", TYPES)
    assert batch.schema.field("source_id").type == pa.int64() and batch.column("source_id").to_pylist() == GAIA.tolist()
    pq.write_table(pa.table({"source_id": [1.0, float("nan")], "ra": [1.0, 2.0]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet") == [1, None]


@pytest.mark.parametrize("ending", ["fits", "parquet"])
def test_floats_of_single_precision_hold_fewer_integers(tmp_path, ending):
    assert read(write(tmp_path / f"a.{ending}", np.array([1, 2**24 - 1], np.float32))) == [1, 2**24 - 1]
    with pytest.raises(InputError, match="rounded"):
        read(write(tmp_path / f"b.{ending}", np.array([2**24], np.float32)))


VOTABLE = """<VOTABLE version="1.4"><RESOURCE type="results">{before}
<TABLE{attributes}><FIELD name="source_id" datatype="long"/><FIELD name="ra" datatype="double"/>
<DATA><TABLEDATA><TR><TD>1</TD><TD>2.0</TD></TR><TR><TD>2</TD><TD>3.0</TD></TR></TABLEDATA></DATA></TABLE>{after}
</RESOURCE></VOTABLE>"""


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"after": '<INFO name="QUERY_STATUS" value="OVERFLOW"/>'}, "OVERFLOW"),
        ({"before": '<INFO name="Truncated" value="true"/>'}, "OVERFLOW"),
        ({"before": '<INFO name="QUERY_STATUS" value="overflow ">truncated result</INFO>'}, "truncated result"),
        ({"before": '<INFO name="QUERY_STATUS" value="ERROR">no such table</INFO>'}, "no such table"),
        ({"before": '<INFO ID="Error" name="Error" value="bad radius"/>'}, "bad radius"),
        ({"before": '<PARAM name="Error" datatype="char" value="bad radius"/>'}, "bad radius"),
        ({"attributes": ' nrows="50000"'}, "50000"),
    ],
)
def test_an_answer_that_is_an_error_or_cut_at_a_limit_is_refused(tmp_path, parts, words):
    path = tmp_path / "answer.vot"
    path.write_text(VOTABLE.format(**({"before": "", "after": "", "attributes": ""} | parts)))
    with pytest.raises(InputError, match=words):
        read(path)


def test_a_complete_answer_is_read(tmp_path):
    path = tmp_path / "answer.vot"
    status = '<INFO name="QUERY_STATUS" value="OK"/>'
    path.write_text(VOTABLE.format(before=status, after=status, attributes=' nrows="2"'))
    assert read(path) == [1, 2]
