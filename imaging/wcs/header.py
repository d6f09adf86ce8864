"""Header keywords of an image's centre and corners."""

from typing import Any

import numpy as np

from imaging.wcs.tpv import TpvWcs


def corner_keywords(wcs: TpvWcs, shape: tuple[int, int]) -> dict[str, Any]:
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
