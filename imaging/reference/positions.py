"""Which rows of a catalogue have a position, and whether it can be one."""

import numpy as np
from numpy.typing import NDArray

from imaging.errors import InputError

NO_POSITION = -99.0
"""Angles from here downwards stand for an unknown one (-99, -999, -9999); no declination is as low."""

ROUNDING_DEG = 1e-9


def known_positions(
    ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], name: str, where: str, unit: str = "degrees"
) -> NDArray[np.bool_]:
    """Return which rows have a position.

    Parameters
    ----------
    ra_deg, dec_deg
        (n,) positions, degrees; NaN or a code for an unknown one.
    name, where, unit
        Name of the catalogue, name of the source and unit of the positions in it, for the error.

    Raises
    ------
    InputError
        If a position is not on the sky.
    """
    code = (ra_deg <= NO_POSITION) & (dec_deg <= NO_POSITION)
    known = np.isfinite(ra_deg) & np.isfinite(dec_deg) & ~code
    wrong = known & ((np.abs(ra_deg) > 360.0 + ROUNDING_DEG) | (np.abs(dec_deg) > 90.0 + ROUNDING_DEG))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"positions of {name} that are not on the sky in {unit}",
            value=f"{where}: ra {ra_deg[row]:.6g}, dec {dec_deg[row]:.6g} degrees",
            limit="ra -360 to 360, dec -90 to 90",
            remedy="give other files, or a mapping with the right columns and unit",
        )
    return known
