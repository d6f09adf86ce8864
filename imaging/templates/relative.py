"""Tie the zero points of images of one field to each other by the stars that they share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.image import FloatImage
from imaging.numerics.robust import clipped_mean
from imaging.psf.model import REFERENCE_APERTURE_PIXELS
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
        Highest pixel value, electrons: brighter ones are near saturation.
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
    rows, columns = ny // block, nx // block
    value = np.where(weight > 0, science, -np.inf)[: rows * block, : columns * block]
    blocks = value.reshape(rows, block, columns, block).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    best = blocks.argmax(axis=1)
    y = (np.arange(rows * columns) // columns) * block + best // block
    x = (np.arange(rows * columns) % columns) * block + best % block
    peak = blocks[np.arange(best.size), best].astype(float)
    good = (peak > min_snr / np.sqrt(np.maximum(weight[y, x], 1e-30))) & (peak < maximum)
    good &= (x >= border) & (y >= border) & (x < nx - border) & (y < ny - border)
    x, y, peak = x[good], y[good], peak[good]
    highest = np.array([_is_highest(science, i, j) for i, j in zip(x, y, strict=True)], dtype=bool)
    x, y, peak = x[highest], y[highest], peak[highest]
    order = np.argsort(-peak, kind="stable")
    return x[order].astype(float), y[order].astype(float), peak[order]


def _is_highest(science: FloatImage, x: int, y: int, reach: int = 3) -> bool:
    around = science[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    return bool(science[y, x] >= np.nanmax(around))


def relative_zeropoints(
    science: Sequence[FloatImage],
    weight: Sequence[FloatImage],
    zeropoints: Sequence[float],
    saturation: Sequence[float],
    settings: StackSettings,
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Measure how far each image's zero point is from the common one, from aperture fluxes of common stars.

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
        (n,) mag to add to each zero point; their median is zero. Zero where there are too few stars.
    n_stars
        (n,) stars that each rests on.
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
    for _ in range(ROUNDS):  # stars miss in some images, so means and offsets are found in turns
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
        Sources with a brighter pixel are left out, electrons.

    Returns
    -------
    flux, error
        (n,) electrons; NaN where the aperture is not clean or leaves the image, or the background is not known.
    """
    ny, nx = science.shape
    offsets = np.arange(-ANNULUS_OUTER, ANNULUS_OUTER + 1)
    distance = np.hypot(offsets[:, None], offsets[None, :])
    inside = np.clip(REFERENCE_APERTURE_PIXELS / 2 + 0.5 - distance, 0.0, 1.0)
    annulus = (distance >= ANNULUS_INNER) & (distance <= ANNULUS_OUTER)
    flux, error = np.full(x.size, np.nan), np.full(x.size, np.nan)
    reach = int(REFERENCE_APERTURE_PIXELS / 2) + 1
    for k, (i, j) in enumerate(zip(x.astype(int), y.astype(int), strict=True)):
        if not (reach <= i < nx - reach and reach <= j < ny - reach):
            continue
        y0, y1 = max(j - ANNULUS_OUTER, 0), min(j + ANNULUS_OUTER + 1, ny)
        x0, x1 = max(i - ANNULUS_OUTER, 0), min(i + ANNULUS_OUTER + 1, nx)
        part = (
            slice(y0 - j + ANNULUS_OUTER, y1 - j + ANNULUS_OUTER),
            slice(x0 - i + ANNULUS_OUTER, x1 - i + ANNULUS_OUTER),
        )
        value, w = science[y0:y1, x0:x1].astype(float), weight[y0:y1, x0:x1]
        aperture, sky = inside[part], annulus[part] & (w > 0)
        if (w[aperture > 0] == 0).any() or value[aperture > 0].max() > maximum:
            continue
        if np.count_nonzero(sky) < MIN_SKY_PIXELS:
            continue
        flux[k] = np.sum(aperture * (value - np.median(value[sky])))
        error[k] = np.sqrt(np.sum(aperture**2 / np.where(w > 0, w, 1.0)) + max(flux[k], 0.0))
    return flux, error
