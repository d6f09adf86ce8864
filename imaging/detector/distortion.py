"""Nominal WCS of each CCD with the camera's optical distortion, the starting point of astrometric solutions."""

from functools import lru_cache

import numpy as np

from imaging.detector.ccds import CCDS
from imaging.package_data import read_table
from imaging.wcs.tpv import TpvWcs

CD_MATRIX = ((-1.8249413473e-07, 7.28535892432e-05), (-7.2849900453899e-05, -1.82181666096e-07))
"""Degrees per pixel, common to all science CCDs: x runs to the south, y to the east."""

TERMS = (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)
"""TPV terms used: all up to third order except the radial one."""


@lru_cache
def seed_wcs(ccdnum: int, ra_deg: float = 0.0, dec_deg: float = 0.0) -> TpvWcs:
    """Return a CCD's nominal coordinate system for a telescope pointing.

    Parameters
    ----------
    ccdnum
        Science CCD.
    ra_deg, dec_deg
        Position of the camera's centre, ICRS.

    Returns
    -------
    wcs
        Accurate to a few arcseconds, plus the telescope's pointing error.
    """
    row = next(r for r in read_table("imaging.detector", "distortion.csv") if int(r["ccdnum"]) == ccdnum)
    pv = np.zeros((2, 11))
    for axis in (1, 2):
        for term in TERMS:
            pv[axis - 1, term] = float(row[f"pv{axis}_{term}"])
    return TpvWcs(crval=(ra_deg, dec_deg), crpix=CCDS[ccdnum].crpix, cd=np.array(CD_MATRIX), pv=pv)
