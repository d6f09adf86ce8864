"""Round catalogue columns below their precision, for better compression.

A multiple of a power of two ends with zeros in binary, which compress to nothing with byte-stream splitting. The steps
are at least ten times smaller than the errors of the brightest Gaia stars.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

POSITION_STEP_DEG = 2.0**-30
"""Rounding step of positions: 3.4 microarcseconds."""
MOTION_STEP = 2.0**-10
"""Rounding step of parallaxes and proper motions: a thousandth of a milliarcsecond (per year)."""
MAGNITUDE_STEP = 2.0**-13
"""Rounding step of magnitudes: 0.12 mmag."""
ERROR_BITS = 8
"""Bits kept of an error: half a part in 256."""

STEPS: Mapping[str, float] = MappingProxyType(
    {
        "ra": POSITION_STEP_DEG,
        "dec": POSITION_STEP_DEG,
        "pmra": MOTION_STEP,
        "pmdec": MOTION_STEP,
        "parallax": MOTION_STEP,
        "phot_g_mean_mag": MAGNITUDE_STEP,
        "phot_bp_mean_mag": MAGNITUDE_STEP,
        "phot_rp_mean_mag": MAGNITUDE_STEP,
    }
)
"""Rounding step of each column of :data:`imaging.schemas.reference.REFERENCE_STARS` that is not an error."""


def round_columns(table: pa.Table, steps: Mapping[str, float] = STEPS) -> pa.Table:
    """Round the numbers of a table of stars; nulls are kept.

    Parameters
    ----------
    table
        Stars; columns whose name ends in ``_error``, and ``ruwe``, keep :data:`ERROR_BITS` bits.
    steps
        Column to its rounding step.
    """
    for index, field in enumerate(table.schema):
        if field.name in steps:
            values = _values(table, index)
            rounded = np.round(values / steps[field.name]) * steps[field.name]
        elif field.name.endswith("_error") or field.name == "ruwe":
            mantissa, exponent = np.frexp(_values(table, index))
            rounded = np.ldexp(np.round(mantissa * 2.0**ERROR_BITS), exponent - ERROR_BITS)
        else:
            continue
        missing = pc.is_null(table.column(index)).to_numpy()
        table = table.set_column(index, field, pa.array(rounded, type=field.type, mask=missing))
    return table


def _values(table: pa.Table, index: int) -> NDArray[np.float64]:
    return table.column(index).to_numpy().astype(np.float64)
