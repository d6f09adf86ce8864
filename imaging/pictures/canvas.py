"""Common style of all pictures, and conversion of figures to PNG bytes."""

import io
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

DPI = 110

BAND_COLOURS = {
    "u": "#cc79a7",
    "g": "#009e73",
    "r": "#d55e00",
    "i": "#7a5195",
    "z": "#444444",
    "Y": "#b8860b",
    "VR": "#0072b2",
}
"""Colours distinguishable with any colour vision (after Okabe and Ito 2008); markers differ as well."""

BAND_MARKERS = {"u": "v", "g": "o", "r": "s", "i": "D", "z": "^", "Y": "P", "VR": "X"}

STATUS_COLOURS = {"good": "#4c9f70", "usable": "#f0c04f", "bad": "#b2432f", "missing": "#ffffff"}

GRADE_COLOURS = {
    "green": "#4c9f70",
    "yellow": "#f0e04f",
    "orange": "#e8892b",
    "red": "#b2432f",
    "unknown": "#d9d9d9",
}

SEQUENTIAL = "viridis"
"""Colour map of amounts."""

DIVERGING = "PuOr"
"""Colour map of differences."""


def new_figure(
    width_in: float, height_in: float, *, place: tuple[float, float, float, float] | None = None
) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes.

    Parameters
    ----------
    width_in, height_in
        Size of the figure, inches.
    place
        Left, bottom, width and height of the axes as fractions of the figure; None fits them to the content.
    """
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout=None if place else "constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(place) if place else figure.add_subplot()
    axes.tick_params(labelsize=9)
    return figure, axes


def to_png(figure: Figure) -> bytes:
    """Draw a figure as PNG bytes."""
    canvas = figure.canvas
    if not isinstance(canvas, FigureCanvasAgg):
        raise TypeError("the figure has no Agg canvas")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return encode(Image.fromarray(np.ascontiguousarray(pixels)))


def encode(image: Image.Image) -> bytes:
    """Return an image as reproducible PNG bytes, without time stamps."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def robust_limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return robust limits of a colour scale: percentiles 2 and 98, kept distinct."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, [2.0, 98.0]))
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        margin = 0.01 * max(abs(low), 1e-3)
        return low - margin, high + margin
    return low, high


def label_with_unit(label: str, unit: str) -> str:
    """Return ``label [unit]``, or the label alone for a dimensionless number."""
    return f"{label} [{unit}]" if unit else label


def nice_number(value: float) -> str:
    """Format a number with three significant digits, without exponent if possible."""
    if not math.isfinite(value):
        return "–"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{min(max(digits, 0), 4)}f}"
