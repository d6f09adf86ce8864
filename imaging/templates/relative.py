"""Relative zero points of images of one field from common stars."""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.image import FloatImage
from imaging.numerics.robust import clipped_mean
from imaging.templates.settings import StackSettings

FloatArray = NDArray[np.float64]

MAX_STARS = 400
ANNULUS_INNER, ANNULUS_OUTER = 18, 26
"""Radii of the local background's annulus, pixels."""
ROUNDS = 10
MIN_SKY_PIXELS = 200
"""Fewest pixels of a local background."""


def find_bright_sources(
    science: FloatImage, weight: FloatImage, *, min_snr: float, maximum: float, block: int = 24, border: int = 16
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Find the brightest peak of every block of pixels.

    Parameters
    ----------
    science, weight
        (ny, nx) float32, electrons and inverse variance.
    min_snr
        Lowest signal to noise of the peak pixel.
    maximum
        Highest pixel value, electrons, to exclude stars near saturation.
    block
        Side of a block, pixels.
    border
        Distance kept from the image's edge, pixels.

    Returns
    -------
    x, y, peak
        Peaks of good pixels that are the highest within three pixels, brightest first.
    """
    ny, nx = science.shape
    x, y = _block_peaks(science, weight, block)
    peak = science[y, x].astype(float)
    good = (peak > min_snr / np.sqrt(np.maximum(weight[y, x], 1e-30))) & (peak < maximum) & (weight[y, x] > 0)
    good &= (x >= border) & (y >= border) & (x < nx - border) & (y < ny - border)
    x, y, peak = x[good], y[good], peak[good]
    highest = _are_highest(science, x, y)
    x, y, peak = x[highest], y[highest], peak[highest]
    order = np.argsort(-peak, kind="stable")
    return x[order].astype(float), y[order].astype(float), peak[order]


@numba.njit(cache=True)
def _block_peaks(science: FloatImage, weight: FloatImage, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return x and y of the highest good pixel of every whole block, or of its first pixel if none is good."""
    rows, columns = science.shape[0] // block, science.shape[1] // block
    x, y = np.empty((2, rows * columns), dtype=np.int64)
    for number in range(rows * columns):
        y0, x0 = (number // columns) * block, (number % columns) * block
        x[number], y[number] = x0, y0
        best = np.float32(-np.inf)
        for j in range(y0, y0 + block):
            values, weights = science[j, x0 : x0 + block], weight[j, x0 : x0 + block]
            for i in range(block):
                if values[i] > best and weights[i] > 0:
                    best = values[i]
                    x[number], y[number] = x0 + i, j
    return x, y


@numba.njit(cache=True)
def _are_highest(science: FloatImage, x: NDArray[np.int64], y: NDArray[np.int64], reach: int = 3) -> NDArray[np.bool_]:
    """Return which pixels are local maxima within ``reach``."""
    ny, nx = science.shape
    out = np.ones(x.size, dtype=np.bool_)
    for k in range(x.size):
        value = science[y[k], x[k]]
        for j in range(max(y[k] - reach, 0), min(y[k] + reach + 1, ny)):
            for i in range(max(x[k] - reach, 0), min(x[k] + reach + 1, nx)):
                if science[j, i] > value:
                    out[k] = False
    return out


def relative_zeropoints(
    science: Sequence[FloatImage],
    weight: Sequence[FloatImage],
    zeropoints: Sequence[float],
    saturation: Sequence[float],
    settings: StackSettings,
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Measure corrections of each image's zero point to a common one, from aperture fluxes of common stars.

    Parameters
    ----------
    science, weight
        Images on one pixel grid, (ny, nx) float32 each.
    zeropoints
        AB magnitude of one electron, per image.
    saturation
        Saturation level per image, electrons.
    settings
        Lowest signal to noise and number of stars.

    Returns
    -------
    corrections
        (n,) mag to add to each zero point; their median is zero. Zero if there are too few stars.
    n_stars
        (n,) number of stars used.
    """
    n = len(science)
    deepest = int(np.argmax([np.count_nonzero(w) for w in weight]))
    x, y, _ = find_bright_sources(
        *(science[deepest], weight[deepest]), min_snr=settings.zeropoint_snr / 4, maximum=0.5 * saturation[deepest]
    )
    x, y = x[:MAX_STARS], y[:MAX_STARS]
    magnitudes = np.full((n, x.size), np.nan)
    for k in range(n):
        flux, error = aperture_fluxes(science[k], weight[k], x, y, 0.7 * saturation[k])
        good = flux > settings.zeropoint_snr * error
        magnitudes[k, good] = zeropoints[k] - 2.5 * np.log10(flux[good])
    corrections, counts = np.zeros(n), np.zeros(n, dtype=np.int64)
    magnitudes = magnitudes[:, np.isfinite(magnitudes).sum(axis=0) >= 2]
    if magnitudes.shape[1] == 0:
        return corrections, counts
    for _ in range(ROUNDS):  # stars are missing in some images, so means and offsets are fitted alternately
        mean = np.nanmean(magnitudes + corrections[:, None], axis=0)
        for k in range(n):
            offsets = (magnitudes[k] - mean)[np.isfinite(magnitudes[k])]
            centre, _, counts[k] = clipped_mean(offsets)
            if counts[k] >= settings.min_zeropoint_stars:
                corrections[k] = -centre
    return corrections - np.median(corrections), counts


def aperture_fluxes(
    science: FloatImage, weight: FloatImage, x: FloatArray, y: FloatArray, maximum: float
) -> tuple[FloatArray, FloatArray]:
    """Measure fluxes in the reference aperture above the local background.

    Parameters
    ----------
    science, weight
        (ny, nx) float32, electrons and inverse variance.
    x, y
        (n,) centres, pixels.
    maximum
        Highest pixel value of a source, electrons; brighter ones are ignored.

    Returns
    -------
    flux, error
        (n,) electrons; NaN if the aperture is not clean or leaves the image, or the background is unknown.
    """
    offsets = np.arange(-ANNULUS_OUTER, ANNULUS_OUTER + 1)
    distance = np.hypot(offsets[:, None], offsets[None, :])
    inside = np.clip(REFERENCE_APERTURE_PIXELS / 2 + 0.5 - distance, 0.0, 1.0)
    annulus = (distance >= ANNULUS_INNER) & (distance <= ANNULUS_OUTER)
    return _aperture_fluxes(science, weight, x.astype(np.int64), y.astype(np.int64), inside, annulus, maximum)


@numba.njit(cache=True)
def _aperture_fluxes(
    science: FloatImage,
    weight: FloatImage,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    inside: FloatArray,
    annulus: NDArray[np.bool_],
    maximum: float,
) -> tuple[FloatArray, FloatArray]:
    """Sum the pixels of an aperture, weighted by their (s, s) fraction ``inside``, above the ``annulus`` median."""
    ny, nx = science.shape
    half, reach = inside.shape[0] // 2, int(REFERENCE_APERTURE_PIXELS / 2) + 1
    flux, error = np.full(x.size, np.nan), np.full(x.size, np.nan)
    sky = np.empty(inside.size, dtype=np.float32)
    for k in range(x.size):
        if x[k] < reach or y[k] < reach or x[k] >= nx - reach or y[k] >= ny - reach:
            continue
        count, clean, total, share, variance = 0, True, 0.0, 0.0, 0.0
        for j in range(max(y[k] - half, 0), min(y[k] + half + 1, ny)):
            for i in range(max(x[k] - half, 0), min(x[k] + half + 1, nx)):
                part = (j - y[k] + half, i - x[k] + half)
                value, w = science[j, i], weight[j, i]
                if annulus[part] and w > 0:
                    sky[count] = value
                    count += 1
                if inside[part] > 0:
                    clean = clean and w > 0 and value <= maximum
                    total += inside[part] * value
                    share += inside[part]
                    variance += inside[part] ** 2 / w if w > 0 else 0.0
        if clean and count >= MIN_SKY_PIXELS:
            flux[k] = total - share * np.median(sky[:count])
            error[k] = np.sqrt(variance + max(flux[k], 0.0))
    return flux, error
