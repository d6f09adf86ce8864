"""Where the ghosts of bright stars are and how bright, by families of donuts that were fitted to many exposures.

Light that the CCD reflects, and then a surface in front of it, arrives as an image of the pupil, out of focus: a donut.
Its radii are the same everywhere on the focal plane, its displacement from the star is proportional to the star's
distance from the optical axis, and its surface brightness is a share of the star's light (geometrical optics; Kent
2013, arXiv:1309.5365). So four numbers describe the ghosts by one surface.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

FloatArray = NDArray[np.float64]

EDGE_PIXELS = 4.0
"""Width over which the light of a donut rises and falls at its edges: seeing, and the error of its radii."""


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


@dataclass(frozen=True, eq=False)
class GhostSources:
    """What makes ghosts in one difference.

    Attributes
    ----------
    places
        x and y of the stars, pixels of the difference.
    flux
        (n,) flux of the stars by their G at the zero point of the difference, electrons.
    axes
        x and y of the optical axis of the search image and of every template.
    weights
        1 for the search image; minus the share of the stack's weight for every template.
    """

    places: list[tuple[float, float]]
    flux: FloatArray
    axes: list[tuple[float, float]]
    weights: list[float]


def predicted_ghosts(
    model: GhostModel, sources: GhostSources, rows: slice, nx: int, least: float
) -> tuple[FloatArray, FloatArray] | None:
    """Return the surface brightness of ghosts in some rows of a difference, and the variance of its error.

    Parameters
    ----------
    model
        The ghosts of the band.
    sources
        Stars, images and their weights.
    rows, nx
        Rows, and number of columns.
    least
        Surface brightness below which a ghost is left out, electrons per pixel.

    Returns
    -------
    light, variance
        (rows, nx) electrons per pixel, and its square; None if there are no ghosts.
    """
    light, variance = np.zeros((2, rows.stop - rows.start, nx))
    found = False
    for family in model.families:
        for star, flux in zip(sources.places, sources.flux.tolist(), strict=True):
            if family.level * flux < least:
                continue
            for axis, weight in zip(sources.axes, sources.weights, strict=True):
                x, y = family.centre(star, axis)
                reach = family.outer_pixels + EDGE_PIXELS
                ys = slice(max(int(y - reach), rows.start), min(int(y + reach) + 2, rows.stop))
                xs = slice(max(int(x - reach), 0), min(int(x + reach) + 2, nx))
                if ys.stop <= ys.start or xs.stop <= xs.start:
                    continue
                dy, dx = np.ogrid[ys, xs]
                part = slice(ys.start - rows.start, ys.stop - rows.start), xs
                share = family.share(dx - x, dy - y)
                light[part] += weight * family.level * flux * share
                variance[part] += (weight * family.level_error * flux * share) ** 2
                found = True
    return (light, variance) if found else None
