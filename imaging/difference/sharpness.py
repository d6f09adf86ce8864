"""Separate cosmic rays from point sources by the sharpness of pixels in the search image.

A cosmic ray covers one or two pixels. If the search image is the sharper one, it is convolved before the subtraction,
and a cosmic ray is as wide as a star in the difference; only the search image still shows the single bright pixel.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.image import CalibratedImage, FloatImage
from imaging.psf.draw import draw_stamp, local_samples, position_terms

FloatArray = NDArray[np.float64]

HALF = 2
"""Half width of the square whose inner pixels are tested, pixels."""

NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))

SUBTRACTED_ERROR = 0.15
"""Error of a pixel's excess in the matched template, as a fraction of its brightness: its seeing differs."""

SOURCE_ERROR = 0.10
"""Error of the source's excess, as a fraction of its peak: position and PSF."""


def pixel_excess(
    search: CalibratedImage, model: FloatImage, x: FloatArray, y: FloatArray, flux: FloatArray
) -> FloatArray:
    """Return the excess in sigma of the sharpest pixel of each source over its neighbours beyond a point source's.

    The excess of a pixel over the mean of its four neighbours is compared with that of the PSF at the source's position
    and flux and of the subtracted template; the largest of the nine pixels about the position counts, so that a point
    source has 1.5 +- 0.6. For a negative source the sign of the pixels is reversed.

    Parameters
    ----------
    search
        The search image.
    model
        (ny, nx) float32, matched template, electrons of the search image.
    x, y, flux
        (n,) positions in pixels and electrons.
    """
    pixels, psf = search.pixels, search.psf
    gain = float(pixels.header.get("GAIN", 1.0))
    return _excess(
        *(pixels.science, pixels.weight, model, psf.coefficients, psf.degree, psf.origin, psf.scale, psf.step),
        *(x, y, flux, gain),
    )


@numba.njit(cache=True)
def _excess(
    science: FloatImage,
    weight: FloatImage,
    model: FloatImage,
    coefficients: FloatImage,
    degree: int,
    origin: tuple[float, float],
    scale: tuple[float, float],
    step: float,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    gain: float,
) -> FloatArray:
    ny, nx = science.shape
    out = np.zeros(x.size)
    reach = int((HALF + 2) / step) + 8
    for n in range(x.size):
        cx, cy = int(np.floor(x[n] + 0.5)), int(np.floor(y[n] + 0.5))
        if not (HALF <= cx < nx - HALF and HALF <= cy < ny - HALF):
            continue
        samples = local_samples(coefficients, position_terms(x[n], y[n], degree, origin, scale), reach)
        source = abs(flux[n]) * draw_stamp(samples, step, x[n] - cx, y[n] - cy, HALF)
        window = (slice(cy - HALF, cy + HALF + 1), slice(cx - HALF, cx + HALF + 1))
        sign = 1.0 if flux[n] >= 0 else -1.0
        out[n] = _sharpest(science[window], weight[window], model[window], source, sign, gain)
    return out


@numba.njit(cache=True)
def _sharpest(
    science: FloatImage, weight: FloatImage, model: FloatImage, source: FloatArray, sign: float, gain: float
) -> float:
    best = 0.0
    peak = source.max()
    for j in range(1, 2 * HALF):
        for i in range(1, 2 * HALF):
            if weight[j, i] <= 0:
                continue
            excess = sign * (science[j, i] - model[j, i]) - source[j, i]
            bright = abs(model[j, i]) + source[j, i]
            variance = 1.0 / weight[j, i] + bright / gain
            count = 0
            around = noise = 0.0
            for dj, di in NEIGHBOURS:
                a, b = j + dj, i + di
                if weight[a, b] > 0:
                    around += sign * (science[a, b] - model[a, b]) - source[a, b]
                    noise += 1.0 / weight[a, b] + bright / gain
                    count += 1
            if count < 3:
                continue
            systematic = (SUBTRACTED_ERROR * model[j, i]) ** 2 + (SOURCE_ERROR * peak) ** 2
            value = (excess - around / count) / math.sqrt(variance + noise / (count * count) + systematic)
            best = max(best, value)
    return best
