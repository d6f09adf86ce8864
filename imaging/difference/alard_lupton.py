"""Image subtraction with a fitted PSF-matching kernel (Alard and Lupton 1998)."""

import math
from typing import Literal

import numpy as np
import sep
from numpy.typing import NDArray

from imaging.difference.basis import KernelBasis, delta_basis, gaussian_basis
from imaging.difference.convolve import convolve_varying
from imaging.difference.coverage import coverage_of, missing_input_error
from imaging.difference.kernel import MatchingKernel, term_powers
from imaging.difference.masks import difference_mask, halos, kernel_radius, share_beyond, usable
from imaging.difference.matching import KernelMatch, find_kernel, find_shifts
from imaging.difference.noise import HALF, TileNoise, tile_correlation, tile_noise, whiten
from imaging.difference.pair import Pair, Side, typical_variances
from imaging.difference.part_kernels import PartKernels
from imaging.difference.pixel_inputs import convolve_pixels
from imaging.difference.records import KernelSummary, Matched
from imaging.difference.registration import apply_shift
from imaging.difference.settings import KernelSettings, SubtractionSettings
from imaging.difference.tiles import Tiling, bands, tiling_of
from imaging.image import FloatImage
from imaging.templates.psf import fine_samples, fwhm_of_samples
from imaging.timing import StepTimes

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

FINE_MESH, FEW_CELLS = 48, (4, 8)
"""Side of the smaller cells of the residual background, pixels; fewest of them, and the number of usual cells along an
image from which on the median filter of the mesh is harmless."""

CLIP_SIGMA, UNFOLLOWED = 4.0, 0.005
"""Largest noise of a pixel that is compared, sigma; variance of the background that the usual cells leave, in units of
the noise, above which they are replaced: seven per cent of the noise per pixel is half a sigma of a source."""

CUT_SIGMA = 3.0
"""Widths of a Gaussian after which the kernel ends: one cut at two leaves a square step around bright stars."""


def match_alard_lupton(pair: Pair, settings: SubtractionSettings, times: StepTimes) -> Matched:
    """Fit the kernel, subtract, correct the registration and whiten.

    The image with the better seeing is convolved. If that is the search image, the difference is divided by the kernel
    sum, so that it is always in electrons of the search image.

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
        ``kernel_too_few_stamps``, ``kernel_sum`` or ``kernel_chi2`` if no fallback gives an acceptable kernel.
    """
    ny, nx = pair.search.science.shape
    fwhm = {"search": _fwhm(pair.search), "template": _fwhm(pair.template)}
    convolved: Literal["search", "template"] = "template" if fwhm["template"] <= fwhm["search"] else "search"
    target, reference = (pair.search, pair.template) if convolved == "template" else (pair.template, pair.search)
    basis = choose_basis(min(fwhm.values()), max(fwhm.values()), settings.kernel)
    fit = with_stamps_for(max(fwhm.values()), settings.kernel)
    mean_correlation = _white() if pair.search_correlation is None else pair.search_correlation
    if convolved == "template":
        mean_correlation = pair.correlation.mean(axis=(0, 1), dtype=float)
    with times.step("kernel"):
        search_psf = pair.search.psf if convolved == "search" else None
        coverage = None if pair.makeup is None else coverage_of(pair.makeup, search_psf)
        match = find_kernel(target, reference, basis, mean_correlation, coverage, fit)
        shifts = find_shifts(match, (ny, nx), settings.registration)
        shifts = shifts if convolved == "template" else shifts.opposite()
    with times.step("convolution"):
        plain, model = _subtract(pair, match, convolved)
        moved = apply_shift(model, shifts)
        if moved is not model:
            plain += model - moved
            model = moved
        del moved
    tiling = tiling_of((ny, nx), settings.noise.tile_pixels, settings.noise.border_pixels)
    variances = typical_variances(pair, tiling)
    with times.step("masks"):
        centre = match.kernel.images(np.array([nx / 2]), np.array([ny / 2]))[0]
        sigma = math.sqrt(float(np.median(variances[0] + variances[1] * np.sum(centre**2))))
        noise_pixels = target.psf.noise_pixels(nx / 2, ny / 2)
        mask = difference_mask(target.mask, reference.mask, centre, model, sigma, noise_pixels, settings.masks)
        good = usable(mask) & (pair.search.weight > 0) & (pair.template.weight > 0)
        radius = kernel_radius(centre, settings.masks.kernel_share) if convolved == "template" else 0
        model_error = _model_error(pair, match, radius)
    with times.step("background"):
        plain = subtract_mesh(plain, good, model, sigma, settings.noise.background_mesh_pixels, halos(mask))
    with times.step("whitening"):
        noise = _noise(pair, match, convolved, good, variances, tiling, settings)
        image = whiten(plain, good, noise, tiling)
        del plain
    summary, beyond = _summary(match, convolved), share_beyond(centre)
    return Matched(image, model, model_error, mask, noise, tiling, summary, shifts, beyond=beyond)


def _model_error(pair: Pair, match: KernelMatch, radius: int) -> FloatImage | None:
    """Return the relative error of the matched model by inputs that are missing; None for a template of one input."""
    error = None
    if pair.makeup is not None and len(pair.makeup.mean_shares) > 1:
        error = missing_input_error(pair.makeup, pair.template.weight, radius)
    if match.coverage is not None and match.measured is not None:
        ny, nx = pair.search.science.shape
        unknown = match.measured.model_error(match.coverage, (ny, nx))
        error = unknown if error is None else np.maximum(error, unknown)
    return error


def choose_basis(sharp_fwhm: float, broad_fwhm: float, settings: KernelSettings) -> KernelBasis:
    """Choose the kernel functions for two seeings.

    Parameters
    ----------
    sharp_fwhm, broad_fwhm
        Full widths at half maximum of the convolved image and of the other one, pixels.
    settings
        Widths, degrees, sizes.
    """
    if settings.basis == "delta":
        return delta_basis(settings.delta_half_width)
    matching = math.sqrt(max(broad_fwhm**2 - sharp_fwhm**2, 0.0)) / 2.3548
    base = max(matching, 2.0 * settings.min_sigma_pixels)
    widest = settings.max_half_width / CUT_SIGMA
    sigmas = tuple(min(max(f * base, settings.min_sigma_pixels), widest) for f in settings.sigma_factors)
    half_width = min(max(math.ceil(CUT_SIGMA * max(sigmas)), settings.min_half_width), settings.max_half_width)
    return gaussian_basis(sigmas, settings.degrees, half_width)


def with_stamps_for(broad_fwhm: float, settings: KernelSettings) -> KernelSettings:
    """Return settings whose stamps hold the wings of the broader image.

    Parameters
    ----------
    broad_fwhm
        Full width at half maximum of that image, pixels.
    settings
        Smallest half size, and its reach in units of the width.
    """
    half = min(math.ceil(settings.stamp_reach_fwhm * broad_fwhm), 2 * settings.max_half_width)
    return settings.with_values(stamp_half_width=max(settings.stamp_half_width, half))


def subtract_mesh(
    plain: FloatImage, good: BoolImage, model: FloatImage, sigma: float, mesh: int, halo: BoolImage | None = None
) -> FloatImage:
    """Subtract the residual background, measured on a mesh of pixels without bright sources.

    On images of few cells, the median filter of the mesh leaves what turns within three of them, such as moonlight or
    a halo. A mesh of smaller cells without filter takes its place where it explains more of the variance.

    Parameters
    ----------
    plain
        (ny, nx) float32, difference.
    good
        (ny, nx) bool, pixels to use.
    model
        (ny, nx) float32, the matched template, to exclude sources.
    sigma
        Noise of a pixel, electrons.
    mesh
        Mesh size, pixels, at most the image's; the difference is unchanged if it is zero.
    halo
        (ny, nx) bool, halos of saturated stars: there sources are what is brighter than the light around them.
    """
    if mesh == 0:
        return plain
    width, height = (min(mesh, n) for n in plain.shape[::-1])
    contiguous = np.ascontiguousarray(plain)
    masked = ~good | (model > np.float32(3.0 * sigma))
    if halo is not None and halo.any():
        own = sep.Background(np.ascontiguousarray(model), mask=~good, bw=width, bh=height, fw=3, fh=3)
        masked &= ~(good & halo & (model - own.back(dtype=np.float32) < np.float32(3.0 * sigma)))
    level = sep.Background(contiguous, mask=masked, bw=width, bh=height, fw=3, fh=3).back(dtype=np.float32)
    if FEW_CELLS[0] * FINE_MESH <= min(plain.shape) < FEW_CELLS[1] * mesh:
        fine = sep.Background(contiguous, mask=masked, bw=FINE_MESH, bh=FINE_MESH, fw=1, fh=1).back(dtype=np.float32)
        used = ~masked & (np.abs(plain - level) < np.float32(CLIP_SIGMA * sigma))
        gained = np.square((plain - level)[used]).mean() - np.square((plain - fine)[used]).mean()
        level = fine if gained > UNFOLLOWED * sigma**2 else level
    plain -= level
    return plain


def _fwhm(side: Side) -> float:
    ny, nx = side.science.shape
    return fwhm_of_samples(fine_samples(side.psf, nx / 2, ny / 2, 12), 0.5)


def _white() -> FloatArray:
    correlation = np.zeros((6, 6))
    correlation[0, 0] = 1.0
    return correlation


def _subtract(
    pair: Pair, match: KernelMatch, convolved: Literal["search", "template"]
) -> tuple[FloatImage, FloatImage]:
    """Return search minus template, in electrons of the search, and the subtracted template."""
    kernel, changes, images = match.kernel, None, None
    if match.coverage is not None:
        changes, images = match.coverage.planes(), match.changes[1:]
    if convolved == "template":
        model = convolve_varying(pair.template.science, kernel, changes, images)
        plain = pair.search.science - model
        _subtract_background(plain, kernel)
        return plain, model
    scale = np.float32(_central_sum(kernel))
    model = pair.template.science.copy()
    _subtract_background(model, kernel)
    plain = np.ascontiguousarray(convolve_varying(pair.search.science, kernel, changes, images))
    if pair.makeup is not None:
        snr = model * np.sqrt(pair.template.weight)
        parts = pair.search.psf, match.coverage, match.changes
        convolve_pixels(plain, pair.search.science, snr, kernel, pair.makeup, parts)
    plain -= model
    for image in (plain, model):
        image /= scale
    return plain, model


def _noise(
    pair: Pair,
    match: KernelMatch,
    convolved: Literal["search", "template"],
    good: BoolImage,
    variances: tuple[FloatArray, FloatArray],
    tiling: Tiling,
    settings: SubtractionSettings,
) -> TileNoise:
    """Return whitening kernel, response kernel and variance factors of every tile."""
    x, y = tiling.centres()
    scale = _central_sum(match.kernel) if convolved == "search" else 1.0
    main, changes = match.kernel.images(x.ravel(), y.ravel()) / scale, match.changes / scale
    parts = PartKernels.of(match.coverage, main.reshape(*x.shape, *main.shape[1:]), changes, tiling)
    kernels, points = parts.of_tiles, np.full((*x.shape, 1, 1), 1.0 / scale)
    search_kernels, template_kernels = (points, kernels) if convolved == "template" else (kernels, points)
    correlation = tile_correlation(pair.correlation, pair.correlation_tile, good, tiling)
    ny, nx = tiling.shape
    noise = tile_noise(
        *(search_kernels, template_kernels, *variances, correlation),
        decorrelate=settings.noise.decorrelate,
        search_correlation=pair.search_correlation,
        psf=pair.search.psf.stamp(nx / 2, ny / 2, HALF),
    )
    return noise if convolved == "template" else noise.with_parts(parts, pair.search_correlation)


def _central_sum(kernel: MatchingKernel) -> float:
    return float(kernel.sums(np.array([kernel.origin[0]]), np.array([kernel.origin[1]]))[0])


def _subtract_background(image: FloatImage, kernel: MatchingKernel) -> None:
    """Subtract the differential background, a low-order polynomial, in place."""
    ny, nx = image.shape
    terms = term_powers(kernel.background.size)
    order = sum(terms[-1])
    table = np.zeros((order + 1, order + 1))
    for (i, j), value in zip(terms, kernel.background, strict=True):
        table[j, i] = value
    u, v = ((np.arange(n) - o) / s for n, o, s in zip((nx, ny), kernel.origin, kernel.scale, strict=True))
    powers = np.arange(order + 1)
    across = (v[:, None] ** powers @ table).astype(np.float32)
    along = (u[:, None] ** powers).T.astype(np.float32)
    for rows in bands(ny):
        image[rows] -= across[rows] @ along


def _summary(match: KernelMatch, convolved: Literal["search", "template"]) -> KernelSummary:
    kernel = match.kernel
    total = float(kernel.coefficients[0, 0])
    return KernelSummary(
        convolved=convolved,
        sum=total if convolved == "template" else 1.0 / total,
        sum_error=kernel.sum_error if convolved == "template" else kernel.sum_error / total**2,
        n_stamps=kernel.n_stamps,
        n_rejected=kernel.n_rejected,
        chi2=kernel.chi2,
        order=kernel.order,
        level=kernel.level,
        half_width=kernel.basis.half_width,
        fallback=match.fallback,
    )
