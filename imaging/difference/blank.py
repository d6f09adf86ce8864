"""Select blank-sky pixels to measure the noise of a difference."""

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.image import FloatImage

BLOCK = 4
"""Side of the blocks tested for template light, pixels."""

DARK_SIGMA = np.float32(3.0)
"""Largest significance of the template light in a dark block."""


@numba.njit(cache=True)
def blank_sky(model: FloatImage, weight: FloatImage) -> NDArray[np.bool_]:
    """Return the good pixels in blocks without template light; a cut on single pixels would select on its noise.

    Parameters
    ----------
    model
        (ny, nx) float32, the matched template.
    weight
        (ny, nx) float32, inverse variance of the difference; zero for bad pixels.
    """
    ny, nx = model.shape
    out = np.empty((ny, nx), dtype=np.bool_)
    limit = DARK_SIGMA * np.float32(BLOCK)
    light, dark = np.empty(nx, dtype=np.float32), np.empty(nx, dtype=np.bool_)
    for y0 in range(0, ny, BLOCK):
        y1 = min(y0 + BLOCK, ny)
        light[:] = 0.0
        for j in range(y0, y1):
            values, weights = model[j], weight[j]
            for i in range(nx):
                light[i] += np.sqrt(weights[i]) * values[i]
        for x0 in range(0, nx, BLOCK):
            dark[x0 : x0 + BLOCK] = abs(light[x0 : x0 + BLOCK].sum()) < limit
        for j in range(y0, y1):
            weights, target = weight[j], out[j]
            for i in range(nx):
                target[i] = dark[i] and weights[i] > 0
    return out


@numba.njit(cache=True)
def quiet_sky(template_flux: FloatImage, norm: FloatImage, snr: np.float32) -> NDArray[np.bool_]:
    """Return the pixels that have a score and less template flux than a signal-to-noise limit.

    Parameters
    ----------
    template_flux
        (ny, nx) float32, flux of the template through the matched filter.
    norm
        (ny, nx) float32, inverse variance of the difference's flux; zero for pixels without a score.
    snr
        Template flux in units of the difference's flux error.
    """
    ny, nx = norm.shape
    out = np.empty((ny, nx), dtype=np.bool_)
    limit = snr * snr
    for j in range(ny):
        for i in range(nx):
            v = norm[j, i]
            out[j, i] = v > 0 and template_flux[j, i] * template_flux[j, i] * v < limit
    return out
