"""Where the ghosts of bright stars are and how bright, by families of donuts that were fitted to many exposures.

Light that the CCD reflects, and then a surface in front of it, arrives as an image of the pupil, out of focus: a donut.
Its radii are the same everywhere on the focal plane, its displacement from the star is proportional to the star's
distance from the optical axis, and its surface brightness is a share of the star's light (geometrical optics; Kent
2013, arXiv:1309.5365). So four numbers describe the ghosts by one surface. All ghosts of a
star are in proportion to its light, whatever its colour.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.floating[Any]]

EDGE_PIXELS = 4.0
"""Width over which the light of a donut rises and falls at its edges: seeing, and the error of its radii."""

PSF_PIXELS = 4.0
"""Width of a point source, by which an error of a rim's place widens."""


class GhostFamily(BaseModel):
    """The ghosts by one reflecting surface."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    displacement: float
    """Displacement of the centre from the star, per pixel of the star's distance from the optical axis."""
    outer_pixels: float
    """Outer radius."""
    inner_pixels: float
    """Radius of the hole."""
    level: float
    """Surface brightness: share of the light of the star, by its G and the zero point, in each pixel."""
    level_error: float
    """Error of the surface brightness of one ghost: of the fit, and scatter from star to star (colours)."""
    ratio_error: float = Field(0.4, gt=0, lt=10)
    """Relative error of the surface brightness where another ghost of the star tells its light."""
    place_error: float = Field(4.0, gt=0, lt=100)
    """Error of centre and radii of one ghost, pixels."""

    def centre(self, star: tuple[float, float], axis: tuple[float, float]) -> tuple[float, float]:
        """Return x and y of the centre of a star's ghost, in the pixels in which star and optical axis are."""
        x, y = (star[k] + self.displacement * (star[k] - axis[k]) for k in range(2))
        return x, y

    def share(self, dx: FloatArray, dy: FloatArray, edge_pixels: float = EDGE_PIXELS) -> FloatArray:
        """Return the surface brightness over that of the donut at distances from its centre: 0 to 1.

        Parameters
        ----------
        dx, dy
            Distances from the donut's centre, pixels; any shape, or shapes that broadcast.
        edge_pixels
            Width of the edges.
        """
        radius = np.hypot(dx, dy)
        rise = np.clip((radius - self.inner_pixels) / edge_pixels + 0.5, 0.0, 1.0)
        return rise * np.clip((self.outer_pixels - radius) / edge_pixels + 0.5, 0.0, 1.0)


class GhostModel(BaseModel):
    """The ghosts of a band, the same for all CCDs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the calibration file."""
    band: str
    """Band of the exposures that gave it."""
    families: list[GhostFamily]
    """The families, the most significant first."""


@dataclass(frozen=True, slots=True)
class Ghost:
    """One ghost of one star in one image.

    Attributes
    ----------
    x, y
        Centre, pixels.
    outer_pixels, inner_pixels, edge_pixels
        Radii of the donut and of its hole; width over which the light rises and falls there.
    level, level_error
        Surface brightness and its error, electrons per pixel.
    outer_error, inner_error
        Error of the place of the rims, pixels.
    subtracted
        Whether the light has been subtracted from the image, so that only the errors are left.
    star, family
        Number of its star among those given, and of its family in the model; -1 if not known.
    ratio_error
        Relative error of the level where another ghost of the star tells its light.
    is_told
        Whether the image tells the level, by this ghost or by others of the star; else it is only predicted.
    """

    x: float
    y: float
    outer_pixels: float
    inner_pixels: float
    edge_pixels: float
    level: float
    level_error: float
    outer_error: float = 0.0
    inner_error: float = 0.0
    subtracted: bool = False
    star: int = -1
    family: int = -1
    ratio_error: float = np.inf
    is_told: bool = False

    def add_light(self, light: FloatImage, factor: float = 1.0, first_row: int = 0) -> None:
        """Add the light of the donut to the rows of an image from ``first_row`` on, times a factor, in place."""
        if factor * self.level != 0.0:
            _add_light(light, first_row, factor * self.level, *self._shape)

    def add_variance(self, variance: FloatImage, factor: float = 1.0, first_row: int = 0) -> None:
        """Add the variance of the light of the donut by its errors, times the square of a factor, in place."""
        errors = (abs(factor) * self.level_error, *(abs(factor) * self.level * e for e in self._rim_errors))
        if any(errors):
            _add_variance(variance, first_row, *errors, *self._shape)

    @property
    def _rim_errors(self) -> tuple[float, float]:
        return self.outer_error, self.inner_error

    @property
    def _shape(self) -> tuple[float, float, float, float, float]:
        return self.x, self.y, self.outer_pixels, self.inner_pixels, self.edge_pixels


def predict_ghosts(
    model: GhostModel,
    stars: Iterable[tuple[float, float, float]],
    axis: tuple[float, float],
    shape: tuple[int, int],
    least: float,
) -> list[Ghost]:
    """Return the ghosts that a model predicts on an image, the brightest first.

    Parameters
    ----------
    model
        The ghosts of the band.
    stars
        x, y (pixels, also far outside the image) and flux (electrons by G and the zero point) of the stars.
    axis
        x and y of the optical axis.
    shape
        (ny, nx) of the image.
    least
        Surface brightness below which a ghost is left out, electrons per pixel.
    """
    found = []
    for (star, (x, y, flux)), (number, family) in product(enumerate(stars), enumerate(model.families)):
        if family.level * flux < least:
            continue
        centre, reach = family.centre((x, y), axis), family.outer_pixels + EDGE_PIXELS
        if all(-reach < at < size - 1 + reach for at, size in zip(centre, shape[::-1], strict=True)):
            rims = family.outer_pixels, family.inner_pixels, EDGE_PIXELS
            light = family.level * flux, family.level_error * flux
            places = family.place_error, family.place_error
            found.append(Ghost(*centre, *rims, *light, *places, False, star, number, family.ratio_error))
    return sorted(found, key=lambda ghost: -ghost.level)


@njit(cache=True)
def _share(square: float, outer: float, inner: float, edge: float) -> float:
    """Return the surface brightness over that of the donut at a squared radius.

    Edges are cubic (Hermite), near to an error function; most pixels lie between them, or in the hole.
    """
    half = 0.5 * edge
    if outer > half and (inner + half) ** 2 <= square <= (outer - half) ** 2:
        return 1.0
    if inner > half and square <= (inner - half) ** 2:
        return 0.0
    radius = np.sqrt(square)
    rise = min(max((radius - inner) / edge + 0.5, 0.0), 1.0)
    fall = min(max((outer - radius) / edge + 0.5, 0.0), 1.0)
    return rise**2 * (3.0 - 2.0 * rise) * fall**2 * (3.0 - 2.0 * fall)


@njit(cache=True)
def _add_light(
    light: FloatImage, first: int, level: float, x: float, y: float, outer: float, inner: float, edge: float
) -> None:
    ny, nx = light.shape
    reach = outer + edge
    for row in range(max(int(np.ceil(y - reach)) - first, 0), min(int(y + reach) - first, ny - 1) + 1):
        dy = row + first - y
        half = np.sqrt(max(reach**2 - dy**2, 0.0))
        for column in range(max(int(np.ceil(x - half)), 0), min(int(np.floor(x + half)), nx - 1) + 1):
            light[row, column] += level * _share((column - x) ** 2 + dy**2, outer, inner, edge)


@njit(cache=True)
def _add_variance(
    variance: FloatImage,
    first: int,
    level_error: float,
    outer_error: float,
    inner_error: float,
    x: float,
    y: float,
    outer: float,
    inner: float,
    edge: float,
) -> None:
    """Add a variance; an error of a rim's place is light along it, which the point-spread function widens."""
    ny, nx = variance.shape
    width = edge + PSF_PIXELS
    reach = outer + width
    for row in range(max(int(np.ceil(y - reach)) - first, 0), min(int(y + reach) - first, ny - 1) + 1):
        dy = row + first - y
        half = np.sqrt(max(reach**2 - dy**2, 0.0))
        for column in range(max(int(np.ceil(x - half)), 0), min(int(np.floor(x + half)), nx - 1) + 1):
            square = (column - x) ** 2 + dy**2
            radius = np.sqrt(square)
            added = (level_error * _share(square, outer, inner, edge)) ** 2
            if abs(radius - outer) < width:
                added += (outer_error / width) ** 2
            if abs(radius - inner) < width:
                added += (inner_error / width) ** 2
            variance[row, column] += added
