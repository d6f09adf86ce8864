"""What the columns of the table of a sky map hold: probabilities or densities, pixel numbers, distances."""

from collections.abc import Mapping
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.skymap.build import REMEDY

EXACT_BELOW = {"float32": 2**24, "float64": 2**53}
"""Whole numbers below are exact."""


def density_per_sr(table: fits.BinTableHDU, name: str) -> float | None:
    """Return by how much densities are multiplied to be per steradian, None for probabilities of pixels.

    What a column holds is what its unit says, else its name.

    Parameters
    ----------
    table
        Table of the sky map.
    name
        Column of the probabilities.

    Raises
    ------
    InputError
        If its unit is none of solid angle or probability.
    """
    text, is_density = str(table.columns[name].unit or "").strip(), name.upper() == "PROBDENSITY"
    if not text:
        return 1.0 if is_density else None
    try:
        unit = u.Unit(text)
        if not is_density and unit.is_equivalent(u.one, equivalencies=[(u.pix**-1, u.one, float, float)]):
            return None
        return float(unit.to(u.sr**-1))
    except (ValueError, u.UnitsError) as error:
        limit = "1/sr, or per another solid angle" if is_density else "none, 1/pix, or per a solid angle"
        problem = f"the unit of {name} is not understood"
        raise InputError(problem, value=text, limit=limit, remedy=REMEDY) from error


def number_column(table: fits.BinTableHDU, header: Mapping[str, Any], chosen: str) -> str | None:
    """Return the column of pixel numbers, None if the rows are in their order.

    Whatever its name, it is the first one (HEALPix primer, explicit indexing): if the header says so, or if it holds
    integers.

    Parameters
    ----------
    table
        Table of the sky map.
    header
        Its keywords and those of the primary header.
    chosen
        Column of the probabilities.

    Raises
    ------
    InputError
        If the header says that there is one, but there is none.
    """
    names = {name.upper(): name for name in table.columns.names}
    first = table.columns.names[0]
    if "UNIQ" in names or "PIXEL" in names:
        return names.get("UNIQ", names.get("PIXEL"))
    is_number = table.columns.dtype[first].base.kind in "iu"
    is_explicit = str(header.get("INDXSCHM", "")).strip().upper() == "EXPLICIT"
    if is_explicit and first == chosen:
        raise InputError("the sky map has no column of pixel numbers", value="INDXSCHM EXPLICIT", remedy=REMEDY)
    return first if is_number or is_explicit else None


def pixel_numbers(table: fits.BinTableHDU, name: str) -> NDArray[np.int64]:
    """Return a column of pixel numbers.

    Parameters
    ----------
    table
        Table of the sky map.
    name
        The column.

    Raises
    ------
    InputError
        If they are floating-point numbers and were rounded.
    """
    numbers = np.asarray(table.data[name])
    if numbers.dtype.kind == "f" and not (np.abs(numbers) < EXACT_BELOW[f"float{8 * numbers.dtype.itemsize}"]).all():
        value = f"{numbers.dtype} in {name}"
        raise InputError("the sky map's pixel numbers were rounded", value=value, limit="integers", remedy=REMEDY)
    return numbers.astype(np.int64)


def require_mpc(name: str, text: str) -> None:
    """Raise if the unit of a column of distances is another than Mpc, or per square Mpc of the norm.

    Parameters
    ----------
    name
        The column, upper case.
    text
        Its unit; empty if the table states none.

    Raises
    ------
    InputError
        With the unit.
    """
    right = u.Mpc**-2 if name == "DISTNORM" else u.Mpc
    try:
        known = not text.strip() or u.Unit(text) == right
    except ValueError:
        known = False
    if not known:
        raise InputError(f"the unit of {name} is not understood", value=text, limit=str(right), remedy=REMEDY)
