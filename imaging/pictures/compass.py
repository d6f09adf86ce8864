"""North, east and scale on pictures of small pieces of the sky."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

BAR_ARCSEC = 5.0
"""Length of the scale bar on stamps."""

ARROW, LETTER = 8, 11.5
"""Length of the arrows on stamps, and distance of their letters from the start, pixels of the stamp."""

MARGIN, INSET = 2, 4.5
"""Distance of bar and letters, and of the arrows' start, from the border, pixels of the stamp."""

_GLYPHS = {
    "N": ("#..#", "##.#", "#.##", "#..#", "#..#"),
    "E": ("###", "#..", "##.", "#..", "###"),
    '5"': ("###.#.#", "#...#.#", "##.....", "..#....", "##....."),
}
"""Letters of 5 rows for pictures of few pixels, where fonts are not legible."""


@dataclass(frozen=True, slots=True)
class Compass:
    """Directions and scale at the middle of an image.

    Attributes
    ----------
    north, east
        Unit vectors (x, y) in pixels, y upwards.
    pixel_scale_arcsec
        Size of a pixel, the geometric mean of both axes.
    """

    north: tuple[float, float]
    east: tuple[float, float]
    pixel_scale_arcsec: float

    @classmethod
    def of(cls, coordinates: Mapping[str, Any]) -> Self | None:
        """Return the directions in an image from its keywords CDi_j in degrees; None if it has none."""
        if "CD1_1" not in coordinates:
            return None
        matrix = np.array([[float(coordinates[f"CD{i}_{j}"]) for j in (1, 2)] for i in (1, 2)])
        inverse = np.linalg.inv(matrix)
        east, north = ((float(v[0]), float(v[1])) for v in (inverse / np.hypot(*inverse)).T)
        return cls(north, east, 3600.0 * math.sqrt(abs(np.linalg.det(matrix))))

    def start(self, length: float) -> tuple[float, float]:
        """Return where arrows of some length must start for both to be at x and y of zero and more."""
        return length * max(0.0, -self.north[0], -self.east[0]), length * max(0.0, -self.north[1], -self.east[1])

    def turned(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return an image turned by right angles and mirrored: north upwards, east to the left, within 45 degrees."""
        swapped, up, left = self._turn()
        return (image.T if swapped else image)[::up, ::left]

    def turned_directions(self) -> dict[str, tuple[float, float]]:
        """Return the directions of north (``N``) and east (``E``) in a :meth:`turned` image."""
        swapped, up, left = self._turn()
        both = {"N": self.north, "E": self.east}
        return {name: ((y if swapped else x) * left, (x if swapped else y) * up) for name, (x, y) in both.items()}

    def _turn(self) -> tuple[bool, int, int]:
        """Return whether to swap the axes, and the signs of the steps along y and x after that."""
        swapped = abs(self.north[0]) > abs(self.north[1])
        north, east = (self.north[0], self.east[1]) if swapped else (self.north[1], self.east[0])
        return swapped, -1 if north < 0 else 1, -1 if east > 0 else 1


def draw_compass(
    picture: NDArray[np.uint8], compass: Compass, zoom: int = 1, shade: int | tuple[int, ...] = 255
) -> None:
    """Draw arrows to north and east in the lower left corner of a picture, in place.

    Parameters
    ----------
    picture
        (ny, nx) or (ny, nx, 3), the first row at the top.
    compass
        Directions and scale of the stamp.
    zoom
        Pixels of the picture per pixel of the stamp.
    shade
        Grey value or colour.
    """
    height = picture.shape[0]
    x0, y0 = ((value + INSET) * zoom for value in compass.start(LETTER))
    for letter, (dx, dy) in (("N", compass.north), ("E", compass.east)):
        for step in range(ARROW * zoom + 1):
            x, y = round(x0 + step * dx), round(y0 + step * dy)
            picture[height - 1 - y, x] = shade
        _write(picture, letter, x0 + LETTER * zoom * dx, y0 + LETTER * zoom * dy, zoom, shade)


def draw_bar(picture: NDArray[np.uint8], compass: Compass, zoom: int = 1, shade: int | tuple[int, ...] = 255) -> None:
    """Draw a bar of :data:`BAR_ARCSEC` with its label in the lower right corner of a picture, in place.

    Parameters are those of :func:`draw_compass`.
    """
    height, width = picture.shape[:2]
    length = round(BAR_ARCSEC / compass.pixel_scale_arcsec * zoom)
    right, bottom = width - MARGIN * zoom, height - MARGIN * zoom
    picture[bottom - max(zoom // 2, 1) : bottom, right - length : right] = shade
    _write(picture, '5"', right - length / 2, (MARGIN + 5) * zoom, zoom, shade)


def draw_on_axes(axes: Axes, compass: Compass | None, pixel_scale_arcsec: float, side: int, colour: str) -> None:
    """Draw a scale bar and, if the directions are known, arrows to north and east.

    Parameters
    ----------
    axes
        Axes whose data coordinates are the pixels of a stamp.
    compass
        Directions; None if unknown.
    pixel_scale_arcsec, side, colour
        Size of a pixel, pixels along a side of the stamp, colour of the marks.
    """
    right, length = side - 1.0 - MARGIN, BAR_ARCSEC / pixel_scale_arcsec
    axes.plot([right - length, right], [MARGIN, MARGIN], color=colour, linewidth=2)
    axes.text(right - length / 2, MARGIN + 1.5, f'{BAR_ARCSEC:g}"', color=colour, fontsize=8, ha="center", va="bottom")
    if compass is None:
        return
    x0, y0 = (value + INSET for value in compass.start(LETTER))
    for letter, (dx, dy) in (("N", compass.north), ("E", compass.east)):
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (x0 + ARROW * dx, y0 + ARROW * dy), (x0, y0), arrowprops=arrow)
        axes.text(x0 + LETTER * dx, y0 + LETTER * dy, letter, color=colour, fontsize=8, ha="center", va="center")


def _write(picture: NDArray[np.uint8], text: str, x: float, y: float, zoom: int, shade: int | tuple[int, ...]) -> None:
    """Write a glyph centred at x, y, with y upwards."""
    cells = np.array([[cell == "#" for cell in row] for row in _GLYPHS[text]])
    cells = np.repeat(np.repeat(cells, max(zoom // 2, 1), axis=0), max(zoom // 2, 1), axis=1)
    top, left = round(picture.shape[0] - 1 - y - cells.shape[0] / 2), round(x - cells.shape[1] / 2)
    picture[top : top + cells.shape[0], left : left + cells.shape[1]][cells] = shade
