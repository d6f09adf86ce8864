"""How faint a point source an image shows."""

import numpy as np
from numpy.typing import NDArray

from imaging.psf.model import PsfModel


def point_source_depth_mag(
    psf: PsfModel, weight: NDArray[np.float32], zeropoint_mag: float, n_sigma: float = 5.0
) -> float | None:
    """Return the magnitude of a point source of some signal to noise in the median sky noise.

    Parameters
    ----------
    psf
        Point-spread function.
    weight
        (ny, nx) float32, inverse variance, 1/electrons^2.
    zeropoint_mag
        AB magnitude of a source of one electron.
    n_sigma
        Signal to noise at the limit.

    Returns
    -------
    depth_mag
        None if no pixel has weight.
    """
    good = weight[::8, ::8]
    good = good[good > 0]
    if good.size == 0:
        return None
    noise = np.sqrt(psf.noise_pixels(*psf.origin) / float(np.median(good)))
    return float(zeropoint_mag - 2.5 * np.log10(n_sigma * noise))
