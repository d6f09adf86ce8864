"""Write candidates in the table formats of astropy, with units and descriptions: FITS, VOTable, ECSV."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Column, MaskedColumn, Table
from astropy.units import Unit

from imaging.io.atomic import write_bytes

FORMATS = (".fits", ".vot", ".ecsv")
"""Suffixes of the formats."""


def write_candidates(path: Path, candidates: pa.Table) -> None:
    """Write candidates as FITS, VOTable or ECSV, by the suffix; the same candidates give the same bytes.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    table = astropy_table(candidates)
    suffix = path.suffix.lower()
    if suffix == ".ecsv":
        text = io.StringIO()
        table.write(text, format="ascii.ecsv")
        content = text.getvalue().encode()
    else:
        buffer = io.BytesIO()
        if suffix == ".vot":
            from_table(table, table_id="candidates").to_xml(buffer)
        else:
            _fits_file(table).writeto(buffer)
        content = buffer.getvalue()
    write_bytes(path, content)


def astropy_table(candidates: pa.Table) -> Table:
    """Return candidates as an astropy table.

    Nulls are NaN in columns of floats, empty in columns of text, and masked in columns of integers. Lists are joined by
    semicolons.

    Parameters
    ----------
    candidates
        Rows with the units and meanings of :mod:`imaging.schemas.candidates` in the metadata of the fields.
    """
    columns = []
    for field, values in zip(candidates.schema, candidates.columns, strict=True):
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        description = about.get("meaning") or None
        unit = Unit(about["unit"]) if about.get("unit") else None
        kind = field.type
        if pa.types.is_list(kind):
            values = pc.binary_join(pc.cast(values, pa.list_(pa.string())), ";")
            kind = pa.string()
            description = f"{description}, separated by semicolons"
        if pa.types.is_string(kind):
            data = np.array(values.fill_null("").to_pylist(), dtype=np.str_)
            column: Column = Column(data, field.name, description=description)
        elif pa.types.is_floating(kind):
            data = values.to_numpy().astype(kind.to_pandas_dtype())
            column = Column(data, field.name, unit=unit, description=description)
        else:
            data = values.fill_null(0).to_numpy().astype(kind.to_pandas_dtype())
            made = MaskedColumn if values.null_count else Column
            column = made(data, field.name, unit=unit, description=description)
            if values.null_count:
                column.mask = np.asarray(values.is_null())
        columns.append(column)
    return Table(columns)


def _fits_file(table: Table) -> fits.HDUList:
    """Return a table as a FITS file with the descriptions twice: for astropy, and as TCOMMn for STILTS and TOPCAT."""
    buffer = io.BytesIO()
    table.write(buffer, format="fits")
    file = fits.HDUList.fromstring(buffer.getvalue())
    file[1].name = "CANDIDATES"
    for number, name in enumerate(table.colnames, start=1):
        file[1].header[f"TCOMM{number}"] = table[name].description
    return file
