"""The glow of tape bumps as a part of the noise, measured bump by bump.

Tape below a CCD makes round regions of some tens of pixels whose brightness differs between exposures (bit TAPEBUMP of
the mask of bad pixels). The glow is wide: the typical significance in rings about the middle of a bump shows it, and a
transient fills a small part of one ring.
"""

import numpy as np
from scipy.ndimage import find_objects, label

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
    bumps, _ = label((mask[::STRIDE, ::STRIDE] & np.int16(MaskBit.TAPEBUMP)) != 0)
    for number, part in enumerate(find_objects(bumps), start=1):
        inside = bumps[part] == number
        y, x = (STRIDE * (np.nonzero(inside)[k].mean() + part[k].start) for k in range(2))
        reach = REACH * STRIDE * np.sqrt(inside.sum() / np.pi)
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
