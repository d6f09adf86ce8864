"""Markdown pages with embedded pictures, stored as products and shown as Prefect artifacts."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from imaging.pictures.curves import zeropoint_picture
from imaging.pictures.focal_plane import focal_plane_picture, focal_plane_status
from imaging.plain_text import markdown_text

PICTURES = (
    ("fwhm_arcsec", "seeing", "arcsec"),
    ("sky_electrons", "sky", "e-"),
    ("astrometry_rms_mas", "astrometric rms", "mas"),
    ("depth_mag", "five-sigma depth", "mag"),
)
"""Quality metrics drawn over the focal plane: column, label, unit."""

MARKS = {"green": "", "yellow": " (fair)", "orange": " (POOR)", "red": " (BAD)", "unknown": " (not graded)"}
"""Text after a graded number; words, because coloured symbols are not available everywhere."""

LEGEND = "A number without a word is good; others are marked (fair), (POOR) or (BAD)."


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


def graded_rows(rows: Sequence[Mapping[str, Any]], grades: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per CCD for a table: its status, and every graded number with its mark."""
    by_ccd: dict[int, dict[str, str]] = {}
    for grade in grades:
        if grade["value"] is not None:
            text = f"{grade['value']:.4g}{MARKS[grade['grade']]}"
            by_ccd.setdefault(grade["ccd"], {})[grade["key"]] = text
    keys = list(dict.fromkeys(grade["key"] for grade in grades if grade["value"] is not None))
    return [
        {"CCD": row["ccd"], "status": row["status"], "reason": markdown_text(row["reason"] or "")}
        | {key.replace("_", " "): by_ccd.get(row["ccd"], {}).get(key, "") for key in keys}
        for row in rows
    ]


def embedded(png: bytes, alt: str) -> str:
    """Return a PNG as an embedded Markdown image (data URL)."""
    return f"![{markdown_text(alt)}](data:image/png;base64,{base64.b64encode(png).decode()})"


def number(value: float | None, digits: int) -> str:
    """Format a number, or a dash if there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
