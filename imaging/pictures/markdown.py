"""Parts of Markdown pages: numbers, graded tables, embedded pictures."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from imaging.plain_text import markdown_text

MARKS = {"green": "", "yellow": " (fair)", "orange": " (POOR)", "red": " (BAD)", "unknown": " (not graded)"}
"""Text after a graded number; words, because coloured symbols are not available everywhere."""

LEGEND = "A number without a word is good; others are marked (fair), (POOR) or (BAD)."


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
