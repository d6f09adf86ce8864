"""Tables as DuckDB, pandas and Arrow read them, and texts as other programs read them."""

import csv
import io
import json
import re

import duckdb
import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.units import Unit
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import feather

from imaging.candidates.lightcurve import LightcurveLikelihood
from imaging.candidates.packets import packet_schema
from imaging.errors import InputError, StorageError
from imaging.io import astropy_tables
from imaging.io.candidates import (
    PROVENANCE,
    read_candidates,
    read_labels,
    write_candidates,
    write_candidates_csv,
)
from imaging.io.lightcurve_likelihood import read_lightcurve_likelihood, write_lightcurve_likelihood
from imaging.io.original_tables import write_csv
from imaging.io.packets import packets_bytes, read_packets
from imaging.io.regions import region_text, write_ccd_regions
from imaging.io.sheets import sheet
from imaging.io.tables import read_table, read_tables, write_table
from imaging.schemas.candidates import CANDIDATES, CandidateFlag
from imaging.schemas.fields import NO_ID
from imaging.skymap.footprints import Footprints
from imaging.tables import column, make_table

FIRST = (1300001 * 100 + 27) * 100_000
"""Number before the first detection of a CCD."""

GAIA = 4657193606465368705
"""An identifier of Gaia DR3; as a floating-point number it ends in 9088."""

FAST = settings(max_examples=30, deadline=None, derandomize=True, database=None)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("flux", pa.float32()),
        ("mjd", pa.float64()),
        ("name", pa.string()),
        ("ok", pa.bool_()),
        ("three", pa.list_(pa.float32(), 3)),
        ("ids", pa.list_(pa.int64())),
    ]
)
ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(width=32, allow_nan=False),
        st.floats(allow_nan=False),
        st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        st.booleans(),
        st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
        st.none() | st.lists(st.integers(0, 9), max_size=3),
    ),
    max_size=6,
)


@FAST
@given(ROWS)
def test_a_table_holds_the_same_values_for_every_reader(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "t.parquet"
    names = SCHEMA.names
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    write_table(path, make_table(columns, SCHEMA))
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    assert read_table(path).to_pylist() == expected
    found = duckdb.sql(f"select * from read_parquet('{path}')").fetchall()
    assert [
        {n: list(v) if isinstance(v, tuple) else v for n, v in zip(names, r, strict=True)} for r in found
    ] == expected
    frame = pd.read_parquet(path, columns=["id", "mjd"])
    assert frame["id"].tolist() == columns["id"] and frame["mjd"].tolist() == columns["mjd"]


def test_floats_are_split_by_byte_and_text_is_kept_in_a_dictionary(tmp_path):
    rng, n = np.random.default_rng(4), 5000
    columns = {"id": np.arange(n), "flux": rng.normal(size=n), "mjd": rng.normal(size=n), "name": ["i"] * n}
    columns |= {"ok": [True] * n, "three": rng.normal(size=(n, 3)), "ids": [[1, 2]] * n}
    table = make_table(columns, SCHEMA)
    write_table(tmp_path / "t.parquet", table)
    group = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    about = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    assert {c.compression for c in about.values()} == {"ZSTD"}
    for name in ("flux", "mjd"):
        assert "BYTE_STREAM_SPLIT" in about[name].encodings and not about[name].has_dictionary_page
    assert about["name"].has_dictionary_page and about["name"].total_compressed_size < 200
    values = column(read_table(tmp_path / "t.parquet", ["three", "flux"]), "three")
    assert values.shape == (n, 3) and np.array_equal(values, columns["three"].astype(np.float32))
    total = duckdb.sql(f"select sum(mjd), count(*) from '{tmp_path / 't.parquet'}'").fetchall()
    assert total == [(pytest.approx(columns["mjd"].sum(), abs=1e-9), n)]


def test_several_tables_join_in_their_order_with_the_columns_of_the_schema(tmp_path):
    schema = pa.schema([("a", pa.int64()), ("b", pa.float32())])
    for k in range(3):
        write_table(
            tmp_path / f"{k}.parquet", pa.table({"b": [0.5 * k], "extra": ["x"], "a": pa.array([k], pa.int32())})
        )
    joined = read_tables([tmp_path / f"{k}.parquet" for k in (2, 0, 1)], schema)
    assert joined.schema == schema and joined.to_pydict() == {"a": [2, 0, 1], "b": [1.0, 0.0, 0.5]}
    assert read_tables([], schema).schema == schema
    with pytest.raises(ValueError, match=r"unknown \['c'\]"):
        make_table({"a": [1], "b": [1.0], "c": [1]}, schema)
    empty = pa.table({"a": pa.chunked_array([], pa.int64())})
    assert column(empty, "a").shape == (0,)


def candidates(n=4):
    """Return candidates with the ranks 1, 11, 2, none and flags of all kinds."""
    rows = []
    flags = [0, 0, int(CandidateFlag.MOVER | CandidateFlag.NEGATIVE), int(CandidateFlag.NEAR_STAR)]
    for k in range(n):
        row = dict.fromkeys(CANDIDATES.names)
        row |= {"candidate_id": f"GWJ{k}", "rank": (1, 11, 2, None)[k], "rank_score": (3.25, -1.0, 0.5, None)[k]}
        row |= {"ra": 10.0 + 0.1 * k, "dec": -5.0, "flags": flags[k], "detection_ids": [FIRST + k, FIRST + k + 10]}
        row["mag_first"] = 20.5
        row["gaia_source_id"] = GAIA if k == 1 else NO_ID
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def test_candidates_are_a_table_for_pandas_and_duckdb(tmp_path):
    table = candidates()
    write_candidates(tmp_path / "c.parquet", table.select(CANDIDATES.names[::-1]))
    assert read_candidates(tmp_path / "c.parquet").equals(table)
    write_candidates_csv(tmp_path / "c.csv", table)
    frame = pd.read_csv(tmp_path / "c.csv")
    assert frame.columns.tolist() == [*CANDIDATES.names, "flag_names"]
    assert frame["detection_ids"].tolist() == [f"{FIRST + k};{FIRST + k + 10}" for k in range(4)]
    assert frame["flag_names"].fillna("").tolist() == ["", "", "MOVER;NEGATIVE", "NEAR_STAR"]
    assert frame["rank_score"].isna().tolist() == [False, False, False, True]
    for read in (frame, pd.read_parquet(tmp_path / "c.parquet"), Table.read(tmp_path / "c.parquet")):
        assert [int(value) for value in read["gaia_source_id"]] == [NO_ID, GAIA, NO_ID, NO_ID]
    query = f"select candidate_id from read_csv('{tmp_path / 'c.csv'}') where rank <= 10 order by rank desc"
    assert duckdb.sql(query).fetchall() == [("GWJ2",), ("GWJ0",)]
    old = table.drop_columns(list(PROVENANCE))
    ids = old.schema.get_field_index("gaia_source_id")
    nulls = pa.array([None, GAIA, None, None], pa.int64())
    write_table(tmp_path / "old.parquet", old.set_column(ids, "gaia_source_id", nulls))
    assert read_candidates(tmp_path / "old.parquet").equals(table)


@pytest.mark.parametrize("suffix", astropy_tables.FORMATS)
def test_candidates_are_a_table_for_astropy_with_units_and_meanings(tmp_path, suffix):
    table = candidates()
    path, again = tmp_path / f"c{suffix}", tmp_path / f"again{suffix}"
    astropy_tables.write_candidates(path, table)
    astropy_tables.write_candidates(again, table)
    assert path.read_bytes() == again.read_bytes()
    found = Table.read(path)
    assert found.colnames == CANDIDATES.names
    assert [int(value) for value in found["gaia_source_id"]] == [NO_ID, GAIA, NO_ID, NO_ID]
    assert np.isnan(np.asarray(found["rank_score"], dtype=float)).tolist() == [False, False, False, True]
    for field in CANDIDATES:
        about = {key.decode(): value.decode() for key, value in field.metadata.items()}
        unit = found[field.name].unit
        assert (unit or Unit("")) == Unit(about["unit"]), field.name
        assert " ".join(found[field.name].description.split()).startswith(about["meaning"]), field.name
    assert [str(text) for text in found["detection_ids"]] == [f"{FIRST + k};{FIRST + k + 10}" for k in range(4)]
    if suffix == ".fits":
        header = fits.getheader(path, "CANDIDATES")
        place = CANDIDATES.names.index("ra") + 1
        assert (header[f"TUNIT{place}"], header[f"TCOMM{place}"]) == ("deg", "right ascension, ICRS")


def test_regions_are_circles_of_three_seconds_in_the_colour_of_their_worth(tmp_path):
    pattern = r"circle\((.*),(.*),(.*)\"\) # color=(\w+) text=\{(.*)\} tag=\{(.*)\}"
    lines = region_text(candidates()).splitlines()
    assert lines[2] == "icrs" and len(lines) == 7
    found = [re.fullmatch(pattern, line).groups() for line in lines[3:]]
    assert [(float(ra), float(dec), float(r)) for ra, dec, r, *_ in found] == [
        (pytest.approx(10.0 + 0.1 * k, abs=1e-7), -5.0, 3.0) for k in range(4)
    ]
    assert [row[3] for row in found] == ["green", "yellow", "red", "yellow"]
    assert [row[4] for row in found] == ["1 3.2", "11 -1.0", "2 0.5", "GWJ3"]
    square = np.array([[(10.05, -5.1), (10.25, -5.1), (10.25, -4.9), (10.05, -4.9)]])
    places = Footprints(np.array([77]), np.array([5]), np.array(["g"]), np.array([6e4]), square, np.array([23.0]))
    (path,) = write_ccd_regions(tmp_path, candidates(), places)
    assert path.name == "D00000077_g_05_candidates.reg"
    assert re.findall(r"tag=\{(.*)\}", path.read_text()) == ["GWJ1", "GWJ2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "other"}, "contains no labels"),
        ({"label": "maybe"}, "unknown labels.*maybe"),
        ({"night": "soon"}, "cannot be read"),
    ],
)
def test_labels_are_read_as_saved_and_others_refused(tmp_path, change, words):
    row = {"candidate_id": "GWJ1", "label": "bogus", "marked_at": "2024-05-10T01:02:03Z"}
    row["detection_ids"] = [str(FIRST + 3), FIRST + 4]
    document = {
        "kind": "gw-workflow labels",
        "night": "20240510",
        "event": "S1",
        "labels": [row, row | {"label": "real"}],
    }
    (tmp_path / "l.json").write_text(json.dumps(document))
    found = read_labels(tmp_path / "l.json").to_pylist()
    assert [r["label"] for r in found] == ["bogus", "real"]
    assert found[0] | {"label": ""} == row | {
        "night": 20240510,
        "event": "S1",
        "label": "",
        "detection_ids": [FIRST + 3, FIRST + 4],
    }
    document |= {k: v for k, v in change.items() if k != "label"}
    document["labels"] = [row | {k: v for k, v in change.items() if k == "label"}]
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=words):
        read_labels(tmp_path / "bad.json")


def test_comma_separated_text_keeps_commas_quotes_and_lines_and_leaves_the_unknown_empty(tmp_path):
    rows = [{"a": 1, "b": 'x,"y"\nz', "c": None}, {"a": 2, "b": "plain", "c": 0.5}]
    write_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["a", "b", "c"], ["1", 'x,"y"\nz', ""], ["2", "plain", "0.5"]]
    write_csv(tmp_path / "b.csv", pa.Table.from_pylist(rows))
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_judged_light_curves_are_columns_that_pandas_reads_and_belong_to_their_key(tmp_path):
    rng = np.random.default_rng(1)
    parts = (
        np.linspace(30, 36, 7),
        rng.normal(size=(5, 7)).astype(np.float32),
        rng.normal(size=(5, 4)).astype(np.float32),
    )
    flags = np.arange(5) > 2
    likelihood = LightcurveLikelihood(*parts, *rng.normal(size=(2, 5)), np.arange(5), rng.normal(size=5), flags)
    write_lightcurve_likelihood(tmp_path / "e.arrow", likelihood, "key-1")
    frame = pd.read_feather(tmp_path / "e.arrow")
    assert np.array_equal(np.stack(frame["rivals"]), likelihood.rivals) and frame["n_after"].tolist() == [0, 1, 2, 3, 4]
    again = read_lightcurve_likelihood(tmp_path / "e.arrow", "key-1")
    for name in LightcurveLikelihood.__annotations__:
        assert np.array_equal(getattr(again, name), getattr(likelihood, name)), name
        assert getattr(again, name).dtype == getattr(likelihood, name).dtype
    assert read_lightcurve_likelihood(tmp_path / "e.arrow", "key-2") is None
    feather.write_feather(feather.read_table(tmp_path / "e.arrow").drop_columns("history"), tmp_path / "f.arrow")
    with pytest.raises(StorageError, match=r"f\.arrow"):
        read_lightcurve_likelihood(tmp_path / "f.arrow", "key-1")


def test_packets_are_an_avro_container_for_any_reader(tmp_path):
    row = candidates(1).to_pylist()[0]
    packet = {"schemavsn": "1", "publisher": "p", "objectId": "GWJ0", "candid": 2**40, "event": "S1", "candidate": row}
    packet |= {"prv_candidates": [], "cutoutScience": None, "cutoutTemplate": None}
    packet |= {"cutoutDifference": {"fileName": "d.fits.gz", "stampData": b"\1\2"}}
    content = packets_bytes([packet, packet])
    reader = fastavro.reader(io.BytesIO(content))
    found = list(reader)
    assert len(found) == 2 and found[0]["candid"] == 2**40 and found[0]["cutoutDifference"]["stampData"] == b"\1\2"
    assert reader.codec == "deflate" and reader.writer_schema["name"].endswith("alert")
    assert {f["name"] for f in reader.writer_schema["fields"]} == {f["name"] for f in packet_schema()["fields"]}
    (tmp_path / "p.avro").write_bytes(content)
    assert read_packets(tmp_path / "p.avro") == found
    assert content == packets_bytes([packet, packet])


def test_pictures_stand_below_each_other_in_the_middle():
    encoded = []
    for size, colour in (((10, 4), (255, 0, 0)), ((4, 6), (0, 0, 255))):
        encoded.append(io.BytesIO())
        Image.new("RGB", size, colour).save(encoded[-1], "PNG")
    together = Image.open(io.BytesIO(sheet([stream.getvalue() for stream in encoded]))).convert("RGB")
    pixels = np.asarray(together)
    assert pixels.shape == (10, 10, 3) and np.all(pixels[:4] == (255, 0, 0))
    assert np.all(pixels[4:, 3:7] == (0, 0, 255)) and np.all(pixels[4:, :3] == 255) and np.all(pixels[4:, 7:] == 255)
