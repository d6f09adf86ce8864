"""Residuals of reference stars in pixels, from the matches and the solution of a CCD."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.astrometry.solution import MAS_PER_DEGREE, TiedCcd
from imaging.astrometry.turbulence import Turbulence
from imaging.detector.ccds import NX, NY
from imaging.masters.displacement import StarOffsets
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs, sky_to_plane

FloatArray = NDArray[np.float64]

MINUTES = 60.0
"""Arcminutes per degree."""


def star_offsets(matches: pa.Table, tied: TiedCcd, turbulence: Turbulence) -> StarOffsets:
    """Return measured minus predicted positions of the reference stars on a CCD.

    Measured positions are those on the pixels, also where the solution has taken displacements out: a map that is
    fitted to them replaces the one that was applied.

    Parameters
    ----------
    matches
        Columns of :data:`imaging.schemas.matches.ASTROMETRY_MATCHES`.
    tied
        Solution of the CCD in the exposure.
    turbulence
        Covariance of the turbulence of the exposure.
    """
    used = column(matches, "used").astype(bool)
    names = ("x", "y", "ra", "dec", "x_error", "y_error", "ra_error_mas", "dec_error_mas", "colour_mag")
    x, y, ra, dec, x_error, y_error, ra_error, dec_error, colour = (
        column(matches, name).astype(np.float64)[used] for name in names
    )
    wcs = tied.wcs()
    scale_mas = 1000.0 * float(np.sqrt(wcs.pixel_area_arcsec2(NX / 2, NY / 2)))
    place = np.stack(sky_to_plane(ra, dec, *wcs.crval), axis=-1)
    if tied.chromatic is not None:
        place -= tied.chromatic.shift_mas(colour) / MAS_PER_DEGREE
    predicted_x, predicted_y = wcs.plane_to_pixel(place[:, 0], place[:, 1])
    reference = np.sqrt(0.5 * (ra_error**2 + dec_error**2)) / scale_mas
    return StarOffsets(
        x=x,
        y=y,
        dx=x - predicted_x,
        dy=y - predicted_y,
        error_x=np.hypot(x_error, reference),
        error_y=np.hypot(y_error, reference),
        turbulence=turbulence,
        to_sky=_to_sky(wcs),
    )


def _to_sky(wcs: TpvWcs) -> FloatArray:
    """Return the (2, 2) derivatives of the standard coordinates by x and y in the middle of a CCD, arcmin per pixel."""
    middle, h = np.array([NX / 2, NY / 2]), 500.0
    ahead, behind = (np.stack(wcs.pixel_to_plane(*(middle[:, None] + step * np.eye(2)))) for step in (h, -h))
    return (ahead - behind) * MINUTES / (2.0 * h)
