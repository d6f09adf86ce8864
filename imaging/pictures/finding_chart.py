"""Finding chart of a candidate: the field around it, with directions, scale and coordinates."""

from typing import Any

import numpy as np
from astropy.coordinates import Angle
from astropy.visualization import AsinhStretch, ImageNormalize, ZScaleInterval
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from imaging.pictures.canvas import new_figure, to_png
from imaging.pictures.compass import Compass

INK = "#d55e00"
"""Colour of marks and directions: distinguishable from grey with any colour vision."""

SCALE_ARCSEC = 15.0
ARROW_ARCSEC = 12.0
MARK_ARCSEC = (2.5, 8.0)
"""Where the two lines beside the candidate begin and end."""


def finding_chart(
    pixels: NDArray[np.floating],
    compass: Compass,
    ra_deg: float,
    dec_deg: float,
    *,
    title: str,
    about: str,
) -> bytes:
    """Draw a finding chart, dark sources on a light sky, north up and east left to within 45 degrees.

    Parameters
    ----------
    pixels
        (n, n) image with the candidate in the middle; NaN outside the CCD.
    compass
        Directions and scale.
    ra_deg, dec_deg
        Position of the candidate, ICRS.
    title, about
        Heading, and the end of the line below it: band and exposure.

    Returns
    -------
    png
        PNG bytes.
    """
    figure, axes = new_figure(5.2, 5.7, place=(0.02, 0.02, 0.96, 0.876))
    pixels = compass.turned(pixels)
    n = len(pixels)
    if np.isfinite(pixels).any():
        low, high = ZScaleInterval().get_limits(pixels[np.isfinite(pixels)])
        norm = ImageNormalize(vmin=low, vmax=high, stretch=AsinhStretch(0.3))
        axes.imshow(pixels, cmap="gray_r", norm=norm, origin="lower", interpolation="nearest")
    x = y = (n - 1) / 2
    near, far, bar, arrow = np.array([*MARK_ARCSEC, SCALE_ARCSEC, ARROW_ARCSEC]) / compass.pixel_scale_arcsec
    axes.plot([x + near, x + far], [y, y], color=INK, linewidth=1.6)
    axes.plot([x, x], [y + near, y + far], color=INK, linewidth=1.6)
    x0, y0 = 0.86 * n, 0.82 * n  # as far from the border as the arrows are long, whatever their directions
    outline: dict[str, Any] = {
        "path_effects": [withStroke(linewidth=3, foreground="white")],
        "color": INK,
        "fontsize": 12,
    }
    for letter, (dx, dy) in compass.turned_directions().items():
        axes.annotate("", (x0 + arrow * dx, y0 + arrow * dy), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": INK})
        axes.text(x0 + 1.3 * arrow * dx, y0 + 1.3 * arrow * dy, letter, ha="center", va="center", **outline)
    axes.plot([0.05 * n, 0.05 * n + bar], [0.05 * n] * 2, color=INK, linewidth=2.5)
    axes.text(0.05 * n + bar / 2, 0.06 * n, f'{SCALE_ARCSEC:.0f}"', ha="center", va="bottom", **outline)
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(-0.5, n - 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    right_ascension = Angle(ra_deg, "deg").to_string("hour", sep=":", precision=2, pad=True)
    declination = Angle(dec_deg, "deg").to_string("deg", sep=":", precision=1, pad=True, alwayssign=True)
    figure.suptitle(f"{title}\n{right_ascension}  {declination} (ICRS)    {about}", fontsize=10)
    return to_png(figure)
