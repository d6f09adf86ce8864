"""Text products of the original pipeline: ds9 regions, CCD corners, CCD list of an exposure."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs

ELLIPSE_FACTOR = 5.0
"""Axes of the drawn ellipses in units of A_IMAGE and B_IMAGE."""

STAR_SPREAD = 0.003
"""Absolute SPREAD_MODEL below which a source is drawn as a star."""

CORNER_MARGIN = 16
"""Distance from the edges of the corners in the original pipeline, pixels; one less at the upper edges."""

_CORNERS = tuple(f"{axis}C{corner}" for corner in range(1, 5) for axis in ("RA", "DEC"))

RED_CATLIST = (
    *("EXPNUM", "FILENAME", "NITE", "BAND", "CCDNUM", "AIRMASS", "EXPTIME", "RA_CENT", "DEC_CENT"),
    *_CORNERS,
)
"""Columns of the list of an exposure's CCDs; the corners are RAC1, DECC1 and so on."""


def regions(catalogue: pa.Table) -> str:
    """Format ds9 regions of a catalogue: an ellipse per source in image coordinates, coloured by class.

    Red: stars; yellow: galaxies; green: sharper than a star; blue: in the halo of a bright star; cyan: on other masked
    pixels; magenta: saturated, truncated or incomplete.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    """
    lines = ["# Region file format: DS9 version 4.1", "global width=1", "image"]
    flags, mask = column(catalogue, "flags"), column(catalogue, "mask")
    spread = column(catalogue, "spread_model")
    shapes = [column(catalogue, name) for name in ("x", "y", "a_image", "b_image", "theta_image")]
    for x, y, a, b, theta, colour in zip(*shapes, region_colours(flags, mask, spread), strict=True):
        axes = f"{ELLIPSE_FACTOR * a:.2f},{ELLIPSE_FACTOR * b:.2f},{theta:.1f}"
        lines.append(f"ellipse({x + 1.0:.2f},{y + 1.0:.2f},{axes}) # color={colour}")
    return "\n".join(lines) + "\n"


def region_colours(flags: np.ndarray, mask: np.ndarray, spread: np.ndarray) -> list[str]:
    """Return the original pipeline's colour of each source from its flags, mask bits and SPREAD_MODEL, all (n,)."""
    chosen = np.select(
        [
            flags >= 4,
            (mask & int(MaskBit.STAR)) != 0,
            mask != 0,
            np.abs(spread) < STAR_SPREAD,
            spread >= STAR_SPREAD,
        ],
        ["magenta", "blue", "cyan", "red", "yellow"],
        default="green",
    )
    return [str(colour) for colour in chosen]


def corner_line(wcs: TpvWcs, shape: tuple[int, int], expnum: int, band: str, ccd: int) -> str:
    """Format the line of a CCD in the original pipeline's corner file.

    Exposure, band, CCD; then RA and Dec at the pixels (16, 16), (16, 4081), (2033, 16), (2033, 4081), 1-based and in
    this order, which is not cyclic.
    """
    ny, nx = shape
    low, right, top = CORNER_MARGIN - 1, nx - CORNER_MARGIN, ny - CORNER_MARGIN
    ra, dec = wcs.pixel_to_sky([low, low, right, right], [low, top, low, top])
    positions = " ".join(f"{a:.5f} {d:.5f}" for a, d in zip(ra, dec, strict=True))
    return f"{expnum} {band} {ccd} {positions}\n"


def red_catlist_row(header: Mapping[str, Any], filename: str) -> dict[str, Any]:
    """Return a CCD's row in the CCD list of the exposure.

    Parameters
    ----------
    header
        Keywords of the final image.
    filename
        Name of the catalogue's file.

    Raises
    ------
    InputError
        If a keyword is missing. (The original pipeline assumes an airmass of 1.3 or band g instead.)
    """
    row: dict[str, Any] = {"FILENAME": filename}
    for name in RED_CATLIST:
        if name == "FILENAME":
            continue
        if name == "AIRMASS":
            row[name] = header.get(name, "")
        elif header.get(name) in (None, ""):
            raise InputError("the final image lacks a keyword", value=name, remedy="run the calibration again")
        else:
            row[name] = header[name]
    return {name: row[name] for name in RED_CATLIST}


def red_catlist(rows: Iterable[Mapping[str, Any]]) -> str:
    """Format the CCD list of an exposure as CSV, by CCD number; an unknown airmass is empty."""
    ordered = sorted(rows, key=lambda row: int(row["CCDNUM"]))
    lines = [",".join(RED_CATLIST), *(",".join(_cell(row[name]) for name in RED_CATLIST) for row in ordered)]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
