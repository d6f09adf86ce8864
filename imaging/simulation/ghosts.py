"""Ghosts: light of bright stars reflected by the CCD and then by a surface in front of it, out of focus.

A gap t between CCD and surface is crossed twice more, so that the beam of focal ratio F lands as an image of the pupil,
a donut of radius t / F, displaced outwards by 2 t times the slope of the chief ray (geometrical optics; Kent 2013
describes the ghosts of this camera). The largest gap makes the halo around bright stars.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.simulation.optical_psf import OBSCURATION
from imaging.simulation.optics import focal_plane

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

FOCAL_RATIO = 2.9
PIXEL_MM = 0.015

CHIEF_RAY_SLOPE = 0.07
"""Slope of the chief ray at the edge of the field, away from the axis."""

FAINTEST_ELECTRONS = 0.3
"""Surface brightness below which a ghost is not drawn."""


@dataclass(frozen=True)
class Reflection:
    """A reflecting surface.

    Attributes
    ----------
    gap_mm
        Distance of the surface from the CCD.
    fraction
        Share of a star's light that arrives after both reflections.
    """

    gap_mm: float
    fraction: float


REFLECTIONS = (Reflection(6.5, 0.6e-3), Reflection(26.0, 2.0e-3), Reflection(48.0, 3.0e-3))
"""Two families of donuts of 150 and 600 pixels radius, and a halo of 1100; gaps and shares are of the order that images
of the camera show, not fitted to it."""


def ghost_radius_pixels(reflection: Reflection) -> float:
    """Return the outer radius of a ghost."""
    return reflection.gap_mm / FOCAL_RATIO / PIXEL_MM


def ghost_centres(reflection: Reflection, ccdnum: int, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where the ghosts of stars are centred: pixels of the same CCD, displaced away from the optical axis.

    Parameters
    ----------
    reflection
        The surface.
    ccdnum
        CCD.
    x, y
        (n,) positions of the stars, pixels of this CCD, also far outside it.
    """
    u, v = focal_plane(ccdnum, x, y)
    shift = 2.0 * reflection.gap_mm * CHIEF_RAY_SLOPE / PIXEL_MM
    return x + shift * u, y + shift * v


def add_ghosts(image: FloatImage, ccdnum: int, x: FloatArray, y: FloatArray, flux: FloatArray) -> None:
    """Add the ghosts of stars to a CCD, in place.

    Parameters
    ----------
    image
        (ny, nx) float32, electrons.
    ccdnum
        CCD.
    x, y, flux
        (n,) positions (pixels of this CCD) and fluxes (electrons) of all bright stars of the field.
    """
    on_camera = np.hypot(*focal_plane(ccdnum, x, y)) < LARGEST_FIELD
    for reflection in REFLECTIONS:
        radius = ghost_radius_pixels(reflection)
        level = reflection.fraction * flux / (np.pi * radius**2 * (1.0 - OBSCURATION**2))
        for k in np.flatnonzero(on_camera & (level > FAINTEST_ELECTRONS)):
            centre = ghost_centres(reflection, ccdnum, x[k : k + 1], y[k : k + 1])
            _add_donut(image, float(centre[0][0]), float(centre[1][0]), radius, OBSCURATION * radius, float(level[k]))


LARGEST_FIELD = 1.1
"""Distance from the axis, in units of the focal plane's radius, beyond which the barrel stops the light."""

SOFT_PIXELS = 4.0
"""Width of a donut's edges, by seeing and roughness of the pupil's edge."""


@njit(cache=True)
def _add_donut(image: FloatImage, x: float, y: float, outer: float, inner: float, level: float) -> None:
    """Add a ring of constant brightness with soft edges, in place; its light is that of sharp edges."""
    ny, nx = image.shape
    reach = outer + SOFT_PIXELS
    for row in range(max(int(np.ceil(y - reach)), 0), min(int(np.floor(y + reach)), ny - 1) + 1):
        half = np.sqrt(max(reach**2 - (row - y) ** 2, 0.0))
        for column in range(max(int(np.ceil(x - half)), 0), min(int(np.floor(x + half)), nx - 1) + 1):
            r = np.hypot(column - x, row - y)
            rise = min(max((r - inner) / SOFT_PIXELS + 0.5, 0.0), 1.0)
            fall = min(max((outer - r) / SOFT_PIXELS + 0.5, 0.0), 1.0)
            image[row, column] += np.float32(level * rise * fall)
