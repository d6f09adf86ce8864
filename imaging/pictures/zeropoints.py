"""Focal-plane pictures of an exposure's zero points."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NAMES = {"ZP": "zero point", "deltaZP": "deviation of the zero point", "NumClipstar": "stars used for the zero point"}
"""Suffix of each picture, as in the original pipeline, and its title."""


def zeropoint_pictures(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, bytes]:
    """Draw an exposure's zero points, the deviations of the CCDs' own from their median, and the numbers of stars.

    Parameters
    ----------
    rows
        Rows of :data:`imaging.schemas.zeropoints.ZEROPOINTS`.
    what
        Heading.

    Returns
    -------
    pictures
        Suffix of :data:`NAMES` to PNG bytes; CCDs without a value are hatched.
    """
    from imaging.pictures.focal_plane import focal_plane_picture  # with Matplotlib, which :data:`NAMES` needs not

    own = {int(row["ccd"]): row["own_zeropoint_mag"] for row in rows}
    known = [value for value in own.values() if value is not None]
    median = float(np.median(known)) if known else 0.0
    deviation = {ccd: None if value is None else 1000.0 * (value - median) for ccd, value in own.items()}
    adopted = {int(row["ccd"]): row["zeropoint_mag"] for row in rows}
    stars = {int(row["ccd"]): float(row["n_used"]) for row in rows}
    return {
        "ZP": focal_plane_picture(adopted, label="zero point", unit="mag", title=what),
        "deltaZP": focal_plane_picture(
            deviation, label="own zero point minus median", unit="mmag", title=what, diverging=True
        ),
        "NumClipstar": focal_plane_picture(stars, label="stars used for the zero point", unit="", title=what),
    }
