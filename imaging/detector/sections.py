"""Parse FITS sections such as ``[57:2104,51:4146]``; nominal sections of a raw DECam extension."""

import re
from dataclasses import dataclass

from imaging.detector.ccds import AMPLIFIER_WIDTH, NX, Ccd
from imaging.errors import InputError

PRESCAN, OVERSCAN, POSTSCAN = 6, 50, 50
"""Columns of prescan and overscan per amplifier, rows of post-scan."""

RAW_NX = NX + 2 * (PRESCAN + OVERSCAN)
"""Columns of a raw extension."""


@dataclass(frozen=True, slots=True)
class Section:
    """A rectangle of pixels: 0-based half-open bounds in code, 1-based inclusive ones in FITS.

    FITS bounds in reverse (readout order, as in AMPSEC) set ``flip_x`` and ``flip_y``.
    """

    x0: int
    x1: int
    y0: int
    y1: int
    flip_x: bool = False
    flip_y: bool = False

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for a (ny, nx) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.y1 - self.y0, self.x1 - self.x0

    def __str__(self) -> str:
        x = (self.x1, self.x0 + 1) if self.flip_x else (self.x0 + 1, self.x1)
        y = (self.y1, self.y0 + 1) if self.flip_y else (self.y0 + 1, self.y1)
        return f"[{x[0]}:{x[1]},{y[0]}:{y[1]}]"


def parse_section(text: str) -> Section:
    """Parse a FITS section.

    Raises
    ------
    InputError
        If the text is not a section.
    """
    match = re.fullmatch(r"\[(\d+):(\d+),(\d+):(\d+)\]", text.replace(" ", ""))
    if match is None:
        raise InputError("section keyword not understood", value=repr(text), limit="[x1:x2,y1:y2]")
    xa, xb, ya, yb = map(int, match.groups())
    return Section(min(xa, xb) - 1, max(xa, xb), min(ya, yb) - 1, max(ya, yb), xa > xb, ya > yb)


def raw_sections(ccd: Ccd) -> dict[str, Section]:
    """Return the section keywords that the observatory writes for a CCD.

    The post-scan rows are above the data if amplifier A is on the left (all N CCDs), otherwise below.

    Returns
    -------
    sections
        ``TRIMSEC``, ``DATASEC``, ``CCDSEC``, ``DETSEC`` of the CCD and ``TRIMSECA`` ... ``POSTSECB`` of its amplifiers.
    """
    ny = ccd.ny
    post_scan_below = not ccd.a_is_left
    y0 = POSTSCAN if post_scan_below else 0
    left = PRESCAN + OVERSCAN
    data = Section(left, left + NX, y0, y0 + ny)
    post = (0, POSTSCAN) if post_scan_below else (ny, ny + POSTSCAN)
    det_x, det_y = ccd.detsec[0] - 1, ccd.detsec[1] - 1
    sections = {
        "TRIMSEC": data,
        "DATASEC": data,
        "CCDSEC": Section(0, NX, 0, ny),
        "DETSEC": Section(det_x, det_x + NX, det_y, det_y + ny),
    }
    for amplifier in ccd.amplifiers:
        name = amplifier.name
        cols = amplifier.columns
        x0 = left + cols.start
        half = Section(x0, x0 + AMPLIFIER_WIDTH, y0, y0 + ny)
        over = (PRESCAN, left) if amplifier.is_left else (left + NX, left + NX + OVERSCAN)
        pre = (0, PRESCAN) if amplifier.is_left else (RAW_NX - PRESCAN, RAW_NX)
        sections[f"TRIMSEC{name}"] = half
        sections[f"DATASEC{name}"] = half
        sections[f"DETSEC{name}"] = Section(det_x + cols.start, det_x + cols.stop, det_y, det_y + ny)
        sections[f"CCDSEC{name}"] = Section(cols.start, cols.stop, 0, ny)
        sections[f"AMPSEC{name}"] = Section(
            cols.start, cols.stop, 0, ny, flip_x=not amplifier.is_left, flip_y=post_scan_below
        )
        sections[f"BIASSEC{name}"] = Section(over[0], over[1], y0, y0 + ny)
        sections[f"PRESEC{name}"] = Section(pre[0], pre[1], y0, y0 + ny)
        sections[f"POSTSEC{name}"] = Section(x0, x0 + AMPLIFIER_WIDTH, *post)
    return sections
