"""Focal-plane pictures: one box per CCD, as on the sky, north up and east left."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from imaging.detector.ccds import CCDS, NX, NY, SCIENCE_CCDS
from imaging.pictures.canvas import (
    DIVERGING,
    SEQUENTIAL,
    STATUS_COLOURS,
    label_with_unit,
    new_figure,
    nice_number,
    robust_limits,
    to_png,
)

WIDTH_IN, HEIGHT_IN = 7.2, 6.4

PLANE, BAR = (0.01, 0.06, 0.82, 0.88), (0.835, 0.15, 0.025, 0.7)
"""Left, bottom, width and height of the focal plane and of the colour bar in the figure; an automatic layout would take
as long as drawing. There is space for numbers of seven digits to the right of the bar."""

BAR_STEPS = 5
"""Largest number of ticks on the colour bar."""


def focal_plane_picture(
    values: Mapping[int, float | None],
    *,
    label: str,
    unit: str,
    title: str = "",
    diverging: bool = False,
    limits: tuple[float, float] | None = None,
) -> bytes:
    """Draw one value per CCD.

    Parameters
    ----------
    values
        CCD number to value; CCDs whose value is None or NaN are hatched, missing ones are empty.
    label, unit
        Label and unit of the value.
    title
        Heading.
    diverging
        Whether to use a diverging colour map with a neutral zero.
    limits
        Limits of the colour scale; robust ones if None.

    Returns
    -------
    png
        PNG bytes.
    """
    known = {ccd: float(v) for ccd, v in values.items() if v is not None and np.isfinite(v)}
    low, high = limits or robust_limits(np.array(list(known.values())))
    if diverging and limits is None:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    scale = Normalize(low, high)
    colours = colormaps[DIVERGING if diverging else SEQUENTIAL]
    figure, axes = _plane(title)
    texts = _told_apart(known)
    for ccd in SCIENCE_CCDS:
        if ccd in known:
            colour = colours(scale(known[ccd]))
            _box(axes, ccd, colour, texts[ccd], _ink(colour))
        else:
            _box(axes, ccd, "white", "", "#777777", hatch="////" if ccd in values else "")
    bar = figure.add_axes(BAR)
    figure.colorbar(ScalarMappable(scale, colours), cax=bar, label=label_with_unit(label, unit), extend="both")
    bar.ticklabel_format(axis="y", style="plain", useOffset=False)
    bar.yaxis.set_major_locator(MaxNLocator(BAR_STEPS))
    bar.tick_params(labelsize=9)
    if len(known) < len(values):
        _note(axes, f"hatched: {len(values) - len(known)} CCDs without a value")
    return to_png(figure)


def focal_plane_status(statuses: Mapping[int, str], *, title: str = "") -> bytes:
    """Draw the status of each CCD: good, usable, bad, or missing.

    Parameters
    ----------
    statuses
        CCD number to status; CCDs missing here are not part of the exposure and are empty.
    title
        Heading.

    Returns
    -------
    png
        PNG bytes.
    """
    figure, axes = _plane(title)
    counts = dict.fromkeys(STATUS_COLOURS, 0)
    for ccd in SCIENCE_CCDS:
        if ccd not in statuses:
            _box(axes, ccd, "white", "", "#bbbbbb")
            continue
        status = statuses[ccd] if statuses[ccd] in STATUS_COLOURS else "missing"
        counts[status] += 1
        hatch = {"bad": "xx", "missing": "////"}.get(status, "")
        _box(axes, ccd, STATUS_COLOURS[status], "" if status == "good" else status, "black", hatch=hatch)
    handles = [
        Patch(facecolor=STATUS_COLOURS[name], edgecolor="#555555", label=f"{name}: {count}")
        for name, count in counts.items()
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncol=4, frameon=False, fontsize=10)
    return to_png(figure)


def sky_offset(ccd: int) -> tuple[float, float]:
    """Return the offset of a CCD's centre on the sky from the camera's centre, in pixels to the west and north.

    The x axis of a CCD runs to the south and its y axis to the east.
    """
    x, y = CCDS[ccd].focal_plane_centre
    return -y, -x


def _told_apart(values: Mapping[int, float]) -> dict[int, str]:
    """Format numbers briefly, with enough digits to distinguish most of them."""
    short = {ccd: nice_number(value) for ccd, value in values.items()}
    span = max(values.values(), default=0.0) - min(values.values(), default=0.0)
    if span <= 0.0 or len(set(short.values())) > len(short) // 4:
        return short
    digits = min(max(-math.floor(math.log10(span)), 0), 4)
    return {ccd: f"{value:.{digits}f}" for ccd, value in values.items()}


def _plane(title: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(WIDTH_IN, HEIGHT_IN, place=PLANE)
    axes.set_xlim(-15600, 15600)
    axes.set_ylim(-14200, 14200)
    axes.set_aspect("equal")
    axes.set_xticks(())
    axes.set_yticks(())
    axes.set_axis_off()
    axes.set_title(title, fontsize=11)
    for text, dx, dy in (("N", 0, 2200), ("E", -2200, 0)):
        axes.annotate(
            text,
            xy=(14000, -13600),
            xytext=(14000 + dx, -13600 + dy),
            arrowprops={"arrowstyle": "<-", "color": "#555555"},
            color="#555555",
            ha="center",
            va="center",
            fontsize=9,
        )
    return figure, axes


def _box(axes: Axes, ccd: int, colour: object, text: str, ink: str, hatch: str = "") -> None:
    west, north = sky_offset(ccd)
    box = Rectangle(
        (west - NY / 2, north - NX / 2),
        NY * 0.97,
        NX * 0.94,
        facecolor=colour,
        edgecolor="#888888" if hatch else "#555555",
        linewidth=0.6,
        hatch=hatch,
    )
    axes.add_artist(box)
    plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85} if hatch else None
    words = f"{ccd}\n{text}" if text else str(ccd)
    axes.text(west, north, words, ha="center", va="center", fontsize=7, color=ink, bbox=plate)


def _note(axes: Axes, text: str) -> None:
    axes.text(0.0, 0.0, text, transform=axes.transAxes, fontsize=8.5, color="#444444")


def _ink(colour: tuple[float, float, float, float]) -> str:
    """Return black or white, whichever has more contrast on a colour."""
    red, green, blue = colour[:3]
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "white"
