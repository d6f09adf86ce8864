"""Displacement of sources by lateral fields in the silicon: tree rings, and the fields at the long edges.

Pixels that collect from a larger area look brighter in a flat and move the images of sources (Plazas, Bernstein and
Sheldon 2014, PASP 126, 750: DECam's tree rings move stars by up to 20 mas, its edges by up to 100 mas). Both follow
here from the area of the pixels in the simulated flat: the position on the sky is the integral of the pixels' sizes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import CCDS, NX
from imaging.simulation.camera import (
    EDGE_TERMS,
    RING_AMPLITUDE,
    RING_PIXELS,
    RING_SQUARED_PIXELS,
    edge_profile,
    ring_centre,
)

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.float32]


@lru_cache(maxsize=64)
def _centre(camera_seed: int, ccdnum: int) -> tuple[float, float]:
    x, y = ring_centre(camera_seed, CCDS[ccdnum])
    return float(x), float(y)


@dataclass(frozen=True)
class PixelShifts:
    """The displacements on one CCD.

    Attributes
    ----------
    centre
        Centre of the tree rings, pixels; None without tree rings.
    edges
        Whether the long edges displace.
    """

    centre: tuple[float, float] | None
    edges: bool

    def at(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the displacement of images at pixels: (n,) dx and dy in pixels."""
        dx, dy = np.zeros(np.shape(x)), np.zeros(np.shape(x))
        if self.centre is not None:
            rx, ry = x - self.centre[0], y - self.centre[1]
            r = np.maximum(np.hypot(rx, ry), 1.0)
            steepness = 1.0 / RING_PIXELS + 2.0 * r / RING_SQUARED_PIXELS
            size = RING_AMPLITUDE * np.cos(r / RING_PIXELS + r**2 / RING_SQUARED_PIXELS) / steepness
            dx, dy = dx + size * rx / r, dy + size * ry / r
        if self.edges:
            left, right = np.clip(x + 0.5, 0.0, None), np.clip(NX - 0.5 - x, 0.0, None)
            for strength, reach in EDGE_TERMS:
                dx = dx + strength * reach * (np.exp(-left / reach) - np.exp(-right / reach))
        return dx, dy

    def apply(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return where images at undisturbed pixels land."""
        dx, dy = self.at(x, y)
        return x + dx, y + dy

    def undo(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Invert :meth:`apply`."""
        dx, dy = self.at(x, y)
        for _ in range(3):
            dx, dy = self.at(x - dx, y - dy)
        return x - dx, y - dy

    def area(self, ny: int) -> FloatImage:
        """Return the area of every pixel: (ny, 2048) float32; the light of a source does not grow with it."""
        image = np.ones((ny, NX), dtype=np.float32)
        if self.centre is not None:
            x, y = np.arange(NX, dtype=np.float32) - self.centre[0], np.arange(ny, dtype=np.float32) - self.centre[1]
            squared = (x**2)[None, :] + (y**2)[:, None]
            phase = np.sqrt(squared) * np.float32(1 / RING_PIXELS) + squared * np.float32(1 / RING_SQUARED_PIXELS)
            image += np.float32(RING_AMPLITUDE) * np.sin(phase.astype(np.float32))
        if self.edges:
            image *= edge_profile()
        return image


def pixel_shifts(camera_seed: int, ccdnum: int, *, tree_rings: bool, edges: bool) -> PixelShifts | None:
    """Return the displacements on a CCD; None if both are switched off."""
    if not (tree_rings or edges):
        return None
    return PixelShifts(_centre(camera_seed, ccdnum) if tree_rings else None, edges)
