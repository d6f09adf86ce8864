"""PSF photometry of all sources with neighbours subtracted, and the star/galaxy statistic SPREAD_MODEL.

Every source is fitted with position and flux free, brightest first, on an image from which the current models of all
other sources are subtracted; a few sweeps converge even in crowded fields (the scheme of DAOPHOT's ALLSTAR and of
DoPHOT: Stetson 1987, PASP 99, 191; Schechter, Mateo and Saha 1993, PASP 105, 1342). The weights are those of the sky
noise alone, so that an imperfect PSF biases bright and faint stars equally and the zero point removes the bias. The
star/galaxy statistic is SPREAD_MODEL (Desai, Armstrong, Mohr et al. 2012, ApJ 757, 83).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.catalogue.psf_source import add_source, error_and_chi2, fit_one, samples_at, spread_model, window_one
from imaging.catalogue.settings import CatalogueSettings
from imaging.image import CcdImage, FloatImage
from imaging.numerics.gaussian import FWHM_TO_SIGMA
from imaging.numerics.rings import ring_medians
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]

SPREAD_SCALE_FWHM = 1.0 / 16.0
"""Scale length of the exponential disk of SPREAD_MODEL, in FWHM."""

NEIGHBOUR_FWHM = 4.0
"""From the third sweep on, only sources with a neighbour within this distance, in FWHM, are refitted."""

WING_SIGMA = 0.2
"""A source is subtracted to the radius where its model falls below this fraction of the sky noise."""


@dataclass(frozen=True, eq=False)
class PsfPhotometry:
    """Results of the PSF fits; every array is (n,) float64.

    Attributes
    ----------
    flux, flux_error
        Electrons in the reference aperture; NaN if the source has no usable pixel.
    chi2
        Reduced chi-square of the fit.
    background
        Local background, electrons per pixel, that was subtracted before the fit.
    x, y, x_error, y_error
        Windowed centroids on the image without the neighbours, and their errors, pixels.
    spread_model, spread_model_error
        Star/galaxy statistic.
    """

    flux: FloatArray
    flux_error: FloatArray
    chi2: FloatArray
    background: FloatArray
    x: FloatArray
    y: FloatArray
    x_error: FloatArray
    y_error: FloatArray
    spread_model: FloatArray
    spread_model_error: FloatArray


def psf_photometry(
    image: CcdImage,
    psf: PsfModel,
    x: FloatArray,
    y: FloatArray,
    brightness: FloatArray,
    settings: CatalogueSettings,
    window_pixels: float | None = None,
) -> PsfPhotometry:
    """Fit the PSF to all sources of an image.

    Parameters
    ----------
    image
        Sky-subtracted pixels.
    psf
        Point-spread function.
    x, y
        (n,) windowed centroids, pixels, 0-based.
    brightness
        (n,) any quantity that increases with flux; sets the order of the fits.
    settings
        Radii and number of sweeps.
    window_pixels
        Full width at half maximum of the window of ``x`` and ``y``; None for that of the PSF.

    Returns
    -------
    photometry
        One entry per source, in the given order.
    """
    fwhm = psf.fwhm_pixels
    fit_radius = settings.psf_fit_radius_fwhm * fwhm
    ring = (settings.background_inner_fwhm * fwhm, settings.background_outer_fwhm * fwhm)
    model = (psf.coefficients, psf.degree, psf.step, psf.origin, psf.scale)
    order = np.argsort(-brightness, kind="stable")
    residual = image.science.astype(np.float32, copy=True)
    good = image.weight[::8, ::8]
    good = good[good > 0]
    sigma = float(1.0 / np.sqrt(np.median(good))) if good.size else 1.0
    extent = _wing_extent(psf, sigma)
    px, py = np.array(x, dtype=float), np.array(y, dtype=float)
    flux, background = np.zeros(x.size), np.zeros(x.size)
    crowded = _has_neighbour(x, y, NEIGHBOUR_FWHM * fwhm)
    usable = image.weight > 0
    for sweep in range(settings.psf_sweeps):
        if sweep > 0:
            background = ring_medians(residual, usable, x, y, *ring)
        if sweep > 1:
            order = order[crowded[order]]
        _sweep(
            residual, image.weight, model, order, (x, y), (px, py), flux, background, extent,
            fit_radius, settings.maximum_shift_pixels,
        )  # fmt: skip
    spread = np.ascontiguousarray(_spread_coefficients(psf))
    table = _finish(
        residual, image.weight, model, spread, (x, y), (px, py), flux, background, extent, fit_radius,
        (window_pixels or fwhm) * FWHM_TO_SIGMA,
    )  # fmt: skip
    return PsfPhotometry(flux, table[:, 0], table[:, 1], background, *table[:, 2:].T)


def _has_neighbour(x: FloatArray, y: FloatArray, distance: float) -> NDArray[np.bool_]:
    """Return which positions have a neighbour within a distance."""
    if x.size < 2:
        return np.zeros(x.size, bool)
    places = np.stack([x, y], axis=-1)
    return cKDTree(places).query(places, k=2)[0][:, 1] < distance


def _wing_extent(psf: PsfModel, sigma: float) -> FloatArray:
    """Return the flux limit of each half width of the drawn model, from 0 to that of the PSF model."""
    reach = int(psf.step * (psf.coefficients.shape[1] // 2))
    stamp = np.abs(psf.stamp(*psf.origin, reach))
    rows, columns = np.indices(stamp.shape) - reach
    box = np.maximum(np.abs(rows), np.abs(columns))
    outside = np.array([stamp[box >= r].max() for r in range(reach + 1)])
    return WING_SIGMA * sigma / np.maximum(outside, 1e-12)


def _spread_coefficients(psf: PsfModel) -> NDArray[np.float32]:
    """Convolve the PSF's coefficient images with a small exponential disk."""
    n = psf.coefficients.shape[1]
    frequency = np.fft.fftfreq(n, psf.step)
    k2 = frequency[:, None] ** 2 + frequency[None, :] ** 2
    transfer = (1.0 + (2 * np.pi * SPREAD_SCALE_FWHM * psf.fwhm_pixels) ** 2 * k2) ** -1.5
    return np.fft.ifft2(np.fft.fft2(psf.coefficients) * transfer).real.astype(np.float32)


@njit(cache=True)
def _half_width(flux: float, extent: FloatArray, least: int) -> int:
    """Return the half width with which a source of some flux is drawn."""
    width = least
    while width < extent.size - 1 and flux > extent[width]:
        width += 1
    return min(width, extent.size - 1)


@njit(cache=True)
def _sweep(
    residual: FloatImage,
    weight: FloatImage,
    model: tuple,
    order: NDArray[np.int64],
    start: tuple[FloatArray, FloatArray],
    place: tuple[FloatArray, FloatArray],
    flux: FloatArray,
    background: FloatArray,
    extent: FloatArray,
    radius: float,
    max_shift: float,
) -> None:
    """Fit every source once; ``residual`` holds the image minus all current models before and after."""
    step = model[2]
    px, py = place
    least = int(np.ceil(radius)) + 1
    for k in order:
        brightest = max(flux[k], 0.0)
        half_width = _half_width(brightest, extent, least)
        samples = samples_at(model, px[k], py[k], half_width)
        if flux[k] > 0.0:
            add_source(residual, samples, step, px[k], py[k], flux[k], half_width)
        px[k], py[k], flux[k] = fit_one(
            residual,
            weight,
            samples,
            step,
            (start[0][k], start[1][k]),
            (px[k], py[k]),
            background[k],
            radius,
            max_shift,
        )
        if flux[k] > 0.0:
            half_width = _half_width(flux[k], extent, least)
            samples = samples_at(model, px[k], py[k], half_width)
            add_source(residual, samples, step, px[k], py[k], -flux[k], half_width)


@njit(cache=True)
def _finish(
    residual: FloatImage,
    weight: FloatImage,
    model: tuple,
    spread_coefficients: NDArray[np.float32],
    start: tuple[FloatArray, FloatArray],
    place: tuple[FloatArray, FloatArray],
    flux: FloatArray,
    background: FloatArray,
    extent: FloatArray,
    radius: float,
    window_sigma: float,
) -> FloatArray:
    """Measure flux error, chi-square, windowed centroid with errors, and the star/galaxy statistic of every source."""
    _, degree, step, origin, scale = model
    px, py = place
    table = np.full((px.size, 8), np.nan)
    least = int(np.ceil(radius)) + 1
    inside = int(np.ceil(max(radius, 4.0 * window_sigma)))
    for k in range(px.size):
        half_width = max(_half_width(max(flux[k], 0.0), extent, least), inside)
        samples = samples_at(model, px[k], py[k], half_width)
        wide_model = (spread_coefficients, degree, step, origin, scale)
        wide = samples_at(wide_model, px[k], py[k], half_width)
        if flux[k] > 0.0:
            add_source(residual, samples, step, px[k], py[k], flux[k], half_width)
        table[k, 0], table[k, 1] = error_and_chi2(
            residual, weight, samples, step, (px[k], py[k]), flux[k], background[k], radius
        )
        table[k, 2:6] = window_one(
            residual, weight, samples, step, (start[0][k], start[1][k]), flux[k], background[k], window_sigma
        )
        table[k, 6], table[k, 7] = spread_model(
            residual, weight, samples, wide, step, (px[k], py[k]), flux[k], background[k], radius
        )
        if flux[k] > 0.0:
            add_source(residual, samples, step, px[k], py[k], -flux[k], half_width)
    return table
