"""Displacement of images by lateral fields in the silicon of a CCD: tree rings, and the fields at the edges.

The pixels of the rings of the silicon and of the borders collect from other areas than the rest, so that sources land
beside their place by up to 0.1 pixels (Plazas, Bernstein and Sheldon 2014, PASP 126, 750; Bernstein et al. 2017, PASP
129, 074503). The polynomials of a solution cannot follow that. The flat is brighter where pixels are larger, but the
light of a source is not: division by the flat makes the source fainter by the relative area.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from imaging.detector.ccds import NX, NY
from imaging.image import CcdImage, FloatImage

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

    def area(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the relative area from which pixels collect, one minus the displacement's divergence: (n,)."""
        found = np.ones(np.size(x))
        if self.ring:
            excess = self._ring_excess()
            radii = self.first_radius + self.radius_step * np.arange(float(excess.size))
            found += np.interp(np.hypot(x - self.centre[0], y - self.centre[1]), radii, excess)
        across, down = self._edge_excess(x, NX, 0), self._edge_excess(y, NY, 2)
        return np.asarray(found + across + down)

    def times_area(self, image: CcdImage) -> CcdImage:
        """Return an image in which sources have their flux wherever they are, not divided by the pixels' areas.

        Parameters
        ----------
        image
            Image with the sky subtracted, divided by a dome flat that contains the areas.
        """
        science, weight = image.science.copy(), image.weight.copy()
        across = (1.0 + self._edge_excess(np.arange(NX), NX, 0)).astype(np.float32)
        down = self._edge_excess(np.arange(NY), NY, 2).astype(np.float32)
        ring = self._ring_excess().astype(np.float32)
        _multiply(science, weight, across, down, ring, self.centre, self.first_radius, self.radius_step)
        return CcdImage(science, image.mask, weight, image.header)

    def _ring_excess(self) -> FloatArray:
        """Return the relative excess of the pixels' areas at the radii of ``ring``."""
        if len(self.ring) < 2:
            return np.zeros(2)
        shift = np.array(self.ring)
        radii = self.first_radius + self.radius_step * np.arange(float(shift.size))
        return np.asarray(-np.gradient(shift, self.radius_step) - shift / np.maximum(radii, 1.0))

    def _edge_excess(self, place: FloatArray | NDArray[np.int64], size: int, first: int) -> FloatArray:
        """Return the relative excess of the pixels' areas by the fields of two opposite edges, along one axis: (n,)."""
        excess, knots = np.zeros(np.size(place)), np.array(EDGE_KNOTS_PIXELS)
        if not self.edges:
            return excess
        for sign, profile, distance in (
            (-1.0, self.edges[first], place + 0.5),
            (1.0, self.edges[first + 1], size - 0.5 - place),
        ):
            slopes = np.concatenate([[0.0], np.diff([*profile, 0.0]) / np.diff(knots), [0.0]])
            excess += sign * slopes[np.searchsorted(knots, distance)]
        return excess


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


@njit(cache=True)
def _multiply(
    science: FloatImage,
    weight: FloatImage,
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    ring: NDArray[np.float32],
    centre: tuple[float, float],
    first_radius: float,
    radius_step: float,
) -> None:
    """Multiply an image by the areas of its pixels, in place: ``across`` plus the excess of the rows and rings."""
    ny, nx = science.shape
    last, step = ring.size - 2, np.float32(radius_step)
    for j in range(ny):
        for i in range(nx):
            radius = np.sqrt(np.float32(i - centre[0]) ** 2 + np.float32(j - centre[1]) ** 2)
            place = min(max((radius - np.float32(first_radius)) / step, np.float32(0.0)), np.float32(last + 1))
            below = min(int(place), last)
            area = across[i] + down[j] + ring[below] + (place - below) * (ring[below + 1] - ring[below])
            science[j, i] *= area
            weight[j, i] /= area * area
