"""Structure of bright galaxies beyond two concentric ellipses, and nearby galaxies of arcminutes.

Bulges are rounder, smaller and twisted against their discs; young stars form knots along two logarithmic spiral arms
(Kennicutt 1981 for their pitch angles). Fluxes are conserved: what the knots emit is taken from the disc.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.galaxies import Galaxies, colours
from imaging.simulation.stars import random_positions
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

KNOTTY_I = 20.0
"""Faintest galaxies with knots."""

LARGEST_BULGE = 0.5
"""Galaxies with larger bulges form no stars."""

KNOTS, KNOT_SHARE = 16, 0.2
"""Number of knots of a galaxy, and their share of the disc's light."""

LARGE_ID = 2_900_000_000

DUSTY_PIXELS = 20.0
"""Half-light radius above which dust lanes are resolved and drawn."""

DUST_DEPTH, DUST_PHASE, DUST_REACH = 0.45, 0.6, 3.0
"""Largest share of the light that a lane absorbs, its phase inside of the arms, radians, and the lanes' largest radius
in half-light radii."""


def bulge_shape_pixels(galaxies: Galaxies, chosen: NDArray[np.intp]) -> FloatArray:
    """Return the half-light ellipses of the bulges: (m, 3) as :meth:`Galaxies.shape_pixels`."""
    twist = 30.0 * ((galaxies.source_id * 0.6180339887) % 1.0 - 0.5)
    bulges = replace(
        galaxies,
        axis_ratio=np.sqrt(0.5 + 0.5 * galaxies.axis_ratio**2),
        radius_arcsec=galaxies.radius_arcsec * np.where(galaxies.bulge > LARGEST_BULGE, 1.0, 0.4),
        position_angle_deg=galaxies.position_angle_deg + twist,
    )
    return bulges.shape_pixels(chosen)


@dataclass(frozen=True, eq=False)
class Knots:
    """The knots of star formation of some galaxies; all arrays have length k.

    Attributes
    ----------
    galaxy
        Index into the chosen galaxies.
    dx, dy
        Offset from the galaxy's centre, pixels.
    share
        Share of the disc's light.
    """

    galaxy: NDArray[np.intp]
    dx: FloatArray
    dy: FloatArray
    share: FloatArray


def knots_of(galaxies: Galaxies, chosen: NDArray[np.intp]) -> Knots:
    """Return the knots of chosen galaxies; they depend on the galaxy's identifier only."""
    spiral = np.flatnonzero((galaxies.mags["i"][chosen] < KNOTTY_I) & (galaxies.bulge[chosen] < LARGEST_BULGE))
    drawn = [random_stream(0, "knots", int(galaxies.source_id[chosen[k]])).random((4, KNOTS)) for k in spiral]
    radius_draw, arm, scatter, brightness = np.array(drawn).reshape(-1, 4, KNOTS).transpose(1, 0, 2)
    at = chosen[spiral]
    radius = 0.3 + 2.0 * radius_draw
    pitch = _pitch(galaxies.source_id[at])[:, None]
    angle = np.log(radius) / np.tan(pitch) + np.pi * (arm > 0.5) + 0.5 * (scatter - 0.5)
    along, across = radius * np.cos(angle), radius * np.sin(angle) * galaxies.axis_ratio[at, None]
    size = (galaxies.radius_arcsec[at] / PIXEL_SCALE_ARCSEC)[:, None]
    pa = np.radians(galaxies.position_angle_deg[at])[:, None]
    light = np.exp(-radius) * (0.2 + brightness)
    light *= KNOT_SHARE / np.maximum(light.sum(axis=1, keepdims=True), 1e-12)
    dx = size * (-along * np.cos(pa) - across * np.sin(pa))
    dy = size * (along * np.sin(pa) - across * np.cos(pa))
    return Knots(np.repeat(spiral, KNOTS), dx.ravel(), dy.ravel(), light.ravel())


def _pitch(source_id: NDArray[np.int64]) -> FloatArray:
    """Return the pitch angle of the spiral arms, radians."""
    return np.radians(12.0 + 18.0 * ((source_id * 0.7548776662) % 1.0))


def has_dust_lanes(galaxies: Galaxies, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which of chosen galaxies are resolved spirals: indices into ``chosen``."""
    resolved = galaxies.radius_arcsec[chosen] > DUSTY_PIXELS * PIXEL_SCALE_ARCSEC
    return np.flatnonzero(resolved & (galaxies.bulge[chosen] < LARGEST_BULGE))


def absorb_by_dust(light: NDArray[np.float32], galaxies: Galaxies, k: int, x: float, y: float) -> None:
    """Dim the light of a galaxy by its dust lanes, in place, before it is convolved with the point-spread function.

    The lanes follow the inner edges of the spiral arms that the knots trace. Knots are young, and beside them.

    Parameters
    ----------
    light
        (ny, nx) float32, electrons of the galaxy's bulge and disc.
    galaxies, k
        Galaxies, and its number.
    x, y
        Its centre, pixels.
    """
    size = galaxies.radius_arcsec[k] / PIXEL_SCALE_ARCSEC
    reach, (ny, nx) = DUST_REACH * size, light.shape
    rows = slice(max(int(y - reach), 0), max(min(int(y + reach) + 1, ny), 0))
    columns = slice(max(int(x - reach), 0), max(min(int(x + reach) + 1, nx), 0))
    if rows.start >= rows.stop or columns.start >= columns.stop:  # beside the CCD
        return
    dy, dx = np.mgrid[rows, columns].astype(np.float32)
    dx, dy = dx - np.float32(x), dy - np.float32(y)
    c, s = (np.float32(f(np.radians(galaxies.position_angle_deg[k]))) for f in (np.cos, np.sin))
    along = (-dx * c + dy * s) / np.float32(size)
    across = (-dx * s - dy * c) / np.float32(size * galaxies.axis_ratio[k])
    radius = np.maximum(np.hypot(along, across), np.float32(0.1))
    winding = np.float32(1.0 / np.tan(_pitch(galaxies.source_id[k : k + 1])[0]))
    phase = 2.0 * (np.arctan2(across, along) - winding * np.log(radius)) - np.float32(DUST_PHASE)
    lane = np.exp(4.0 * (np.cos(phase) - 1.0)) * np.exp(-((radius / 1.5) ** 2)) * np.minimum(radius / 0.3, 1.0)
    light[rows, columns] *= 1.0 - np.float32(DUST_DEPTH) * lane


def large_galaxies(seed: int, ra_deg: float, dec_deg: float, radius_deg: float, mean_number: float) -> Galaxies:
    """Draw nearby galaxies of 0.5 to 3 arcmin, from ordinary to low surface brightness.

    Parameters
    ----------
    seed
        Seed of the sky.
    ra_deg, dec_deg, radius_deg
        The field, a disc.
    mean_number
        Mean number in the field.
    """
    random = random_stream(seed, "large galaxies")
    n = random.poisson(mean_number)
    radius = 10.0 ** random.uniform(np.log10(7.0), np.log10(45.0), n)
    axis_ratio = random.uniform(0.3, 1.0, n)
    surface = random.uniform(20.5, 24.5, n)
    mag_i = surface - 2.5 * np.log10(2.0 * np.pi * radius**2 * axis_ratio)
    redshift = random.uniform(0.003, 0.02, n)
    ra, dec = random_positions(random, n, ra_deg, dec_deg, radius_deg)
    red = random.random(n) < 0.3
    return Galaxies(
        LARGE_ID + np.arange(n),
        ra,
        dec,
        redshift,
        colours(random, mag_i, redshift, red),
        radius,
        axis_ratio,
        random.uniform(0.0, 180.0, n),
        np.where(red, random.uniform(0.5, 1.0, n), random.uniform(0.0, 0.4, n)),
    )
