"""Share of the pixels that a difference does not search only because of the light of bright stars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NOT_SEARCHED, MaskBit
from imaging.image import MaskImage
from imaging.io.images import read_header
from imaging.io.truth import pixel_truth_path, read_pixel_truth
from imaging.templates.pixels import grow_bits
from imaging.wcs.foreign import ImageWcs
from imaging.wcs.tpv import TpvWcs

if TYPE_CHECKING:
    from bench.sky_night import SkyNight

BoolArray = NDArray[np.bool_]

SATELLITE_PIXELS = 25
"""Distance from the light of a true satellite within which a mask of a streak is right."""

OF_LIGHT = MaskBit.SATURATE | MaskBit.STREAK
"""What masks pixels around saturated stars, and ghosts, spikes and halos that were taken for streaks."""


def masked_by_light(mask: MaskImage, search: MaskImage, satellites: BoolArray) -> float:
    """Return the share of pixels that are masked by light of stars and by nothing else.

    Such a pixel is not saturated in the search image, lies on no bleed trail, defect, cosmic ray or satellite, and is
    covered by a template.

    Parameters
    ----------
    mask, search
        (ny, nx) int16, masks of the difference, which has the bits of both images, and of the search image.
    satellites
        (ny, nx) bool, surroundings of true satellites.
    """
    light, saturated = np.int16(int(OF_LIGHT)), np.int16(int(MaskBit.SATURATE))
    excused = ((mask & np.int16(int(NOT_SEARCHED & ~OF_LIGHT))) | (search & saturated)) != 0
    return float(np.mean((mask & light != 0) & ~excused & ~satellites))


def satellites_near(night: "SkyNight", which: tuple[int, int], templates: Sequence[int], wcs: ImageWcs) -> BoolArray:
    """Return (ny, nx) the pixels of a search image that lie near a true satellite in it or in a template.

    Parameters
    ----------
    night
        The night.
    which
        Exposure and CCD of the search image.
    templates
        Exposures of its templates.
    wcs
        Its coordinates.
    """
    ny, nx = read_pixel_truth(pixel_truth_path(night.root, *which))["shape"].tolist()
    found = np.zeros((ny, nx), dtype=np.int16)
    for expnum in (which[0], *templates):
        for ccd in night.ccds:
            path, image = pixel_truth_path(night.root, expnum, ccd), night.product(expnum, ccd, "immask.fits")
            if not path.is_file() or image is None:
                continue
            y, x = np.divmod(read_pixel_truth(path)["streak_index"].astype(np.int64), nx)
            x, y = wcs.sky_to_pixel(
                *TpvWcs.from_header(read_header(image)).pixel_to_sky(x.astype(float), y.astype(float))
            )
            rows, columns = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
            inside = (rows >= 0) & (columns >= 0) & (rows < ny) & (columns < nx)
            found[rows[inside], columns[inside]] = 1
    return grow_bits(found, SATELLITE_PIXELS) != 0
