"""Read orbits of the Minor Planet Center, and keep them in a site."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from imaging.errors import InputError
from imaging.io.plain_columns import blocks_of_lines, fixed_width
from imaging.io.source_tables import DAMAGED, opened
from imaging.io.tables import read_table, table_of, write_table
from imaging.minor_planets.orbits import BYTES, orbits_of_text
from imaging.schemas.reference import ORBITS

RULE = b"-" * 20
"""Beginning of the line between the introduction of MPCORB.DAT and the orbits."""

ORBITS_FILE = "orbits.parquet"


def read_mpcorb(path: Path) -> pa.Table:
    """Read orbits in the format of MPCORB.DAT, with or without its introduction, ``.gz`` or not.

    Returns
    -------
    orbits
        Rows of :data:`imaging.schemas.reference.ORBITS`.

    Raises
    ------
    InputError
        If the file is missing or holds lines of another format.
    """
    try:
        with opened(path) as stream:
            tables = [orbits_of_text(fixed_width(block, BYTES)) for block in _orbit_lines(blocks_of_lines(stream))]
    except DAMAGED as error:
        raise InputError(
            f"orbits missing or not in the format of MPCORB: {str(error).splitlines()[0]}",
            value=path,
            remedy="give MPCORB.DAT of the Minor Planet Center, or a file of the same format",
        ) from error
    if not tables:
        raise InputError("the file contains no orbits", value=path, limit="lines in the format of MPCORB.DAT")
    return pa.concat_tables(tables).combine_chunks()


def _orbit_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks without the introduction, which is in the first one."""
    for number, block in enumerate(blocks):
        if number == 0 and (rule := block.find(b"\n" + RULE)) >= 0:
            block = block[block.index(b"\n", rule + 1) + 1 :]
        if block.strip():
            yield block


def write_orbits(folder: Path, orbits: pa.Table) -> None:
    """Write orbits into the folder of their catalogue.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    write_table(folder / ORBITS_FILE, orbits.cast(ORBITS))


def read_orbits(folder: Path) -> pa.Table:
    """Read the orbits of a catalogue.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    path = folder / ORBITS_FILE
    table = read_table(path)
    with table_of(path):
        return table.select(ORBITS.names).cast(ORBITS)
