"""Convert celestial WCS of other programs (TAN, SIP, ZPN, ...) to TPV."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning, WcsError
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.wcs.sphere import polygon_centre
from imaging.wcs.tpv import N_TERMS, RADIAL_TERM, TpvWcs, sky_to_plane, tpv_basis

FloatArray = NDArray[np.float64]

NODES = 15
"""Number of points along each axis at which the coordinates are compared."""

MAX_ERROR_PIXELS = 0.02
"""Largest error of the polynomial; images of one field are aligned by their sources to better than 0.05 pixel."""


def wcs_of_header(header: Mapping[str, Any], shape: tuple[int, int]) -> TpvWcs:
    """Read celestial coordinates in any projection supported by astropy.

    TPV, and TAN with a CD matrix, are read exactly; anything else (PC matrix, SIP, ZPN and so on) is replaced by the
    TPV polynomial that fits it over the image.

    Parameters
    ----------
    header
        Keywords of the image.
    shape
        (ny, nx) of the image.

    Raises
    ------
    InputError
        If the header has no equatorial coordinates, or the error of the polynomial exceeds 0.02 pixel.
    """
    if str(header.get("CTYPE1", "")).strip() in ("RA---TPV", "RA---TAN") and "CD1_1" in header:
        return TpvWcs.from_header(header)
    wcs = _astropy_wcs(header)
    ny, nx = shape
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, NODES), np.linspace(0, ny - 1, NODES)))
    ra, dec = (np.asarray(c, dtype=float) for c in wcs.all_pix2world(x, y, 0))
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise InputError("the coordinates of the header are undefined on a part of the image", value=header["CTYPE1"])
    fitted = _fit(x, y, ra, dec, shape)
    error = float(
        np.hypot(*(np.subtract(a, b) for a, b in zip(fitted.sky_to_pixel(ra, dec), (x, y), strict=True))).max()
    )
    if not error < MAX_ERROR_PIXELS:
        raise InputError(
            "the projection cannot be approximated by a TPV polynomial",
            value=f"{header['CTYPE1']}: {error:.3f} pixel",
            limit=f"{MAX_ERROR_PIXELS:g} pixel",
            remedy="give a smaller cut-out, or refit the coordinates as TPV",
        )
    return fitted


def _astropy_wcs(header: Mapping[str, Any]) -> WCS:
    cards = fits.Header()
    for key, value in header.items():
        if isinstance(value, (bool, int, float, str)) and len(key) <= 8:
            cards[key] = value
    cards["NAXIS"] = 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(cards).celestial
    except (WcsError, ValueError, KeyError) as error:
        message = str(error).strip().splitlines() or [""]
        raise InputError("coordinates of the header not understood", value=message[0]) from error
    types = [str(name)[:4] for name in wcs.wcs.ctype]
    if types != ["RA--", "DEC-"]:
        raise InputError(
            "the header has no equatorial coordinates in a supported projection",
            value=repr(header.get("CTYPE1", "")),
            limit="RA and Dec in a projection supported by astropy",
            remedy="give an image with celestial coordinates",
        )
    return wcs


def _fit(x: FloatArray, y: FloatArray, ra: FloatArray, dec: FloatArray, shape: tuple[int, int]) -> TpvWcs:
    """Fit the matrix first and the third-order polynomial to the residuals."""
    ny, nx = shape
    crval = polygon_centre(np.stack([ra, dec], axis=1))
    crpix = ((nx + 1) / 2, (ny + 1) / 2)
    plane = sky_to_plane(ra, dec, *crval)
    dx, dy = x + 1.0 - crpix[0], y + 1.0 - crpix[1]
    linear = np.stack([dx, dy, np.ones_like(dx)], axis=1)
    cd: FloatArray = np.linalg.lstsq(linear, np.stack(plane, axis=1), rcond=None)[0][:2].T.astype(float)
    u, v = cd[0, 0] * dx + cd[0, 1] * dy, cd[1, 0] * dx + cd[1, 1] * dy
    free = [k for k in range(N_TERMS) if k != RADIAL_TERM]
    pv = np.zeros((2, N_TERMS))
    for axis, own, other in ((0, u, v), (1, v, u)):
        basis = tpv_basis(own, other)[free]
        size = np.abs(basis).max(axis=1, keepdims=True)
        pv[axis, free] = np.linalg.lstsq((basis / size).T, plane[axis], rcond=None)[0] / size[:, 0]
    return TpvWcs(crval, crpix, cd, pv)
