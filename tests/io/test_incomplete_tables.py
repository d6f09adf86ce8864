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


@pytest.mark.parametrize("ending", ["fits", "parquet", "vot", "xml", "votable"])
def test_identifiers_are_exact_or_refused(tmp_path, ending):
    assert read(write(tmp_path / f"whole.{ending}", GAIA)) == GAIA.tolist()
    assert read(write(tmp_path / f"small.{ending}", SMALL.astype(float))) == SMALL.tolist()
    for name, ids in (("large", GAIA.astype(float)), ("half", np.array([1.0, 2.5]))):
        with pytest.raises(InputError, match="source_id") as caught:
            read(write(tmp_path / f"{name}.{ending}", ids))
        assert "rounded" in str(caught.value) and "64-bit integer" in str(caught.value)


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
