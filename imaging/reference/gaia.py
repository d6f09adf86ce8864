"""Convert Gaia source tables of any release to reference stars.

The second and third data releases (Gaia Collaboration 2018, A&A 616, A1; 2023, A&A 674, A1) differ in number and order
of columns; the relevant columns have the same names. Columns missing in a release are null. Magnitude errors are
derived from the flux over its error.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.reference.positions import known_positions
from imaging.reference.rounding import round_columns
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import column, with_column

MAG_PER_RELATIVE_FLUX = 2.5 / np.log(10.0)

REQUIRED = ("source_id", "ra", "dec", "ref_epoch", "phot_g_mean_mag")
"""Required columns of a Gaia source table."""

EPOCHS_YR = (1900.0, 2100.0)
"""Julian years that an epoch may be."""

PHOTOMETRY = ("g", "bp", "rp")

ENOUGH_TO_TELL = 20
"""Fewest positions of which all have the digits of single precision only where they were rounded to it."""

SOURCE_COLUMNS = (
    *(name for name in REFERENCE_STARS.names if name != "variable" and not name.endswith("_mag_error")),
    *(f"phot_{name}_mean_flux_over_error" for name in PHOTOMETRY),
    "phot_variable_flag",
)
"""Columns read, if present in a release."""


def source_types() -> dict[str, pa.DataType]:
    """Return the Arrow type of each of :data:`SOURCE_COLUMNS`."""
    types = {name: pa.float32() for name in SOURCE_COLUMNS}
    types |= {name: REFERENCE_STARS.field(name).type for name in SOURCE_COLUMNS if name in REFERENCE_STARS.names}
    return types | {"phot_variable_flag": pa.string()}


def reference_stars(source: pa.Table, settings: ReferenceCatalogueSettings, where: str = "") -> pa.Table:
    """Convert rows of a Gaia source table to reference stars.

    Parameters
    ----------
    source
        Columns of the source, lower-case names, any order; those of :data:`SOURCE_COLUMNS` are used.
    settings
        Limit and rounding.
    where
        Name of the source, for error messages.

    Returns
    -------
    stars
        Columns of :data:`imaging.schemas.reference.REFERENCE_STARS`; rows without G or position are omitted.

    Raises
    ------
    InputError
        If a required column is missing, a position or epoch cannot be, or positions were rounded to single precision,
        0.03 arcsec.
    """
    missing = [name for name in REQUIRED if name not in source.column_names]
    if missing:
        raise InputError(
            f"not a table of Gaia sources: columns missing: {', '.join(missing)}",
            value=where,
            remedy="give files of gaia_source, or a mapping of column names",
        )
    columns = {}
    for field in REFERENCE_STARS:
        if field.name == "variable":
            columns[field.name] = _variable(source)
        elif field.name.startswith("phot_") and field.name.endswith("_error"):
            columns[field.name] = _magnitude_error(source, field.name)
        else:
            columns[field.name] = _column(source, field.name, field.type)
    stars = pa.table(columns, schema=REFERENCE_STARS)
    ra = column(stars, "ra")
    known = known_positions(ra, column(stars, "dec"), "Gaia", where)
    given = ra[np.isfinite(ra)]
    if given.size >= ENOUGH_TO_TELL and np.array_equal(given, given.astype(np.float32)):
        value, remedy = f"ra of {where}", "fetch the table with ra and dec in double precision"
        raise InputError("the positions were rounded to single precision, 0.03 arcsec", value=value, remedy=remedy)
    stars = with_column(stars, "ra", ra % 360.0)
    keep = pc.and_(pa.array(known), pc.is_valid(stars["phot_g_mean_mag"]))
    _require_epochs(column(stars, "ref_epoch"), where)
    if settings.faint_limit_mag is not None:
        keep = pc.and_(keep, pc.less_equal(stars["phot_g_mean_mag"], settings.faint_limit_mag))
    stars = stars.filter(pc.fill_null(keep, False))
    return round_columns(stars) if settings.compress else stars


def _column(source: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column in its type; NaN and missing columns become null."""
    if name not in source.column_names:
        return pa.chunked_array([pa.nulls(source.num_rows, kind)])
    values = source.column(name).cast(kind)
    return pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(kind) else values


def _require_epochs(epoch_yr: NDArray[np.float64], where: str) -> None:
    """Raise if an epoch is no Julian year: 0, a Julian date, MJD."""
    first, last = EPOCHS_YR
    wrong = epoch_yr[(epoch_yr < first) | (epoch_yr > last)]
    if len(wrong):
        value, limit = f"{where}: ref_epoch {wrong[0]:.6g}", f"{first:.0f} to {last:.0f} (Julian years)"
        raise InputError("epochs of positions that are no years", value=value, limit=limit)


def _magnitude_error(source: pa.Table, name: str) -> pa.ChunkedArray:
    snr = _column(source, name.replace("_mag_error", "_flux_over_error"), pa.float32())
    return pc.divide(pa.scalar(MAG_PER_RELATIVE_FLUX, pa.float32()), pc.if_else(pc.greater(snr, 0.0), snr, None))


def _variable(source: pa.Table) -> pa.ChunkedArray:
    """Return which stars are known to be variable; null if the release has no or insufficient information."""
    if "phot_variable_flag" not in source.column_names:
        return pa.chunked_array([pa.nulls(source.num_rows, pa.bool_())])
    flag = source.column("phot_variable_flag")
    if pa.types.is_dictionary(flag.type) or not pa.types.is_string(flag.type):
        flag = flag.cast(pa.string())
    flag = pc.utf8_upper(pc.utf8_trim_whitespace(flag))
    known = pc.is_in(flag, value_set=pa.array(["VARIABLE", "CONSTANT"]))
    return pc.if_else(known, pc.equal(flag, "VARIABLE"), None)
