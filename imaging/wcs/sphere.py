"""Spherical geometry: separations, footprints and their overlap, valid at the poles and across RA = 0."""

from typing import TYPE_CHECKING

import numba
import numpy as np
from astropy.coordinates import angular_separation
from numpy.typing import ArrayLike, NDArray

from imaging.wcs.tpv import plane_to_sky, sky_to_plane

if TYPE_CHECKING:
    from imaging.wcs.foreign import ImageWcs

FloatArray = NDArray[np.float64]


def unit_vectors(ra_deg: ArrayLike, dec_deg: ArrayLike) -> FloatArray:
    """Return (n, 3) unit vectors of positions in degrees."""
    ra, dec = np.radians(np.atleast_1d(ra_deg).astype(float)), np.radians(np.atleast_1d(dec_deg).astype(float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def separation_deg(ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> FloatArray:
    """Return great-circle separations in degrees, accurate at all scales."""
    angles = (np.radians(np.asarray(angle, dtype=float)) for angle in (ra1, dec1, ra2, dec2))
    return np.degrees(angular_separation(*angles))


def footprint(wcs: "ImageWcs", nx: int, ny: int) -> FloatArray:
    """Return the (4, 2) RA and Dec of an image's outer corners in degrees, in cyclic order."""
    ra, dec = wcs.pixel_to_sky([-0.5, nx - 0.5, nx - 0.5, -0.5], [-0.5, -0.5, ny - 0.5, ny - 0.5])
    return np.stack([ra, dec], axis=-1)


def polygon_centre(corners: FloatArray) -> tuple[float, float]:
    """Return the RA and Dec of the mean direction of corners, degrees."""
    mean = unit_vectors(corners[:, 0], corners[:, 1]).mean(axis=0)
    ra = np.degrees(np.arctan2(mean[1], mean[0])) % 360.0
    return float(ra), float(np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1]))))


def inside_convex(corners: FloatArray, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.bool_]:
    """Return which positions are inside a convex footprint of less than a hemisphere with great-circle edges.

    Parameters
    ----------
    corners
        (n, 2) RA and Dec of the corners in degrees, in cyclic order.
    ra_deg, dec_deg
        (m,) positions, degrees.
    """
    vectors = unit_vectors(corners[:, 0], corners[:, 1])
    poles = np.cross(vectors, np.roll(vectors, -1, axis=0))
    side = unit_vectors(ra_deg, dec_deg) @ poles.T
    if (vectors.mean(axis=0) @ poles.T).sum() < 0.0:
        side = -side
    return np.asarray((side >= 0.0).all(axis=-1))


def overlap_fraction(first: FloatArray, second: FloatArray) -> float:
    """Return the fraction of the first convex footprint's area covered by the second.

    Both are projected on the tangent plane at the centre of the first one and clipped there (Sutherland and Hodgman
    1974); edges of images smaller than a few degrees are straight in that plane.

    Parameters
    ----------
    first, second
        (n, 2) RA and Dec of the corners in degrees, in cyclic order.
    """
    ra0, dec0 = polygon_centre(first)
    if separation_deg(ra0, dec0, second[:, 0], second[:, 1]).max() > 60.0:
        return 0.0
    a = np.stack(sky_to_plane(first[:, 0], first[:, 1], ra0, dec0), axis=-1)
    b = np.stack(sky_to_plane(second[:, 0], second[:, 1], ra0, dec0), axis=-1)
    return float(plane_overlap(a, b))


@numba.njit(cache=True)
def plane_overlap(first: FloatArray, second: FloatArray) -> float:
    """Return the fraction of the first convex polygon's area covered by the second (Sutherland and Hodgman 1974).

    Parameters
    ----------
    first, second
        (n, 2) corners in a plane, in cyclic order.
    """
    total, turn = _signed_area(first), _signed_area(second)
    if total == 0.0 or turn == 0.0:
        return 0.0
    clipped = first.copy()
    n = len(second)
    for k in range(n):
        start, end = (second[k], second[(k + 1) % n]) if turn > 0 else (second[n - 1 - k], second[(2 * n - 2 - k) % n])
        clipped = _clip(clipped, start, end)
        if len(clipped) < 3:
            return 0.0
    return abs(_signed_area(clipped) / total)


def offset_position(
    ra_deg: float, dec_deg: float, east_arcsec: ArrayLike, north_arcsec: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Move a position by small offsets on the tangent plane; return RA and Dec in degrees."""
    return plane_to_sky(
        np.asarray(east_arcsec, dtype=float) / 3600.0, np.asarray(north_arcsec, dtype=float) / 3600.0, ra_deg, dec_deg
    )


@numba.njit(cache=True)
def _signed_area(polygon: FloatArray) -> float:
    area, n = 0.0, len(polygon)
    for i in range(n):
        j = (i + 1) % n
        area += polygon[i, 0] * polygon[j, 1] - polygon[j, 0] * polygon[i, 1]
    return 0.5 * area


@numba.njit(cache=True)
def _clip(polygon: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    """Return the part of a polygon on the left of the line from start to end."""
    n = len(polygon)
    kept = np.empty((2 * n, 2))
    count = 0
    edge_x, edge_y = end[0] - start[0], end[1] - start[1]
    side = edge_x * (polygon[:, 1] - start[1]) - edge_y * (polygon[:, 0] - start[0])
    for i in range(n):
        j = (i + 1) % n
        if side[i] >= 0:
            kept[count] = polygon[i]
            count += 1
        if (side[i] > 0 > side[j]) or (side[i] < 0 < side[j]):
            t = side[i] / (side[i] - side[j])
            kept[count] = polygon[i] + t * (polygon[j] - polygon[i])
            count += 1
    return kept[:count].copy()
