"""The page with an exposure's focal plane, stored as a product and shown as a Prefect artifact."""

from collections.abc import Mapping
from typing import Any

from imaging.pictures.curves import zeropoint_picture
from imaging.pictures.focal_plane import focal_plane_picture, focal_plane_status
from imaging.pictures.markdown import embedded
from imaging.plain_text import markdown_text

PICTURES = (
    ("fwhm_arcsec", "seeing", "arcsec"),
    ("sky_electrons", "sky", "e-"),
    ("astrometry_rms_mas", "astrometric rms", "mas"),
    ("depth_mag", "five-sigma depth", "mag"),
)
"""Quality metrics drawn over the focal plane: column, label, unit."""


def focal_plane_page(rows: Mapping[int, Mapping[str, Any]], what: str) -> str:
    """Draw status, quality metrics and zero points of an exposure over the focal plane.

    Parameters
    ----------
    rows
        CCD number to its row of the quality table.
    what
        Heading.
    """
    images = [embedded(focal_plane_status({ccd: row["status"] for ccd, row in rows.items()}, title=what), "status")]
    for name, label, unit in PICTURES:
        values = {ccd: row.get(name) for ccd, row in rows.items()}
        images.append(embedded(focal_plane_picture(values, label=label, unit=unit, title=what), label))
    known = {
        ccd: (float(row["zeropoint_mag"]), float(row["zeropoint_error_mag"]))
        for ccd, row in rows.items()
        if row.get("zeropoint_mag") is not None
    }
    if known:
        middle = sorted(value for value, _ in known.values())[len(known) // 2]
        images.append(embedded(zeropoint_picture(known, (), exposure_mag=middle, title=what), "zero point"))
    return f"# Focal plane of {markdown_text(what)}\n\n" + "\n\n".join(images) + "\n"
