"""Which peaks of the significance are sources of their own, and which belong to a brighter one.

The filter turns a point source into the autocorrelation of the PSF, which has lobes of both signs where the difference
was whitened, and the PSF model is not exact. A bright variable would otherwise be detected two to four times.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.difference.tiles import Tiling
from imaging.numerics.convolution import convolve

FloatArray = NDArray[np.float64]

BRIGHT = 3.0
"""Significance, in units of the threshold, above which a source can have lobes above the threshold."""


def own_peaks(
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    psf_stamps: FloatArray,
    tiling: Tiling,
    threshold: float,
    psf_error: FloatArray,
) -> NDArray[np.bool_]:
    """Return which peaks are more than the lobes of a brighter one.

    Parameters
    ----------
    x, y
        (n,) peaks, pixels.
    flux, error
        (n,) flux of a point source there, signed, and its error.
    psf_stamps
        (n, m, k, k) PSF of the difference in the middle of every tile.
    tiling
        The tiles.
    threshold
        Lowest significance of a source beyond the lobes of others.
    psf_error
        (n,) relative error of the PSF model there.
    """
    own = np.ones(x.size, dtype=bool)
    known: dict[tuple[int, int], tuple[FloatArray, FloatArray]] = {}
    reach = psf_stamps.shape[-1] - 1
    for k in np.argsort(-np.abs(flux)):
        if not own[k] or abs(flux[k]) < BRIGHT * threshold * error[k]:
            continue
        near = own & (np.abs(x - x[k]) <= reach) & (np.abs(y - y[k]) <= reach) & (np.abs(flux) < np.abs(flux[k]))
        if not near.any():
            continue
        tile = tiling.index(float(x[k]), float(y[k]))
        if tile not in known:
            known[tile] = _lobes(psf_stamps[tile])
        lobes, envelope = known[tile]
        at = (y[near] - y[k]).astype(int) + reach, (x[near] - x[k]).astype(int) + reach
        beyond = np.abs(flux[near] - flux[k] * lobes[at])
        own[near] = beyond > threshold * np.hypot(error[near], psf_error[k] * flux[k] * envelope[at])
    return own


def _lobes(psf: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (2 k - 1, 2 k - 1) the filtered image of a source of unit flux, and how far a wrong PSF changes it.

    The second falls from one outwards like the square root of the first's largest value at that distance or beyond.
    """
    lobes = convolve(psf, psf[::-1, ::-1], "full") / np.sum(psf**2)
    reach = psf.shape[0] - 1
    radius = np.rint(np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])).astype(int)
    highest = np.zeros(int(radius.max()) + 1)
    np.maximum.at(highest, radius.ravel(), np.abs(lobes).ravel())
    beyond = np.maximum.accumulate(highest[::-1])[::-1]
    return lobes, np.sqrt(beyond[radius])
