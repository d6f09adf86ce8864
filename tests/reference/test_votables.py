"""VOTables in all their forms, read in parts, against what astropy reads and writes."""

import gzip
import io
import tracemalloc
import warnings

import numpy as np
import pyarrow as pa
import pytest
from astropy.io.votable import from_table, parse_single_table, writeto
from astropy.table import MaskedColumn, Table

from imaging.errors import InputError
from imaging.io import votable
from imaging.io.source_tables import source_batches

TYPES = {
    "source_id": pa.int64(),
    "ra": pa.float64(),
    "phot_g_mean_mag": pa.float32(),
    "phot_variable_flag": pa.string(),
    "nobs": pa.int64(),
}
FORMS = ("tabledata", "binary", "binary2")
HEAD = '<VOTABLE version="1.4"><RESOURCE><TABLE><FIELD name="ra" datatype="double"/>'


def stars(n=400):
    """Make a table with numbers, texts of fixed and of varying length, and missing values."""
    random = np.random.default_rng(4)
    none = np.arange(n) % 7 == 3
    words = np.array(["NOT_AVAILABLE", "VARIABLE", "CONSTANT"], dtype=object)[np.arange(n) % 3]
    return Table(
        {
            "designation": [f"Gaia DR3 {k * 10**k % 99999937}" for k in range(n)],
            "SOURCE_ID": 2**60 + np.arange(n),
            "unused": random.normal(0.0, 1.0, n),
            "ra": random.uniform(0.0, 360.0, n),
            "phot_g_mean_mag": np.where(none, np.nan, random.uniform(10, 20, n)).astype(np.float32),
            "nobs": MaskedColumn(random.integers(1, 300, n).astype(np.int16), mask=none, fill_value=-99),
            "duplicated": none,
            "phot_variable_flag": words,
        }
    )


def written(path, form, table=None):
    table = stars() if table is None else table
    if form == "binary":  # that form has no place for missing integers without a word for them
        table = table.filled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = from_table(table)
        document.version = "1.4"
        buffer = io.BytesIO()
        writeto(document, buffer, tabledata_format=form)
    text = buffer.getvalue()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "block"), [("s.vot", 1 << 20), ("s.vot.gz", 977), ("s.xml", 61)])
def test_every_form_gives_the_same_whatever_the_size_of_the_blocks(tmp_path, monkeypatch, form, name, block):
    monkeypatch.setattr(votable, "BLOCK_BYTES", block)
    table = pa.concat_tables(source_batches(written(tmp_path / name, form), TYPES))
    truth = stars()
    assert table.schema.types == [TYPES[name] for name in table.column_names]
    assert table.column("source_id").to_pylist() == truth["SOURCE_ID"].tolist()
    assert table.column("ra").to_numpy() == pytest.approx(truth["ra"].data, abs=1e-12)
    assert table.column("phot_variable_flag").to_pylist() == list(truth["phot_variable_flag"])
    missing = np.isnan(truth["phot_g_mean_mag"].data)
    assert table.column("phot_g_mean_mag").is_null().to_numpy().tolist() == missing.tolist()
    if form != "binary":
        assert table.column("nobs").is_null().to_numpy().tolist() == missing.tolist()
    good = table.column("nobs").to_numpy(zero_copy_only=False)[~missing]
    assert good.tolist() == truth["nobs"].data.data[~missing].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_rows_come_in_parts_and_memory_does_not_grow_with_the_table(tmp_path, monkeypatch, form):
    monkeypatch.setattr(votable, "BLOCK_BYTES", 4096)
    monkeypatch.setattr("imaging.io.source_tables.BATCH_ROWS", 120)
    sizes = []
    for n in (500, 2_000):
        path = written(tmp_path / f"{n}.vot", form, stars(n))
        list(source_batches(path, TYPES))  # imports and caches
        peaks = []
        for _ in range(3):  # other threads of the process, such as those of a server's client, allocate memory as well
            tracemalloc.start()
            rows = [batch.num_rows for batch in source_batches(path, TYPES)]
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert sum(rows) == n
            assert max(rows[:-1]) < 240
        sizes.append(min(peaks))
    assert sizes[1] < 1.3 * sizes[0]


def test_a_missing_integer_by_its_word(tmp_path):
    path = tmp_path / "s.vot"
    field = '<FIELD name="nobs" datatype="int"><VALUES null="-99"/></FIELD>'
    cells = "<TR><TD>1.5</TD><TD>-99</TD></TR><TR><TD/><TD>7</TD></TR><TR><TD>2.5</TD></TR>"
    path.write_text(f"{HEAD}{field}<DATA><TABLEDATA>{cells}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>")
    table = pa.concat_tables(source_batches(path, TYPES))
    assert table.column("ra").to_pylist() == [1.5, None, 2.5]
    assert table.column("nobs").to_pylist() == [None, 7, None]


def test_only_the_first_table_counts_and_prefixes_do_not(tmp_path):
    one = "<v:TABLE><v:FIELD name='ra' datatype='double'/><v:DATA><v:TABLEDATA><v:TR><v:TD>{}</v:TD></v:TR>"
    one += "</v:TABLEDATA></v:DATA></v:TABLE>"
    path = tmp_path / "s.vot"
    path.write_text(f"<v:VOTABLE xmlns:v='x'><v:RESOURCE>{one.format(1.5)}{one.format(2.5)}</v:RESOURCE></v:VOTABLE>")
    assert pa.concat_tables(source_batches(path, TYPES)).column("ra").to_pylist() == [1.5]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<DATA><BINARY><STREAM encoding='base64'>P/gAAAAAAAA/</STREAM></BINARY></DATA></TABLE>", "middle of a row"),
        ("<DATA><BINARY><STREAM href='x.bin'/></BINARY></DATA></TABLE>", "in another file"),
        ("<DATA><FITS><STREAM/></FITS></DATA></TABLE>", "give the FITS file"),
        ("<DATA><TABLEDATA><TR><TD>bright</TD></TR></TABLEDATA></DATA></TABLE>", "bright"),
        ("<DATA><TABLEDATA><TR><TD>1.5</TD>", "no valid XML"),
        ("</TABLE>", "no table"),
    ],
)
def test_what_is_damaged_or_not_read_is_said(tmp_path, body, message):
    path = tmp_path / "s.vot"
    path.write_text(f"{HEAD}{body}" + ("</RESOURCE></VOTABLE>" if body.endswith("TABLE>") else ""))
    with pytest.raises(InputError, match=message):
        list(source_batches(path, TYPES))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [1 << 20, 61])
@pytest.mark.parametrize(
    ("place", "info", "message"),
    [
        ("<TABLE", '<INFO name="QUERY_STATUS" value="ERROR">no column\n rra</INFO>', "ERROR: no column rra "),
        ("</RESOURCE", '<INFO name="QUERY_STATUS" value="OVERFLOW"/>', "OVERFLOW "),
        ("</RESOURCE", '<INFO name="QUERY_STATUS" value="overflow">More</INFO>', "OVERFLOW: More "),
    ],
)
def test_an_incomplete_answer_of_an_archive_is_refused(tmp_path, monkeypatch, form, block, place, info, message):
    monkeypatch.setattr(votable, "BLOCK_BYTES", block)
    path = written(tmp_path / "s.vot", form)
    text = path.read_text()
    path.write_text(text.replace("<TABLE", '<INFO name="QUERY_STATUS" value="OK">3 rows</INFO><TABLE', 1))
    assert sum(batch.num_rows for batch in source_batches(path, TYPES)) == 400
    path.write_text(text.replace(place, info + place, 1))
    with pytest.raises(InputError, match=rf"QUERY_STATUS {message}\(.*s\.vot"):
        list(source_batches(path, TYPES))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_anywhere_is_refused(tmp_path, form):
    path = written(tmp_path / "s.vot", form, stars(40))
    whole = path.read_bytes()
    end = whole.index(b"</RESOURCE>") + len(b"</RESOURCE>")
    for size in (*range(1, end, end // 60), end - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"s\.vot"):
            list(source_batches(path, TYPES))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["pyia/gdr2_sm.vot", "astroquery/1710099405832VAL-result.vot"])
def test_the_archives_own_files(real_data, name):
    path = real_data / "gaia" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = parse_single_table(str(path)).to_table()
    table = pa.concat_tables(source_batches(path, TYPES))
    assert table.num_rows == len(truth) > 0
    names = {name.lower(): name for name in truth.colnames}
    for key in table.column_names:
        known = truth[names[key]]
        missing = np.ma.getmaskarray(np.ma.asarray(known))
        if TYPES[key] != pa.string():
            missing = missing | np.isnan(np.ma.filled(np.ma.asarray(known, dtype=float), np.nan))
            wanted = [None if gone else value for gone, value in zip(missing, known.tolist(), strict=True)]
            assert table.column(key).to_pylist() == pytest.approx(wanted), key
        else:
            assert table.column(key).to_pylist() == [str(word) for word in known]
