"""Noise of a difference: prediction, whitening (decorrelation), and normalisation to blank sky.

The search image has white noise and the template noise correlated by interpolation; one of the two is convolved. The
power spectrum P is known, so that a convolution with sqrt(P(0) / P) whitens the noise and preserves the flux (Reiss and
Lupton 2016, DMTN-021). This is done in tiles, because kernel and interpolation vary.
"""

from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.difference.part_kernels import PartKernels, pieces
from imaging.difference.tiles import Tiling, bands, filter_tiles, pixels_of
from imaging.image import FloatImage
from imaging.numerics.robust import MAD_TO_SIGMA, mad_sigma

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

GRID = 64
"""Side of the Fourier grid for kernels and power spectra, pixels."""

HALF = 19
"""Half width of the response kernels, pixels; a part in a thousand is beyond it if one image is far noisier than the
other."""

FILL_REACH = 8
"""Largest distance from which bad pixels are filled before the whitening, pixels: about twice the width of a star."""

SAMPLE = 1_000_000
"""Number of pixels sufficient to measure the noise width."""

SPECTRUM_FLOOR = 0.01
"""Floor of the whitened power relative to the highest: lower power contains neither noise nor signal."""


@dataclass(frozen=True, eq=False)
class TileNoise:
    """Whitening kernel, response kernel and variance factors of every tile.

    Attributes
    ----------
    whitening
        (n, m, k, k) float32, kernel that whitens the plain difference.
    response
        (n, m, k, k) float32, image in the whitened difference of a point of one electron in the search image.
    search_factor, template_factor
        (n, m) variance of the whitened difference per variance of a pixel of the search and of the template.
    parts
        Kernels with which the search image was convolved; None if it was not.
    point_ratios
        (2, n, m) variance of the flux of a point source for a given variance of the pixels, by the noise of the search
        image and by that of the template; one where both have the usual noise, which is white. None if all are one.
    """

    whitening: NDArray[np.float32]
    response: NDArray[np.float32]
    search_factor: FloatArray
    template_factor: FloatArray
    parts: PartKernels | None = None
    point_ratios: FloatArray | None = None

    def with_parts(self, parts: PartKernels, search_correlation: FloatArray | None = None) -> "TileNoise":
        """Return the noise with the kernels of a convolved search image, whose noise in every part is computed."""
        whitening, main, changes = (_spectra(k) for k in (self.whitening, parts.main, parts.changes))
        own = 1.0 if search_correlation is None else correlation_power(search_correlation)
        power = np.abs(whitening) ** 2 * own * _halves(whitening)
        variance = np.stack([np.sum(power * np.abs(main + c) ** 2, axis=(-2, -1)) for c in changes], axis=-1)
        usual = np.take_along_axis(variance, parts.own[..., None], axis=-1)
        return replace(self, parts=replace(parts, variance=variance / usual))

    def factors(self, row: int, column: int, part: int) -> tuple[float, float]:
        """Return the variance factors of search and template in one part of a tile, before its scale."""
        search = 1.0 if self.parts is None else float(self.parts.variance[row, column, part])
        return search * float(self.search_factor[row, column]), float(self.template_factor[row, column])


def tile_noise(
    search_kernels: FloatArray,
    template_kernels: FloatArray,
    search_variance: FloatArray,
    template_variance: FloatArray,
    correlation: FloatArray,
    *,
    decorrelate: bool,
    search_correlation: FloatArray | None = None,
    psf: FloatArray | None = None,
) -> TileNoise:
    """Compute whitening kernels and variance factors from the kernels applied to the two images.

    Parameters
    ----------
    search_kernels, template_kernels
        (n, m, k, k) kernels with which each image was convolved before the subtraction, odd k.
    search_variance, template_variance
        (n, m) typical variance of a blank-sky pixel before the convolution.
    correlation
        (n, m, k, k) autocorrelation of the template's noise at lags 0 to k - 1, one at lag zero.
    decorrelate
        Whether to whiten; otherwise the whitening kernel is a delta function.
    search_correlation
        (k, k) autocorrelation of the search image's noise; None if it is white.
    psf
        (k, k) PSF of the search image, for the ratios of point sources; None leaves them out.
    """
    search_spectrum, template_spectrum = _spectra(search_kernels), _spectra(template_kernels)
    search_power = np.abs(search_spectrum) ** 2
    if search_correlation is not None:
        search_power *= correlation_power(search_correlation)
    template_power = np.abs(template_spectrum) ** 2 * correlation_power(correlation)
    power = search_variance[..., None, None] * search_power + template_variance[..., None, None] * template_power
    power = np.maximum(power, SPECTRUM_FLOOR * power.max(axis=(-2, -1), keepdims=True))
    gain = np.sqrt(power[..., :1, :1] / power) if decorrelate else np.ones_like(power)
    powers, response = gain**2 * np.stack([search_power, template_power]), gain * search_spectrum
    factors = _mean_power(powers, np.ones(response.shape))
    ratios = None
    if psf is not None:
        points = _mean_power(powers, np.abs(response * _spectra(psf)) ** 2)
        usual = np.stack([search_variance, template_variance])
        ratios = points / factors * np.sum(usual * factors, axis=0) / np.sum(usual * points, axis=0)
    return TileNoise(
        whitening=real_space(gain.astype(np.complex128)),
        response=real_space(response),
        search_factor=factors[0],
        template_factor=factors[1],
        point_ratios=ratios,
    )


def _mean_power(powers: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the means of half spectra over the whole plane of frequencies, which count by their shares."""
    weight = shares * _halves(shares)
    return np.asarray(np.sum(powers * weight, axis=(-2, -1)) / np.sum(weight, axis=(-2, -1)))


def _halves(spectrum: NDArray[Any]) -> FloatArray:
    """Return how often each column of a half spectrum counts in a sum over the whole one."""
    weight = np.full(spectrum.shape[-1], 2.0)
    weight[0] = weight[-1] = 1.0
    return weight


def _spectra(kernels: NDArray[np.floating]) -> NDArray[np.complex128]:
    size = kernels.shape[-1]
    plane = np.zeros((*kernels.shape[:-2], GRID, GRID))
    plane[..., :size, :size] = kernels
    return fft.rfft2(np.roll(plane, (-(size // 2), -(size // 2)), axis=(-2, -1)))


def correlation_power(correlation: FloatArray, size: int = GRID) -> FloatArray:
    """Return the (..., size, size / 2 + 1) power of noise with an autocorrelation (..., k, k), k at most size / 2."""
    lags, reach = np.zeros((*correlation.shape[:-2], size, size)), correlation.shape[-1] - 1
    apart = np.arange(-reach, reach + 1)
    lags[..., apart[:, None], apart] = correlation[..., np.abs(apart)[:, None], np.abs(apart)]
    return np.maximum(fft.rfft2(lags).real, 0.0)


def real_space(spectrum: NDArray[np.complex128]) -> NDArray[np.float32]:
    """Return the (..., k, k) kernels, k = 2 HALF + 1, of transforms on the grid."""
    plane = np.roll(fft.irfft2(spectrum, s=(GRID, GRID)), (HALF, HALF), axis=(-2, -1))
    return np.ascontiguousarray(plane[..., : 2 * HALF + 1, : 2 * HALF + 1], dtype=np.float32)


def tile_medians(values: FloatImage, good: BoolImage, tiling: Tiling, stride: int = 4) -> FloatArray:
    """Return the median of every ``stride``-th good pixel per tile; that of all tiles if a tile has none."""
    medians = np.full(tiling.grid, np.nan)
    for row, column, y, x in tiling:
        sample = values[y, x][::stride, ::stride][good[y, x][::stride, ::stride]]
        if sample.size >= 20:
            medians[row, column] = np.median(sample)
    if np.isnan(medians).all():
        return medians
    return np.where(np.isnan(medians), np.nanmedian(medians), medians)


def tile_correlation(correlation: NDArray[np.float32], source_tile: int, good: BoolImage, tiling: Tiling) -> FloatArray:
    """Average a stack's noise correlation, stored in tiles of another size, over the tiles of the difference.

    Parameters
    ----------
    correlation
        (n, m, k, k) float32, in tiles of ``source_tile`` pixels.
    source_tile
        Side of those tiles.
    good
        (ny, nx) bool, pixels used.
    tiling
        Tiles of the difference.
    """
    rows, columns = tiling.grid
    result = np.empty((rows, columns, *correlation.shape[2:]))
    for row, column, y, x in tiling:
        total, share = np.zeros(correlation.shape[2:]), 0.0
        for j in range(y.start // source_tile, (y.stop - 1) // source_tile + 1):
            for i in range(x.start // source_tile, (x.stop - 1) // source_tile + 1):
                ys = slice(max(y.start, j * source_tile), min(y.stop, (j + 1) * source_tile))
                xs = slice(max(x.start, i * source_tile), min(x.stop, (i + 1) * source_tile))
                count = float(np.count_nonzero(good[ys, xs])) + 1e-3
                total += count * correlation[j, i]
                share += count
        result[row, column] = total / share
    return result


def whiten(difference: FloatImage, good: BoolImage, noise: TileNoise, tiling: Tiling) -> FloatImage:
    """Convolve the plain difference with the whitening kernels; bad pixels are filled, in place, from good ones.

    Beside zeros a kernel with negative wings makes a source too bright: by 13 % two pixels from the middle of a hole of
    3 by 3 pixels where the search image was convolved, by 2.6 % with filled ones.
    """
    fill_bad(difference, good)
    return filter_tiles(tiling, (pixels_of(difference),), lambda row, column: (noise.whitening[row, column],))[0]


@numba.njit(cache=True)
def fill_bad(image: FloatImage, good: BoolImage) -> None:
    """Replace bad pixels by the nearest good ones in the four directions along the axes, weighted by 1/distance.

    A direction without one within :data:`FILL_REACH` pixels counts as zero beyond, so that wide holes fade to zero.
    """
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            if good[j, i]:
                continue
            total = weights = 0.0
            for dj, di in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                value, distance = 0.0, FILL_REACH + 1
                for step in range(1, FILL_REACH + 1):
                    b, a = j + step * dj, i + step * di
                    if b < 0 or b >= ny or a < 0 or a >= nx:
                        break
                    if good[b, a]:
                        value, distance = image[b, a], step
                        break
                total += value / distance
                weights += 1.0 / distance
            image[j, i] = total / weights


def predicted_weight(
    search_weight: FloatImage,
    template_weight: FloatImage,
    model: FloatImage,
    gains: tuple[float, float],
    model_error: FloatImage | None,
    noise: TileNoise,
    tiling: Tiling,
) -> FloatImage:
    """Return the inverse variance of the whitened difference, including the photon noise of the subtracted template.

    Parameters
    ----------
    search_weight, template_weight
        (ny, nx) float32, inverse variance from sky and readout; zero for bad pixels.
    model
        (ny, nx) float32, the matched template.
    gains
        Photo-electrons per unit of flux of the two images.
    model_error
        (ny, nx) float32, relative error of the model at pixels with missing stack inputs; None if there is none.
    noise, tiling
        Variance factors per tile and part.
    """
    out = np.zeros(model.shape, dtype=np.float32)
    for row, column, part, y, x in pieces(tiling, noise.parts):
        search, template = (np.float32(factor) for factor in noise.factors(row, column, part))
        photons = np.float32(search / gains[0] + template / gains[1])
        _weight(out[y, x], search_weight[y, x], template_weight[y, x], model[y, x], search, template, photons)
    if noise.parts is not None:
        out *= noise.parts.pixels(noise.parts.scale**-2.0, out.shape)
    if model_error is not None:
        for rows in bands(model.shape[0]):
            out[rows] /= np.float32(1.0) + out[rows] * (model_error[rows] * model[rows]) ** 2
    return out


@numba.njit(cache=True, error_model="numpy")
def _weight(
    out: FloatImage,
    search_weight: FloatImage,
    template_weight: FloatImage,
    model: FloatImage,
    search: np.float32,
    template: np.float32,
    photons: np.float32,
) -> None:
    zero, one = np.float32(0.0), np.float32(1.0)
    for j in range(out.shape[0]):
        target, ours, theirs, light = out[j], search_weight[j], template_weight[j], model[j]
        for i in range(target.size):
            value = one / (search / ours[i] + template / theirs[i] + photons * max(light[i], zero))
            target[i] = value if ours[i] > zero and theirs[i] > zero else zero


CLIP_SIGMA, CLIP_ROUNDS, LEAST_SCATTER = 5.0, 4, 0.01
"""Clipping limit of the widths of tiles and rounds of the fit, and their least scatter, relative."""


def noise_width(
    values: FloatImage, blank: BoolImage, tiling: Tiling, *, degree: int, offset: int = 0
) -> tuple[FloatArray, float]:
    """Measure the width of normalised noise in blank sky, as a smooth function of position.

    Parameters
    ----------
    values
        (ny, nx) float32, noise in units of its predicted sigma.
    blank
        (ny, nx) bool, pixels of blank sky.
    tiling
        Tiles in which the width is measured.
    degree
        Degree of the spatial polynomial fitted to the tiles' widths.
    offset
        First pixel along both axes: in a large image every second or third pixel is used.

    Returns
    -------
    smooth
        (n, m) width in every tile.
    width
        Width of all blank pixels together, relative to the smooth function.
    """
    stride = 1 + min(int(np.sqrt(values.size / SAMPLE)), 2)
    widths, counts = np.ones(tiling.grid), np.zeros(tiling.grid)
    samples: list[tuple[int, int, NDArray[np.float32]]] = []
    for row, column, y, x in tiling:
        step = (slice(offset, None, stride), slice(offset, None, stride))
        sample = np.abs(values[y, x][step][blank[y, x][step]])
        if sample.size >= 200:
            widths[row, column] = MAD_TO_SIGMA * np.median(sample)
            counts[row, column] = sample.size
            samples.append((row, column, sample))
    if not samples:
        return np.ones(tiling.grid), float("nan")
    smooth = np.exp(_smooth_surface(np.log(np.maximum(widths, 1e-3)), counts, degree))
    together = np.concatenate([s / np.float32(smooth[row, column]) for row, column, s in samples])
    return smooth, float(MAD_TO_SIGMA * np.median(together))


def _smooth_surface(values: FloatArray, counts: FloatArray, degree: int) -> FloatArray:
    """Fit a polynomial to tiles; those that are far above it, which light covers, keep their values."""
    rows, columns = values.shape
    used = counts > 0
    while degree > 0 and np.count_nonzero(used) < 3 * (degree + 1) * (degree + 2) // 2:
        degree -= 1
    v, u = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    basis = np.stack([u**i * v**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=-1)
    root = np.sqrt(counts)
    usual = np.median(root[used])
    surface, kept = np.full(values.shape, np.median(values[used])), used
    for _ in range(CLIP_ROUNDS):
        off = (values - surface) * np.minimum(root / usual, 1.0)  # tiles with few pixels scatter more
        kept = used & (np.abs(off) <= CLIP_SIGMA * max(mad_sigma(off[used]), LEAST_SCATTER))
        solution = np.linalg.lstsq(basis[kept] * root[kept][:, None], values[kept] * root[kept], rcond=None)[0]
        surface = basis @ solution
    return np.where(used & ~kept, np.maximum(values, surface), surface)


def lag_one(values: FloatImage, blank: BoolImage, limit: float = 4.0) -> tuple[float, float]:
    """Return the correlation of neighbouring blank pixels along x and y; in a large image from every eighth row."""
    rows = np.arange(0, values.shape[0] - 1, 8 if values.size > SAMPLE else 1)
    here, above = values[rows], values[rows + 1]
    good_here, good_above = blank[rows] & (np.abs(here) < limit), blank[rows + 1] & (np.abs(above) < limit)
    square = float(np.mean(here[good_here].astype(float) ** 2)) if good_here.any() else float("nan")
    pairs_x, pairs_y = good_here[:, 1:] & good_here[:, :-1], good_here & good_above
    if not pairs_x.any() or not pairs_y.any():
        return float("nan"), float("nan")
    lag_x = float(np.mean((here[:, 1:] * here[:, :-1])[pairs_x], dtype=float)) / square
    lag_y = float(np.mean((here * above)[pairs_y], dtype=float)) / square
    return lag_x, lag_y
