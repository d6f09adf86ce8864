"""Read text without a line of column names: columns between blanks, or of fixed width."""

import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from imaging.reference.surveys import TextLayout

BLOCK_BYTES = 1 << 24
"""Bytes of text parsed at once."""

NULL_WORDS = [
    "", "null", "NULL", "nan", "NaN", "-", "--", "None", "none", "N/A", "n/a", "masked", "\\N"
]  # fmt: skip
"""What stands for an unknown value in text."""

RADIANS = r"rad(?:ians?)?"
DEGREES = r"deg(?:rees?)?"
HOURS = r"h(?:rs?|ours?|ourangle)?"
OTHER_MOTIONS = rf"(?:\"|as|arcsec(?:onds?)?|{DEGREES}|{RADIANS}|s)(?:[/.]|per)?(?:yr|a|year|cy)(?:-1)?"
OTHER_UNITS = re.compile(rf"{RADIANS}|{HOURS}|{OTHER_MOTIONS}|[kg]?pc|km[/.]?s(?:-1)?|mmag|[m\u03bcu\u00b5]?jy")
"""Units that no catalogue read here has: angles that are not degrees, motions not in mas per year, distances not in
Mpc, velocities, fluxes not in nanojansky or nanomaggies."""
OTHER_THAN_RADIANS = re.compile(rf"{DEGREES}|{HOURS}")

BLANKS = re.compile(rb"[ \t\r]+")
EDGES = re.compile(rb"(?m)^ | $")


def plain_batches(
    stream: IO[bytes], types: Mapping[str, pa.DataType], layout: TextLayout, null_words: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the requested columns of text without names, some megabytes at a time.

    Parameters
    ----------
    stream
        The text.
    types
        Requested columns and their types.
    layout
        Names, or bytes, of the columns.
    null_words
        Words for a missing value.

    Raises
    ------
    ValueError
        If a line has another number of columns, or a value is not of its type.
    """
    for block in blocks_of_lines(stream):
        if layout.bytes_of:
            columns = fixed_width(block, {n: place for n, place in layout.bytes_of.items() if n in types})
            yield pa.table({name: _typed(values, types[name]) for name, values in columns.items()})
        else:
            yield _between_blanks(block, types, layout.names, null_words)


def requested(names: Sequence[str], types: Mapping[str, pa.DataType]) -> dict[int, str]:
    """Return the number of each requested column to its lower-case name.

    Of several names that differ by case only, one with small letters counts: VizieR's ``Bmag`` is an apparent
    magnitude, its ``BMAG`` an absolute one.

    Raises
    ------
    ValueError
        If no column is requested, or two of them have the same name.
    """
    repeated = [name for name in names if name.lower() in types and names.count(name) > 1]
    if repeated:
        raise ValueError(f"two columns have the name {repeated[0]}")
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        if name.lower() in types and (name.lower() not in found or names[found[name.lower()]].isupper()):
            found[name.lower()] = number
    if not found:
        raise ValueError("none of the requested columns")
    return {number: name for name, number in sorted(found.items(), key=lambda item: item[1])}


def require_units(units: Mapping[str, str], types: Mapping[str, pa.DataType], radians: Collection[str] = ()) -> None:
    """Raise if a column of numbers is in another unit than those of all catalogues read here.

    Parameters
    ----------
    units
        Requested columns and what the file states as their units; empty if nothing.
    types
        Requested columns and their types.
    radians
        Columns that are read as radians.

    Raises
    ------
    ValueError
        With column and unit.
    """
    for name, unit in units.items():
        plain = unit.lower().translate({ord(mark): None for mark in " '*^()"})
        others = OTHER_THAN_RADIANS if name in radians else OTHER_UNITS
        if pa.types.is_floating(types[name]) and others.fullmatch(plain):
            wanted = "radians" if name in radians else "degrees, mas/yr, Mpc, mag or nJy"
            raise ValueError(f"the column {name} is in {unit}, not in {wanted}")


def blocks_of_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield blocks of whole lines; empty lines at the end of a block are kept."""
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
    if rest.strip():
        yield rest + b"\n"


def fixed_width(block: bytes, places: Mapping[str, tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """Return the columns of fixed-width lines as stripped texts.

    Parameters
    ----------
    block
        Whole lines; empty ones are skipped.
    places
        Name to first and last byte, counted from 1.

    Raises
    ------
    ValueError
        If a line is shorter than the first byte of the last column.
    """
    lines = [line for line in block.splitlines() if line.strip()]
    last = max(end for _, end in places.values())
    shortest = min(map(len, lines), default=last)
    if shortest < max(start for start, _ in places.values()):
        raise ValueError(f"a line has {shortest} bytes, fewer than the layout")
    grid = np.array(lines, dtype=f"S{last}").view("S1").reshape(len(lines), last)
    return {
        name: np.char.strip(np.ascontiguousarray(grid[:, start - 1 : end]).view(f"S{end - start + 1}")[:, 0])
        for name, (start, end) in places.items()
    }


def _typed(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return texts in their type; empty ones are null."""
    texts = np.char.decode(values, "utf-8", "replace")
    array = pa.array(texts.astype(object), type=pa.string(), mask=texts == "")
    return array if pa.types.is_string(kind) else array.cast(kind)


def _between_blanks(
    block: bytes, types: Mapping[str, pa.DataType], names: Sequence[str], null_words: Sequence[str]
) -> pa.Table:
    text = EDGES.sub(b"", BLANKS.sub(b" ", block))
    wanted = [name for name in names if name in types]
    return pacsv.read_csv(
        io.BytesIO(text),
        read_options=pacsv.ReadOptions(column_names=list(names), use_threads=False, block_size=max(len(text), 1)),
        parse_options=pacsv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pacsv.ConvertOptions(
            include_columns=wanted,
            column_types={name: types[name] for name in wanted},
            null_values=list(null_words),
            strings_can_be_null=True,
        ),
    )
