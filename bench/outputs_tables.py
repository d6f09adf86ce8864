"""Tables of a processed night as pyarrow, astropy, pandas, polars, DuckDB, STILTS and text readers see them."""

import importlib
import importlib.util
import io
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import votable
from astropy.table import Table
from astropy.utils.metadata import MergeConflictWarning
from astropy_healpix import HEALPix

from bench.outputs_night import ProcessedNight
from bench.report import Row, at_most, none_wrong
from imaging.schemas.fields import NO_ID

STILTS = shutil.which("stilts")
GAIA_DIGITS = 19

Columns = Mapping[str, np.ndarray]


def table_rows(night: ProcessedNight) -> list[Row]:
    """Check values, units, meanings and identifiers of all tables of the night."""
    paths = [*night.files("*.parquet"), *sorted(night.folder.glob("*.parquet"))]
    rows = [row for name in READERS for row in _reader_rows(name, paths, night)]
    return [
        *rows,
        none_wrong("columns without a unit or meaning that astropy reads", list(_undescribed(paths))),
        none_wrong(
            "tables that astropy reads differently by their VOTable", [not _is_voparquet(path) for path in paths]
        ),
        _votlint(paths, night.scratch),
        *_list_rows(night),
        *_searched_rows(night),
    ]


def _astropy(path: Path) -> Columns:
    table = Table.read(path)
    return {name: np.asarray(table[name]) for name in table.colnames}


def _pandas(path: Path) -> Columns:
    frame = importlib.import_module("pandas").read_parquet(path)
    return {name: frame[name].to_numpy() for name in frame.columns}


def _polars(path: Path) -> Columns:
    frame = importlib.import_module("polars").read_parquet(path)
    return {name: np.asarray(frame[name].to_numpy()) for name in frame.columns}


def _duckdb(path: Path) -> Columns:
    columns = importlib.import_module("duckdb").sql(f"select * from read_parquet('{path}')").fetchnumpy()
    return {name: found.astype(float).filled(np.nan) if _has_nulls(found) else found for name, found in columns.items()}


def _has_nulls(values: np.ndarray) -> bool:
    return values.dtype.kind in "fiu" and bool(np.ma.is_masked(values))


READERS: dict[str, Callable[[Path], Columns]] = {
    "astropy": _astropy,
    "pandas": _pandas,
    "polars": _polars,
    "duckdb": _duckdb,
}
"""Package to the function that reads a Parquet file with it."""


def _reader_rows(name: str, paths: list[Path], night: ProcessedNight) -> list[Row]:
    """Return how many columns of numbers, and how many identifiers, a reader gets wrong."""
    what = f"columns of numbers that {name} reads differently"
    if importlib.util.find_spec(name) is None:
        return [Row(f"{what}: {name} is absent", None, "")]
    wrong = []
    for path in paths:
        found, table = READERS[name](path), pq.read_table(path)
        for field in table.schema:
            if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
                expected = table.column(field.name).to_numpy()
                wrong.append(not np.array_equal(found[field.name], expected, equal_nan=expected.dtype.kind == "f"))
    candidates = night.folder / "candidates.parquet"
    expected = pq.read_table(candidates).column("gaia_source_id").to_pylist()
    ids = [int(value) for value in READERS[name](candidates)["gaia_source_id"]]
    known = [value for value in ids if value != NO_ID]
    return [
        none_wrong(what, wrong),
        none_wrong(
            f"identifiers of Gaia that {name} does not read with {GAIA_DIGITS} digits",
            [len(str(value)) != GAIA_DIGITS for value in known] + [a != b for a, b in zip(ids, expected, strict=True)],
        ),
    ]


def _undescribed(paths: list[Path]) -> Iterator[bool]:
    """Yield for each column whether astropy finds no description, or a unit of the schema is lost."""
    for path in paths:
        table = Table.read(path)
        for field in pq.read_schema(path):
            unit = (field.metadata or {}).get(b"unit", b"").decode()
            expected = u.Unit(unit, parse_strict="raise") if unit else None
            yield table[field.name].unit != expected or not table[field.name].description


def _is_voparquet(path: Path) -> bool:
    """Whether astropy reads a table by its VOTable, with the values of Parquet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MergeConflictWarning)  # VOUnits has no electrons
        table = Table.read(path, format="parquet.votable")
    expected = pq.read_table(path)
    numbers = [f.name for f in expected.schema if pa.types.is_integer(f.type)]
    return table.colnames == expected.column_names and all(
        np.array_equal(np.asarray(table[n]), expected.column(n).to_numpy(), equal_nan=True)
        for n in numbers
        if expected.column(n).null_count == 0
    )


def _votlint(paths: list[Path], scratch: Path) -> Row:
    """Return the number of VOTables in which STILTS finds errors."""
    name = "VOTables of Parquet files with errors by STILTS votlint"
    if STILTS is None:
        return Row(f"{name}: STILTS is absent", None, "")
    scratch.mkdir(parents=True, exist_ok=True)
    kinds = {path.name.rpartition("_")[2]: path for path in paths}
    wrong = []
    for kind, path in sorted(kinds.items()):
        content = pq.ParquetFile(path).metadata.metadata[b"IVOA.VOTable-Parquet.content"]
        votable.parse(io.BytesIO(content), verify="exception")
        target = scratch / f"{kind}.xml"
        target.write_bytes(content)
        run = subprocess.run([STILTS, "votlint", str(target)], capture_output=True, text=True, check=False)
        wrong.append("ERROR" in run.stdout + run.stderr or run.returncode != 0)
    return none_wrong(name, wrong)


def _list_rows(night: ProcessedNight) -> list[Row]:
    """Compare the forms of the ranked list: Parquet, CSV, page and regions."""
    table = pq.read_table(night.folder / "candidates.parquet")
    frame = importlib.import_module("pandas").read_csv(night.folder / "candidates.csv")
    wrong = []
    for field in table.schema:
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            expected = table.column(field.name).to_numpy()
            found = frame[field.name].to_numpy().astype(expected.dtype)
            wrong.append(not np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f"))
    page = (night.folder / "candidates.html").read_text(encoding="utf-8")
    names = table.column("candidate_id").to_pylist()
    regions = "".join(path.read_text() for path in sorted((night.folder / "regions").glob("*.reg")))
    return [
        none_wrong("columns that differ between Parquet and CSV", wrong),
        none_wrong("candidates that are missing on the page", [json.dumps(name) not in page for name in names]),
        none_wrong("candidates without a region", [f"tag={{{name}}}" not in regions for name in names]),
    ]


def _searched_rows(night: ProcessedNight) -> list[Row]:
    """Check the grid of the searched area from what its file says."""
    table = Table.read(night.folder / "searched.parquet")
    grid = HEALPix(nside=2 ** int(table.meta["ORDER"]), order=table.meta["ORDERING"].lower())
    lon, lat = grid.healpix_to_lonlat(np.asarray(table["healpix"]))
    off = max(np.abs(lon.deg - table["ra"]).max(), np.abs(lat.deg - table["dec"]).max()) * 3.6e6
    return [at_most("centres of the searched pixels by the order in their file", float(off), "mas", 0.01, n=len(table))]
