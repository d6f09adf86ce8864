"""Evaluate the fitted sky on the pixels of a CCD."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from imaging.errors import InputError
from imaging.sky.fit import SkyFit
from imaging.sky.modes import SkyTemplates

FINE_BINNING = 16
"""Largest binning for linear interpolation: the sky's curvature over a bin is below 1e-5 of it."""


def sky_image(fit: SkyFit, templates: SkyTemplates | None, ccdnum: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Evaluate the sky of one CCD.

    Parameters
    ----------
    fit
        Sky of the exposure.
    templates
        Modes of this CCD; not needed if its sky is a mesh.
    ccdnum
        CCD number.
    shape
        (ny, nx) of the image.

    Returns
    -------
    sky
        (ny, nx) float32, electrons.

    Raises
    ------
    InputError
        If the fit needs templates and they are missing, too few, or of another CCD.
    """
    if ccdnum in fit.meshes:
        return upsample(np.array(fit.meshes[ccdnum], dtype=np.float32), shape)
    n_modes = len(fit.coefficients)
    if n_modes == 0:
        raise InputError("the sky fit does not cover this CCD", ccd=ccdnum, remedy="fit the sky of the exposure again")
    if templates is None or templates.ccdnum != ccdnum or templates.values.shape[0] < n_modes:
        found = "none" if templates is None else f"CCD {templates.ccdnum}, {templates.values.shape[0]} modes"
        raise InputError(
            "sky templates do not match the fit", ccd=ccdnum, value=found, limit=f"CCD {ccdnum}, {n_modes} modes"
        )
    coefficients = np.array(fit.coefficients, dtype=np.float32)
    return upsample(np.tensordot(coefficients, templates.values[:n_modes], axes=1), shape)


def upsample(binned: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate the means of bins to pixels.

    Coarse bins are first refined with a cubic spline, then values between bin centres are interpolated linearly;
    towards the edges the outermost gradient is extrapolated.

    Parameters
    ----------
    binned
        (ny / by, nx / bx) float32.
    shape
        (ny, nx).

    Returns
    -------
    image
        (ny, nx) float32.
    """
    if shape[0] // binned.shape[0] > FINE_BINNING:
        binned = _refined(binned, shape)
    image = np.empty(shape, dtype=np.float32)
    _interpolate(np.ascontiguousarray(binned, dtype=np.float32), image)
    return image


def _refined(binned: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample to bins of about ``FINE_BINNING`` pixels with a cubic spline over linearly extended edges."""
    pad = 4
    wide = np.pad(binned.astype(float), pad, mode="reflect", reflect_type="odd")
    axes = []
    for axis in (0, 1):
        n = max(shape[axis] // FINE_BINNING, 1)
        axes.append((np.arange(n) + 0.5) * binned.shape[axis] / n - 0.5 + pad)
    grid = np.meshgrid(*axes, indexing="ij")
    return map_coordinates(wide, grid, order=3, mode="nearest").astype(np.float32)


@njit(cache=True)
def _interpolate(binned: NDArray[np.float32], image: NDArray[np.float32]) -> None:
    """Interpolate linearly between bin centres, one row of bins after the other."""
    by, bx = binned.shape
    ny, nx = image.shape
    index = np.empty(nx, dtype=np.int64)
    share = np.empty(nx, dtype=np.float32)
    for x in range(nx):
        position = (x + 0.5) * bx / nx - 0.5
        i = min(max(int(np.floor(position)), 0), max(bx - 2, 0))
        index[x] = i
        share[x] = position - i if bx > 1 else 0.0
    line = np.empty(bx, dtype=np.float32)
    for y in range(ny):
        position = (y + 0.5) * by / ny - 0.5
        j = min(max(int(np.floor(position)), 0), max(by - 2, 0))
        up = min(j + 1, by - 1)
        weight = np.float32(position - j) if by > 1 else np.float32(0.0)
        for i in range(bx):
            line[i] = binned[j, i] + weight * (binned[up, i] - binned[j, i])
        row = image[y]
        for x in range(nx):
            i = index[x]
            right = min(i + 1, bx - 1)
            row[x] = line[i] + share[x] * (line[right] - line[i])
