"""Distortions in tables of an image's file, as the instruments of Hubble have them, described by SIP polynomials.

The tables (CPDIS, D2IMDIS; Calabretta et al., representations of distortions in FITS) are evaluated by astropy. The
polynomials (Shupe et al. 2005, ASP Conf. Ser. 347, 491) take their place in the header, so that products have them.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS, WcsError
from numpy.typing import NDArray

from imaging.errors import InputError

FloatArray = NDArray[np.float64]

ORDER, NODES = 5, 48
"""Degree of the polynomials, and points along each axis to which they are fitted."""

MAX_ERROR_PIXELS = 0.05
"""Largest deviation of the polynomials from the tables; images are aligned to this accuracy."""

_TABLE = re.compile(r"(?:CPDIS|D2IMDIS)\d$")
_REPLACED = re.compile(r"(?:(?:CPDIS|CPERR|D2IM|DP\d).*|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d_\d))$")


def with_polynomials(header: Mapping[str, Any], path: Path, number: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Return a header whose tables of distortion, if it has any, are replaced by polynomials.

    Parameters
    ----------
    header
        Keywords of the image.
    path, number
        Its file, which has the tables, and its HDU.
    shape
        (ny, nx).

    Raises
    ------
    InputError
        If the tables are absent or damaged, or polynomials do not describe them to 0.05 pixel.
    """
    if not any(_TABLE.match(key) for key in header) or str(header.get("CTYPE1", "")).strip().endswith("TPV"):
        return dict(header)
    try:
        with fits.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            wcs = WCS(file[number].header, file)
    except (WcsError, ValueError, KeyError, IndexError, TypeError, AssertionError) as error:
        what = "the tables of the coordinates' distortion cannot be read"
        raise InputError(what, value=str(error), remedy="refit the coordinates as TPV or SIP") from error
    ny, nx = shape
    at, between = (_moved(wcs, *(np.linspace(0, size - 1, n) for size in (nx, ny))) for n in (NODES, 2 * NODES + 1))
    size = float(max(shape))
    terms = [(i, j) for i in range(ORDER + 1) for j in range(ORDER + 1 - i)]
    fit = np.linalg.lstsq(_powers(at[0] / size, terms), at[1], rcond=None)[0]
    error_pixels = float(np.abs(_powers(between[0] / size, terms) @ fit - between[1]).max())
    if not error_pixels < MAX_ERROR_PIXELS:
        raise InputError(
            "polynomials do not describe the distortion of the coordinates",
            value=f"{error_pixels:.3g} pixel",
            limit=f"{MAX_ERROR_PIXELS:g} pixel",
            remedy="give an image that is resampled to a projection without distortion",
        )
    cards = {key: value for key, value in header.items() if not _REPLACED.match(key)}
    for name, values in zip("AB", fit.T, strict=True):
        cards[f"{name}_ORDER"] = ORDER
        cards |= {f"{name}_{i}_{j}": float(v) / size ** (i + j) for (i, j), v in zip(terms, values, strict=True)}
    return cards


def _moved(wcs: WCS, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (n, 2) offsets of the points of a grid from the reference pixel, and how far the distortion moves them."""
    grid = np.stack([axis.ravel() for axis in np.meshgrid(x, y)], axis=1)
    undistorted = wcs.wcs_world2pix(wcs.all_pix2world(grid, 0), 0)
    return grid + 1.0 - wcs.wcs.crpix, undistorted - grid


def _powers(offset: FloatArray, terms: list[tuple[int, int]]) -> FloatArray:
    return np.stack([offset[:, 0] ** i * offset[:, 1] ** j for i, j in terms], axis=1)
