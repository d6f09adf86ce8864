"""The glow of tape bumps as a part of the noise, measured bump by bump.

Tape below a CCD makes round regions of some tens of pixels whose brightness differs between exposures (bit TAPEBUMP of
the mask of bad pixels). The glow is wide: the typical significance in rings about the middle of a bump shows it, and a
transient fills a small part of one ring. The mask holds the bumps of all images, so that some overlap: a region of the
mask is taken as a union of discs.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label

from imaging.bits import MaskBit
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.star_surroundings import RING_AREA, typical_in_rings
from imaging.image import MaskImage

STRIDE = 4
"""Every so-manieth row and column of the mask is looked at."""

REACH = 1.5
"""Radius to which a bump is measured, in units of that of its mask."""

RINGS = 4
"""Number of rings of a bump, unless the PSF is wider than a ring."""

LEAST_DEPTH = 2.0
"""Distance from the edge of the mask that no other disc explains from which there is another one, cells of the mask."""


def add_bump_glow(noise: ResidualNoise, mask: MaskImage) -> None:
    """Raise the noise of a difference where tape bumps glow, in place.

    Parameters
    ----------
    noise
        Noise of the difference.
    mask
        (ny, nx) int16, mask of the difference.
    """
    norm, width = noise.filtered.norm, noise.fwhm_pixels
    ny, nx = norm.shape
    for row, column, radius in _discs((mask[::STRIDE, ::STRIDE] & np.int16(MaskBit.TAPEBUMP)) != 0):
        x, y, reach = STRIDE * column, STRIDE * row, REACH * STRIDE * radius
        rows = slice(max(int(y - reach), 1), min(int(y + reach) + 2, ny - 1))
        columns = slice(max(int(x - reach), 1), min(int(x + reach) + 2, nx - 1))
        dy, dx = np.mgrid[rows, columns] - np.array([y, x])[:, None, None]
        near = np.nonzero((np.hypot(dx, dy) < reach) & (norm[rows, columns] > 0))
        ring = (np.hypot(dx, dy)[near] / max(reach / RINGS, width)).astype(np.int64)
        if ring.size == 0:
            continue
        j, i = near[0] + rows.start, near[1] + columns.start
        _, significance = noise.measured_at(j, i)
        noise.multiply(j, i, typical_in_rings(ring, np.abs(significance), RING_AREA * width**2)[ring])


def _discs(bumps: NDArray[np.bool_]) -> Iterator[tuple[float, float, float]]:
    """Yield row, column and radius, cells, of the discs of every region, the largest first.

    In a disc the distance from the edge falls by one per cell from the middle outwards; where it is larger than all
    discs so far explain, there is another one.
    """
    if bumps.all():
        return
    depth = distance_transform_edt(bumps) - 0.5
    regions, _ = label(bumps)
    for number, part in enumerate(find_objects(regions), start=1):
        own = np.where(regions[part] == number, depth[part], 0.0)
        rows, columns = np.indices(own.shape)
        unexplained = own > 0.0
        while unexplained.any():
            row, column = np.unravel_index(np.argmax(np.where(unexplained, own, 0.0)), own.shape)
            radius = own[row, column]
            yield part[0].start + float(row), part[1].start + float(column), float(radius)
            unexplained &= own > radius - np.hypot(rows - row, columns - column) + LEAST_DEPTH
