"""Header keywords of an image's centre and corners, and of stamps."""

from typing import Any

import numpy as np

from imaging.wcs.foreign import ImageWcs
from imaging.wcs.tpv import sky_to_plane


def corner_keywords(wcs: ImageWcs, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the DES keywords of centre and corners of an image.

    Parameters
    ----------
    wcs
        Coordinates.
    shape
        (ny, nx).

    Returns
    -------
    keywords
        RA_CENT, DEC_CENT; RAC1 ... DECC4 for the centres of the corner pixels (1,1), (nx,1), (nx,ny), (1,ny); their
        extremes RACMIN ... DECCMAX; CROSSRA0 is ``Y`` if the image crosses RA = 0, and then RACMIN exceeds RACMAX.
    """
    ny, nx = shape
    x = np.array([nx / 2 - 1, 0, nx - 1, nx - 1, 0])
    y = np.array([ny / 2 - 1, 0, 0, ny - 1, ny - 1])
    ra, dec = (np.round(values, 8) for values in wcs.pixel_to_sky(x, y))
    keywords: dict[str, Any] = {"RA_CENT": float(ra[0]), "DEC_CENT": float(dec[0])}
    for number in range(1, 5):
        keywords[f"RAC{number}"] = float(ra[number])
        keywords[f"DECC{number}"] = float(dec[number])
    corners = ra[1:]
    crosses = bool(np.ptp(corners) > 180.0)
    west, east = corners[corners > 180.0], corners[corners <= 180.0]
    keywords["RACMIN"] = float(west.min() if crosses else corners.min())
    keywords["RACMAX"] = float(east.max() if crosses else corners.max())
    keywords["DECCMIN"], keywords["DECCMAX"] = float(dec[1:].min()), float(dec[1:].max())
    keywords["CROSSRA0"] = "Y" if crosses else "N"
    return keywords


def stamp_keywords(wcs: ImageWcs, x: float, y: float, side: int) -> dict[str, Any]:
    """Return the coordinate keywords of a square stamp cut from an image: a plain tangent plane.

    The stamp is the one that :func:`imaging.difference.stamps.cut_triplet` cuts about a position, centred on the pixel
    nearest to it. The tangent point is the middle of the stamp and the matrix the mean slope of the image's coordinates
    over it. For stamps below 30 arcsec the plane deviates from the image's coordinates by less than 1 mas, and every
    viewer knows it (Calabretta & Greisen 2002, A&A 395, 1077), which cannot be said of TPV.

    Parameters
    ----------
    wcs
        Coordinates of the image.
    x, y
        Position that the stamp is about, pixels of the image, 0-based.
    side
        Pixels along a side, odd.
    """
    middle_x, middle_y, half = round(x), round(y), side // 2
    ra, dec = (float(value) for value in wcs.pixel_to_sky(middle_x, middle_y))
    ends = np.array([-half, half, 0, 0])
    plane = np.array(sky_to_plane(*wcs.pixel_to_sky(middle_x + ends, middle_y + ends[[2, 3, 0, 1]]), ra, dec))
    slope = (plane[:, [1, 3]] - plane[:, [0, 2]]) / (2 * half)
    keywords: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
    keywords |= {"RADESYS": "ICRS", "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": half + 1.0, "CRPIX2": half + 1.0}
    return keywords | {f"CD{i + 1}_{j + 1}": float(slope[i, j]) for i in range(2) for j in range(2)}
