"""Read the sky modes of the Dark Energy Survey from its file formats.

``skypca-binned-fp``: a table ``U`` with one column per mode and one row per superpixel of the whole camera, read row by
row over the abutted focal plane; BADDET lists the excluded CCDs, and with HALFS7 only the working left half of S7 is
included. ``skypca-tmpl``: an image ``TEMPLATES`` of all modes at every pixel of a CCD.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import CCDS, NX, NY
from imaging.errors import InputError
from imaging.sky.mini_sky import SUPERPIXEL

TABLE = "U"
"""Name of the extension with the modes of the whole camera."""

HALF = "S7"
"""Position of the CCD with one working half."""

MINI_SKY_SHAPE = (NY // SUPERPIXEL, NX // SUPERPIXEL)
"""Superpixels of a CCD, (rows, columns)."""

TEMPLATE_BIN = 8
"""Side of the bins of the templates, pixels: fringes are some 60 pixels wide."""


def modes_by_ccd(table: NDArray[np.floating], header: Mapping[str, Any]) -> dict[int, NDArray[np.float32]]:
    """Split the survey's table of modes by CCD: CCD number to (n_modes, 32, 16) float32.

    Parameters
    ----------
    table
        (n_superpixels, n_modes).
    header
        Keywords of its extension: BLOCKSIZ, BADDET, HALFS7.

    Raises
    ------
    InputError
        If the binning or the number of superpixels does not match.
    """
    left_out = {name.strip() for name in str(header.get("BADDET", "")).split(",")}
    used = [ccd for ccd in CCDS.values() if not ccd.is_focus and ccd.detpos not in left_out]
    shape = MINI_SKY_SHAPE
    # DETSEC of eleven CCDs begins one row low; the survey's own corners are whole numbers of superpixels.
    places = {ccd.ccdnum: np.rint((np.array(ccd.detsec) - 1) / SUPERPIXEL).astype(int) for ccd in used}
    origin = np.min(list(places.values()), axis=0)
    corners = {ccd: place - origin for ccd, place in places.items()}
    # The survey's programs write the keyword without a value, others as a logical.
    is_half = header.get("HALFS7", False) is not False
    widths = {c.ccdnum: shape[1] // 2 if c.detpos == HALF and is_half else shape[1] for c in used}
    mosaic = np.zeros(np.max(list(corners.values()), axis=0)[::-1] + shape, dtype=np.int64)
    for ccd, (x, y) in corners.items():
        mosaic[y : y + shape[0], x : x + widths[ccd]] = 1
    block = int(header.get("BLOCKSIZ", 0))
    if block != SUPERPIXEL or table.ndim != 2 or table.shape[0] != mosaic.sum():
        raise InputError(
            "the table of sky modes does not match the camera",
            value=f"{table.shape}, superpixels of {block}",
            limit=f"{mosaic.sum()} rows, superpixels of {SUPERPIXEL}",
            remedy="check BADDET and HALFS7 in its header",
        )
    rows = np.cumsum(mosaic.ravel()).reshape(mosaic.shape) - 1
    found = {}
    for ccd, (x, y) in corners.items():
        values = table[rows[y : y + shape[0], x : x + widths[ccd]]].transpose(2, 0, 1)
        missing = ((0, 0), (0, 0), (0, shape[1] - widths[ccd]))
        found[ccd] = np.pad(values, missing, mode="edge").astype(np.float32)
    return found


def binned_templates(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average templates of full size, (n_modes, 4096, 2048), over bins of 8 pixels; return others unchanged."""
    if values.shape[1:] != (NY, NX):
        return values
    bins = values.reshape(-1, NY // TEMPLATE_BIN, TEMPLATE_BIN, NX // TEMPLATE_BIN, TEMPLATE_BIN)
    return np.ascontiguousarray(bins.mean(axis=(2, 4), dtype=np.float32))
