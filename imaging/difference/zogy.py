"""Proper image subtraction, ZOGY (Zackay, Ofek and Gal-Yam 2016), in tiles; independent of the fitted kernel.

Each image is convolved with the other's PSF over the square root of the noise power: the difference has white noise and
both images have the same effective PSF, without a fit. The PSFs and their variation come from the two models, so that
errors of the models cause residuals, unlike for a fitted kernel.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.difference.alard_lupton import subtract_mesh
from imaging.difference.masks import difference_mask, usable
from imaging.difference.noise import GRID, HALF, TileNoise, correlation_power, real_space, tile_correlation
from imaging.difference.pair import Pair, typical_variances
from imaging.difference.records import KernelSummary, Matched
from imaging.difference.registration import SourceShifts, apply_shift, fit_shift_field, measure_shifts
from imaging.difference.settings import SubtractionSettings
from imaging.difference.sources import choose_places, flux_ratio
from imaging.difference.tiles import Pixels, Tiling, filter_tiles, pixels_of, tiling_of
from imaging.errors import CcdError
from imaging.image import FloatImage
from imaging.psf.model import PsfModel
from imaging.timing import StepTimes

FloatArray = NDArray[np.float64]

CORE = 1e-3
"""Flux of a central point added to both PSFs: at frequencies that the optics do not transmit, the ratio of the two
transforms would be dominated by the models' noise; this makes it one."""


def match_zogy(pair: Pair, settings: SubtractionSettings, times: StepTimes) -> Matched:
    """Subtract using the PSF models; flux ratio, background and registration are measured.

    Parameters
    ----------
    pair
        Search and template on one grid and flux scale.
    settings
        All settings of the subtraction.
    times
        Timer of the steps.

    Raises
    ------
    CcdError
        ``kernel_sum`` if the stars' flux ratio disagrees with the zero points.
    """
    search, template = pair.search, pair.template
    ny, nx = search.science.shape
    tiling = tiling_of((ny, nx), settings.noise.tile_pixels, settings.noise.border_pixels)
    with times.step("kernel"):
        x, y = choose_places(search, template, settings.kernel)
        ratio, ratio_error = flux_ratio(search, template, x, y)
        if abs(ratio - 1.0) > settings.zogy.max_flux_ratio_error:
            raise CcdError(
                "the stars' flux ratio disagrees with the zero points",
                reason="kernel_sum",
                step="subtract",
                value=f"{ratio:.3f}",
                limit=f"1 within {settings.zogy.max_flux_ratio_error:g}",
                remedy="check the zero points of search and template",
            )
        good = (search.weight > 0) & (template.weight > 0)
        search_variance, template_variance = typical_variances(pair, tiling)
        correlation = tile_correlation(pair.correlation, pair.correlation_tile, good, tiling)
        variances, own = (search_variance, template_variance * ratio**2), pair.search_correlation
        noise, template_kernels = _proper_kernels(search.psf, template.psf, *variances, correlation, tiling, own)
    with times.step("convolution"):
        scaled: tuple[Pixels, ...] = (
            pixels_of(search.science),
            lambda y, x: template.science[y, x] * np.float32(ratio),
        )
        matched, model = filter_tiles(tiling, scaled, lambda j, i: (noise.response[j, i], template_kernels[j, i]))
    with times.step("registration"):
        weight = np.where(good, np.float32(1.0 / np.median(search_variance + template_variance)), np.float32(0.0))
        shifts, chi2 = _measure(matched, model, weight, x, y, settings)
        field = fit_shift_field(shifts, (ny, nx), settings.registration)
        model = apply_shift(model, field)
    with times.step("masks"):
        centre = template_kernels[tiling.index(nx / 2, ny / 2)].astype(float)
        sigma = math.sqrt(float(np.median(search_variance + template_variance)))
        noise_pixels = search.psf.noise_pixels(nx / 2, ny / 2)
        mask = difference_mask(search.mask, template.mask, centre, model, sigma, noise_pixels, settings.masks)
        good &= usable(mask)
    with times.step("background"):
        image = subtract_mesh(matched - model, good, model, sigma, settings.noise.background_mesh_pixels)
        image[~good] = 0.0
    summary = KernelSummary("template", ratio, ratio_error, len(x), 0, chi2, 0, 0, HALF)
    return Matched(image, model, None, mask, noise, tiling, summary, field)


def _proper_kernels(
    search: PsfModel,
    template: PsfModel,
    search_variance: FloatArray,
    template_variance: FloatArray,
    correlation: FloatArray,
    tiling: Tiling,
    search_correlation: FloatArray | None = None,
) -> tuple[TileNoise, NDArray[np.float32]]:
    """Return the kernel of the search image (its response) and that of the template, for every tile."""
    x, y = tiling.centres()
    a, b = (_psf_spectra(psf, x, y) for psf in (search, template))
    own = 1.0 if search_correlation is None else correlation_power(search_correlation)
    shape = correlation_power(correlation)
    power = search_variance[..., None, None] * own * np.abs(b) ** 2
    power = power + template_variance[..., None, None] * shape * np.abs(a) ** 2
    power = np.maximum(power, np.finfo(float).tiny)
    search_kernel, template_kernel = b / np.sqrt(power), a / np.sqrt(power)
    norm = np.abs(search_kernel[..., :1, :1])
    search_kernel, template_kernel = search_kernel / norm, template_kernel / norm
    weight = np.full(power.shape[-1], 2.0)
    weight[0] = weight[-1] = 1.0
    point = np.zeros((*x.shape, 2 * HALF + 1, 2 * HALF + 1), dtype=np.float32)
    noise = TileNoise(
        whitening=point,
        response=real_space(search_kernel),
        search_factor=np.sum(np.abs(search_kernel) ** 2 * own * weight, axis=(-2, -1)) / GRID**2,
        template_factor=np.sum(np.abs(template_kernel) ** 2 * shape * weight, axis=(-2, -1)) / GRID**2,
    )
    return noise, real_space(template_kernel)


def _psf_spectra(psf: PsfModel, x: FloatArray, y: FloatArray) -> NDArray[np.complex128]:
    """Return the transforms of the PSF at given positions, with unit flux in the reference aperture."""
    half = GRID // 2 - 1
    planes = np.zeros((*x.shape, GRID, GRID))
    for index in np.ndindex(*x.shape):
        stamp = psf.stamp(float(np.rint(x[index])), float(np.rint(y[index])), half)
        planes[index][: 2 * half + 1, : 2 * half + 1] = stamp
    return fft.rfft2(np.roll(planes, (-half, -half), axis=(-2, -1))) + CORE


def _measure(
    matched: FloatImage,
    model: FloatImage,
    weight: FloatImage,
    x: FloatArray,
    y: FloatArray,
    settings: SubtractionSettings,
) -> tuple[SourceShifts, float]:
    """Measure shifts of bright sources between the two filtered images, and their median reduced chi-square."""
    half = settings.kernel.stamp_half_width
    ny, nx = matched.shape
    inside = (x >= half) & (y >= half) & (x < nx - half) & (y < ny - half)
    x, y = x[inside], y[inside]
    offsets = np.arange(-half, half + 1)
    window = (
        y.astype(int)[:, None, None] + offsets[None, :, None],
        x.astype(int)[:, None, None] + offsets[None, None, :],
    )
    first, second, w = (plane[window].reshape(x.size, offsets.size**2) for plane in (matched, model, weight))
    w = w / (1.0 + w * np.maximum(second, 0.0) + w * (0.01 * second) ** 2)
    shifts = measure_shifts(second, first - second, w, x, y, 2 * half + 1)
    if x.size == 0:
        return shifts, float("nan")
    pixels = np.maximum(np.count_nonzero(w, axis=1), 1)
    chi2 = float(np.median(np.einsum("np,np->n", w, (first - second) ** 2) / pixels))
    snr = 1.0 / np.maximum(shifts.scale_error, 1e-9)
    return shifts.select(snr > settings.registration.min_snr), chi2
