"""Read source tables of archives in batches: text, FITS, VOTable or Parquet, compressed or not.

Only requested columns are converted; names are matched case-insensitively. Empty fields and the words of
:data:`imaging.io.plain_columns.NULL_WORDS` are missing values. At most a few batches are in memory.
"""

import gzip
import itertools
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from imaging.errors import InputError
from imaging.io.plain_columns import NULL_WORDS, plain_batches, requested, require_units
from imaging.io.votable import exact_integers, votable_batches
from imaging.reference.surveys import TextLayout

BLOCK_BYTES = 1 << 24
"""Bytes of text parsed at once."""
BATCH_ROWS = 200_000
"""Rows of other formats read at once."""
TEXT, FITS = (".csv", ".ecsv", ".tsv", ".txt", ".dat"), (".fits", ".fit")
VOTABLE, PARQUET = (".vot", ".xml", ".votable"), (".parquet",)
PREAMBLE_LINES = 3
"""Most lines of text before the line of column names: the TNS states the period of its list in one."""
FORMATS = (*TEXT, *FITS, *VOTABLE, *PARQUET)
"""Supported file name endings; ``.gz`` may follow those of text, FITS and VOTable, ``.zip`` those of text."""

gzip_reader: ModuleType = gzip
GzipError: Any = zlib.error
with suppress(ImportError):
    from isal import igzip, igzip_lib

    gzip_reader, GzipError = igzip, igzip_lib.IsalError

DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,  # an encrypted member of an archive
    pa.ArrowException,
    GzipError,
    zlib.error,
    zipfile.BadZipFile,
)


def format_of(path: Path) -> str | None:
    """Return the file name ending without ``.gz`` or ``.zip``; None if it is not in :data:`FORMATS`."""
    name = path.name.lower()
    possible = TEXT if name.endswith(".zip") else FORMATS
    return next((ending for ending in possible if name.removesuffix(".gz").removesuffix(".zip").endswith(ending)), None)


def source_batches(
    path: Path,
    types: Mapping[str, pa.DataType],
    layout: TextLayout | None = None,
    radians: Collection[str] = (),
) -> Iterator[pa.Table]:
    """Read the requested columns of a table.

    Parameters
    ----------
    path
        The file.
    types
        Requested columns, lower case, and their types; missing ones are omitted.
    layout
        Layout of text that has no line of column names.
    radians
        Columns that are read as radians; all other angles are in degrees.

    Yields
    ------
    batch
        Lower-case names, in the order of the file.

    Raises
    ------
    InputError
        If the format is not known or the file is damaged or missing.
    """
    ending = format_of(path)
    if ending is None:
        raise InputError("format of a table not known", value=path.name, limit=", ".join(FORMATS))
    reader = {TEXT: _text, FITS: _fits, VOTABLE: _votable}
    read = next((function for endings, function in reader.items() if ending in endings), None)
    try:
        if layout is not None and ending in TEXT and not _has_names(path, types):
            with opened(path) as stream:
                yield from plain_batches(stream, types, layout, NULL_WORDS)
        elif read is not None:
            yield from read(path, types, radians)
        else:
            yield from _parquet(path, types)
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"table missing or damaged: {reason}", value=path, remedy="fetch or correct it") from error


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressing; ISA-L, if installed, is three times as fast as zlib."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) != 1:
                found = ", ".join(member.filename for member in members[:5]) or "none"
                raise InputError("archive of several files", value=f"{path}: {found}", limit="one", remedy="unpack it")
            with archive.open(members[0]) as stream:
                yield stream
        return
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as stream:
            yield stream
        return
    with gzip_reader.open(path, "rb") as stream:
        yield stream


def _text(path: Path, types: Mapping[str, pa.DataType], radians: Collection[str]) -> Iterator[pa.Table]:
    """Read text; integers that are written as floating-point numbers are read as such and must be exact."""
    with opened(path) as stream:
        units = dict(_units_of_ecsv(stream))
    with opened(path) as stream:
        n_comments, delimiter, names = _head(stream, types)
        n_units = _lines_of_units(stream)
    stated = {n: units.get(names[number], "") for number, n in requested(names, types).items()}
    require_units(stated, types, radians)
    rows = pacsv.ReadOptions(
        skip_rows=n_comments, skip_rows_after_names=n_units, block_size=BLOCK_BYTES, use_threads=False
    )
    wanted = {names[number]: name for number, name in requested(names, types).items()}
    read, first = dict(types), True
    while True:
        try:
            for table in _text_batches(path, wanted, read, rows, delimiter):
                first = False
                columns = {n: _typed(table.column(n), types[n], n) for n in table.column_names}
                yield pa.table(columns)
        except pa.ArrowInvalid as error:
            if not first or "conversion error to int" not in str(error) or read != types:
                raise
            read = {name: pa.float64() if pa.types.is_integer(kind) else kind for name, kind in types.items()}
        else:
            return


def _text_batches(
    path: Path, wanted: Mapping[str, str], types: Mapping[str, pa.DataType], rows: pacsv.ReadOptions, delimiter: str
) -> Iterator[pa.Table]:
    convert = pacsv.ConvertOptions(
        include_columns=list(wanted),
        column_types={original: types[name] for original, name in wanted.items()},
        null_values=NULL_WORDS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    with opened(path) as stream:
        batches = pacsv.open_csv(
            stream,
            read_options=rows,
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=convert,
        )
        for batch in batches:
            yield pa.Table.from_batches([batch]).rename_columns([wanted[name] for name in batch.schema.names])


def _typed(values: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    """Return a column in its type; integers that were stored as floating-point numbers must be exact."""
    if values.type == kind:
        return values
    if pa.types.is_integer(kind) and pa.types.is_floating(values.type):
        return exact_integers(values, name).cast(kind)
    return values.cast(kind)


def _has_names(path: Path, types: Mapping[str, pa.DataType]) -> bool:
    """Whether a text begins with a line of column names, two of the requested ones among them."""
    with opened(path) as stream:
        _, _, names = _head(stream, types)
    return len({name.lower() for name in names} & types.keys()) > 1


def _head(stream: IO[bytes], types: Mapping[str, pa.DataType]) -> tuple[int, str, list[str]]:
    """Return number of lines before the names, delimiter and column names of a text table, ECSV or plain.

    Up to :data:`PREAMBLE_LINES` lines without any requested name may precede the names.
    """
    count, delimiter, first = 0, "", None
    for raw in stream:
        line = raw.decode("utf-8-sig" if count == 0 else "utf-8", errors="replace").rstrip("\r\n")
        if line.startswith("#"):
            count += 1
            if line.startswith("# delimiter:"):
                delimiter = line.partition(":")[2].strip().strip("'\"") or " "
            continue
        between = delimiter or next((mark for mark in ",;\t" if mark in line), " " if count else ",")
        head = count, between, [name.strip().strip('"') for name in line.split(between)]
        if types.keys() & {name.lower() for name in head[2]}:
            return head
        first = first or head
        count += 1
        if count > first[0] + PREAMBLE_LINES:
            break
    if first is None:
        raise ValueError("the table has no line of column names")
    return first


def _units_of_ecsv(stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield names and units of columns in the header of an ECSV table (Astropy Proposal for Enhancement 6)."""
    for line in itertools.takewhile(lambda line: line.startswith(b"#"), stream):
        match = re.search(r"\{name: ([^,}]+), unit: ([^,}]+)", line.decode("utf-8", errors="replace"))
        if match:
            yield match[1].strip("'\""), match[2].strip("'\"")


def _lines_of_units(stream: IO[bytes]) -> int:
    """Return how many lines after the names hold units and a rule of dashes, as in VizieR's text."""
    lines = [stream.readline().strip() for _ in range(2)]
    return next((n for n in (1, 2) if lines[n - 1] and not lines[n - 1].strip(b"-\t ;,")), 0)


def _fits(path: Path, types: Mapping[str, pa.DataType], radians: Collection[str]) -> Iterator[pa.Table]:
    import fitsio
    from astropy.io import fits

    with fitsio.FITS(str(path)) as file, ExitStack() as stack:
        table = next((hdu for hdu in file if hdu.get_exttype() == "BINARY_TBL"), None)
        if table is None:
            raise ValueError("the file contains no binary table")
        names, header = table.get_colnames(), table.read_header()
        wanted = requested(names, types)
        require_units({name: str(header.get(f"TUNIT{n + 1}") or "") for n, name in wanted.items()}, types, radians)
        nulls = {name: _null_of(header, n + 1) for n, name in wanted.items()}
        scaled = None
        if any(f"TSCAL{n + 1}" in header for n in wanted):  # fitsio 1.4 takes the stored integers for real numbers
            scaled = stack.enter_context(fits.open(path))[table.get_extnum()].data
        for first in range(0, table.get_nrows(), BATCH_ROWS):
            last = min(first + BATCH_ROWS, table.get_nrows())
            if scaled is None:
                rows = table.read(columns=list(wanted), rows=np.arange(first, last))
            else:
                rows = scaled[first:last]
            yield pa.table({name: _array(rows[names[n]], types[name], name, nulls[name]) for n, name in wanted.items()})


def _null_of(header: Mapping[str, Any], number: int) -> float | None:
    """Return the value for none of a column of integers as it is read (FITS standard 4.0, section 7.3.2)."""
    null, scale, zero = (header.get(f"{key}{number}") for key in ("TNULL", "TSCAL", "TZERO"))
    if null is None or (scale is None and zero is None):
        return null
    return null * (1 if scale is None else scale) + (zero or 0)


def _votable(path: Path, types: Mapping[str, pa.DataType], radians: Collection[str]) -> Iterator[pa.Table]:
    with opened(path) as stream:
        yield from votable_batches(stream, types, NULL_WORDS, BATCH_ROWS, radians)


def _parquet(path: Path, types: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        wanted = {names[number]: name for number, name in requested(names, types).items()}
        for batch in file.iter_batches(BATCH_ROWS, columns=list(wanted), use_threads=False):
            table = pa.Table.from_batches([batch])
            yield pa.table(
                {name: _typed(table.column(original), types[name], name) for original, name in wanted.items()}
            )


def _array(values: np.ndarray[Any, Any], kind: pa.DataType, name: str, null: float | None) -> pa.Array:
    """Convert a FITS column to Arrow; NaN and the column's value for none become null."""
    if pa.types.is_string(kind):
        words = [w.decode("ascii", "replace") if isinstance(w, bytes) else str(w) for w in values]
        return pa.array([word.strip() for word in words], pa.string())
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    floating = native.dtype.kind == "f"
    missing = np.isnan(native) if floating else np.zeros(native.shape, dtype=np.bool_)
    if null is not None:
        missing |= np.isclose(native, null, rtol=1e-6, atol=0.0) if floating else native == null
    array = pa.array(native, mask=missing)
    return exact_integers(array, name) if floating and pa.types.is_integer(kind) else array.cast(kind)
