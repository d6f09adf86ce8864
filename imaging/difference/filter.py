"""Matched filter of a difference: point-source flux and its significance at every pixel.

In white noise of known variance the optimal test for a source of known shape is the inverse-variance weighted sum of
the image times that shape. Two further errors increase with the subtracted flux: of its scale and of its position. Both
are measured on the CCD, so that residuals of bright stars are not significant (the source noise and the astrometric
noise of Zackay, Ofek and Gal-Yam 2016).
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.difference.tiles import Pixels, Tiling, filter_tiles, pixels_of
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

MIN_GOOD_SHARE = 0.5
"""Smallest fraction of good pixels in the PSF's core for a score."""

MIN_PEAKS = 40
"""Fewest bright sources whose peaks alone tell the error of the scale, to a fifth of it."""


@dataclass(frozen=True, eq=False)
class FilteredDifference:
    """The matched-filtered difference.

    Attributes
    ----------
    numerator
        (ny, nx) float32, weighted sum of difference times PSF.
    norm
        (ny, nx) float32, weighted sum of the squared PSF: numerator over norm is the flux, one over norm its variance;
        zero if too little of the PSF is on good pixels.
    template_flux
        (ny, nx) float32, flux of the subtracted template through the same filter.
    psf_stamps
        (n, m, k, k) PSF per tile used in the filter.
    """

    numerator: FloatImage
    norm: FloatImage
    template_flux: FloatImage
    psf_stamps: FloatArray


def matched_filter(
    image: FloatImage, weight: FloatImage, model: FloatImage, psf_stamps: FloatArray, core_radius: int, tiling: Tiling
) -> FilteredDifference:
    """Filter a difference with its PSF.

    Parameters
    ----------
    image, weight
        (ny, nx) float32, whitened difference and inverse variance; zero weight for bad pixels.
    model
        (ny, nx) float32, the matched template that was subtracted.
    psf_stamps
        (n, m, k, k) PSF at the tiles' centres.
    core_radius
        Half width of the square core of the PSF, pixels.
    tiling
        Tiles.
    """
    flipped = psf_stamps[..., ::-1, ::-1]
    squares = flipped**2
    products: tuple[Pixels, ...] = (
        lambda y, x: image[y, x] * weight[y, x],
        pixels_of(weight),
        lambda y, x: model[y, x] * weight[y, x],
    )

    def kernels(row: int, column: int) -> tuple[FloatArray, ...]:
        return flipped[row, column], squares[row, column], flipped[row, column]

    numerator, norm, template_flux = filter_tiles(tiling, products, kernels)
    norm[(good_share(weight, core_radius) < MIN_GOOD_SHARE) | (norm < 0)] = 0.0
    np.divide(template_flux, norm, out=template_flux, where=norm > 0)
    template_flux[norm == 0] = 0.0
    return FilteredDifference(numerator, norm, template_flux, psf_stamps)


@numba.njit(cache=True)
def good_share(weight: FloatImage, radius: int) -> FloatImage:
    """Return the fraction of pixels of positive weight in the square of half width ``radius`` about every pixel."""
    ny, nx = weight.shape
    size = 2 * radius + 1
    across = np.zeros((ny, nx), dtype=np.int16)
    out = np.zeros((ny, nx), dtype=np.float32)
    for j in range(ny):
        count = 0
        for i in range(-radius, nx):
            if i + radius < nx and weight[j, i + radius] > 0:
                count += 1
            if i - radius - 1 >= 0 and weight[j, i - radius - 1] > 0:
                count -= 1
            if i >= 0:
                across[j, i] = count
    total = np.zeros(nx, dtype=np.int32)
    for j in range(-radius, ny):
        if j + radius < ny:
            total += across[j + radius]
        if j - radius - 1 >= 0:
            total -= across[j - radius - 1]
        if j >= 0:
            for i in range(nx):
                out[j, i] = np.float32(total[i]) / np.float32(size * size)
    return out


def significance(
    filtered: FilteredDifference, scale_error: float, shift_error: float, widths: FloatArray, tiling: Tiling
) -> FloatImage:
    """Return the flux over its error at every pixel, zero if undefined.

    Parameters
    ----------
    filtered
        Filtered difference.
    scale_error
        Relative error of the subtracted template's brightness.
    shift_error
        Error of its position, pixels per axis.
    widths
        (n, m) measured width of the score in blank sky per tile, by which it is divided.
    tiling
        Tiles.
    """
    out = np.zeros(filtered.norm.shape, dtype=np.float32)
    _significance(
        *(out, filtered.numerator, filtered.norm, filtered.template_flux),
        *(np.float32(scale_error**2), np.float32(shift_error**2), (1.0 / widths).astype(np.float32), tiling.tile),
    )
    return out


def flux_errors(
    filtered: FilteredDifference,
    x: FloatArray,
    y: FloatArray,
    scale_error: float,
    shift_error: float,
    widths: FloatArray,
    tiling: Tiling,
) -> tuple[FloatArray, FloatArray]:
    """Return the error of a point source's flux at given positions.

    Parameters
    ----------
    filtered
        Filtered difference.
    x, y
        (n,) positions, pixels.
    scale_error, shift_error, widths, tiling
        See :func:`significance`.

    Returns
    -------
    noise, systematic
        (n,) electrons: from the sky noise, and from the subtracted template; infinite if there is no score.
    """
    ny, nx = filtered.norm.shape
    i, j = np.clip(np.rint(x).astype(int), 0, nx - 1), np.clip(np.rint(y).astype(int), 0, ny - 1)
    left, right = np.maximum(i - 1, 0), np.minimum(i + 1, nx - 1)
    down, up = np.maximum(j - 1, 0), np.minimum(j + 1, ny - 1)
    flux = filtered.template_flux
    slope2 = 0.25 * ((flux[j, right] - flux[j, left]) ** 2 + (flux[up, i] - flux[down, i]) ** 2)
    width = widths[j // tiling.tile, i // tiling.tile]
    norm = filtered.norm[j, i].astype(float)
    noise = np.where(norm > 0, width / np.sqrt(np.where(norm > 0, norm, 1.0)), np.inf)
    systematic = width * np.sqrt(scale_error**2 * flux[j, i].astype(float) ** 2 + shift_error**2 * slope2)
    return noise, systematic


@numba.njit(cache=True, error_model="numpy")
def _significance(
    out: FloatImage,
    numerator: FloatImage,
    norm: FloatImage,
    template: FloatImage,
    scale2: np.float32,
    shift2: np.float32,
    factors: FloatImage,
    tile: int,
) -> None:
    ny, nx = norm.shape
    quarter, zero = np.float32(0.25), np.float32(0.0)
    slopes, scaling = np.zeros((2, nx), dtype=np.float32)
    for j in range(ny):
        if j % tile == 0:
            for i in range(nx):
                scaling[i] = factors[j // tile, i // tile]
        here, up, down = template[j], template[min(j + 1, ny - 1)], template[max(j - 1, 0)]
        left, right, middle = here[: nx - 2], here[2:], slopes[1:]
        for i in range(left.size):
            middle[i] = right[i] - left[i]
        slopes[0], slopes[nx - 1] = here[min(1, nx - 1)] - here[0], here[nx - 1] - here[max(nx - 2, 0)]
        sums, norms, target = numerator[j], norm[j], out[j]
        for i in range(nx):
            v, gx, gy = norms[i], slopes[i], up[i] - down[i]
            extra = scale2 * here[i] * here[i] + quarter * shift2 * (gx * gx + gy * gy)
            value = sums[i] / np.sqrt(v + extra * v * v) * scaling[i]
            target[i] = value if v > zero else zero


@numba.njit(cache=True)
def _bright_pixels(template_flux: FloatImage, norm: FloatImage, snr: np.float32) -> NDArray[np.bool_]:
    """Return (ny, nx) pixels where the template is above a signal to noise of the difference, without the edge."""
    ny, nx = norm.shape
    out = np.zeros((ny, nx), dtype=np.bool_)
    limit, zero = snr * snr, np.float32(0.0)
    for j in range(1, ny - 1):
        fluxes, norms, target = template_flux[j, 1 : nx - 1], norm[j, 1 : nx - 1], out[j, 1 : nx - 1]
        for i in range(target.size):
            target[i] = fluxes[i] > zero and fluxes[i] * fluxes[i] * norms[i] > limit
    return out


def measure_scale_error(filtered: FilteredDifference, shift_error: float, *, min_snr: float, maximum: float) -> float:
    """Measure how well bright sources of the template are subtracted, beyond noise and astrometry.

    Parameters
    ----------
    filtered
        Filtered difference.
    shift_error
        Error of the position, pixels per axis.
    min_snr
        Lowest template flux of the pixels used, in units of its error.
    maximum
        Largest value to return.

    Returns
    -------
    scale_error
        Relative error for which the residuals of the sources' peaks have unit width, of all those pixels where there
        are few peaks; NaN for too few pixels. Beside the peaks a wrong PSF leaves more relative to the light there.
    """
    rows, columns = np.nonzero(_bright_pixels(filtered.template_flux, filtered.norm, np.float32(min_snr)))
    if rows.size < 100:
        return float("nan")
    template = filtered.template_flux
    peak = np.ones(rows.size, dtype=bool)
    for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        peak &= template[rows, columns] >= template[rows + down, columns + right]
    if np.count_nonzero(peak) >= MIN_PEAKS:
        rows, columns = rows[peak], columns[peak]
    value = template[rows, columns].astype(float)
    gx = 0.5 * (template[rows, columns + 1] - template[rows, columns - 1]).astype(float)
    gy = 0.5 * (template[rows + 1, columns] - template[rows - 1, columns]).astype(float)
    norm = filtered.norm[rows, columns].astype(float)
    flux = np.abs(filtered.numerator[rows, columns] / norm)
    variance = 1.0 / norm + shift_error**2 * (gx**2 + gy**2)
    low, high = 0.0, maximum
    for _ in range(30):
        middle = 0.5 * (low + high)
        width = 1.4826 * np.median(flux / np.sqrt(variance + (middle * value) ** 2))
        low, high = (middle, high) if width > 1.0 else (low, middle)
    return 0.5 * (low + high)
