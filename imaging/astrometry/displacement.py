"""Displacement of images by lateral fields in the silicon of a CCD: tree rings, and the fields at the edges.

The pixels of the rings of the silicon and of the borders collect from other areas than the rest, so that sources land
beside their place by up to 0.1 pixels (Plazas, Bernstein and Sheldon 2014, PASP 126, 750; Bernstein et al. 2017, PASP
129, 074503). The polynomials of a solution cannot follow that.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from imaging.detector.ccds import NX, NY

FloatArray = NDArray[np.float64]

EDGE_KNOTS_PIXELS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Distances from an edge, pixels, between which a profile is linear: constant before the first, zero from the last."""


class PixelDisplacement(BaseModel):
    """The displacements on one CCD, in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the calibration file."""
    ccd: int
    """CCD number."""
    band: str
    """Band of the exposures that gave it."""
    centre: tuple[float, float] = (0.0, 0.0)
    """Centre of the tree rings, x and y, 0-based."""
    first_radius: float = 0.0
    """Radius of the first value of ``ring``."""
    radius_step: float = 1.0
    """Step of the radii."""
    ring: list[float] = []
    """Displacement away from the centre by radius; empty without rings. The nearest value holds beyond its ends."""
    edges: list[list[float]] = []
    """Displacement along x at the left and right edge, along y at the bottom and top edge, at the knots but the last;
    empty without."""

    def at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the displacement along x and y of images at pixels (0-based): (2, n) pixels."""
        shift = np.zeros((2, np.size(x)))
        if self.ring:
            radii = self.first_radius + self.radius_step * np.arange(float(len(self.ring)))
            shift += ring_shift(x, y, self.centre, radii, np.array(self.ring))
        for k, profile in enumerate(self.edges):
            shift[k // 2] += edge_weights(x, y)[k] @ np.array(profile)
        return shift

    def undo(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the places at which images measured at pixels would be without the displacement: (n,) x and y."""
        dx, dy = self.at(x, y)
        return x - dx, y - dy


def ring_shift(
    x: FloatArray, y: FloatArray, centre: tuple[float, float], radii: FloatArray, profile: FloatArray
) -> FloatArray:
    """Return the displacement along x and y of a radial profile about a centre: (2, n) pixels."""
    away = np.stack([x - centre[0], y - centre[1]])
    radius = np.hypot(*away)
    return np.asarray(np.interp(radius, radii, profile) * away / np.maximum(radius, 1.0))


def edge_weights(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the weights of the knots of the left, right, bottom and top edge: (4, n, 5)."""
    knots = np.array(EDGE_KNOTS_PIXELS)
    distances = np.stack([x + 0.5, NX - 0.5 - x, y + 0.5, NY - 0.5 - y])
    hats = np.eye(knots.size)[:, :-1]
    return np.stack([np.interp(distances, knots, hat) for hat in hats.T], axis=-1)
