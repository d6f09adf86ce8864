"""Detect positive and negative point sources on a difference, measure and flag them."""

import math
from dataclasses import dataclass, fields, replace

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.difference.filter import flux_errors
from imaging.difference.local_psf import measure_locally, psf_errors
from imaging.difference.measure import Measurements
from imaging.difference.peaks import RIDGE_BELOW, diffuse_levels, one_of_each_place, own_peaks
from imaging.difference.records import Difference
from imaging.difference.settings import DetectionSettings
from imaging.difference.sharpness import pixel_excess
from imaging.difference.trails import connected_trails, one_of_each_trail
from imaging.image import CalibratedImage, FloatImage, MaskImage
from imaging.photometry.transparency import at_places
from imaging.psf.draw import draw_stamp, local_samples, position_terms
from imaging.schemas.difference import DetectionFlag
from imaging.templates.relative import find_bright_sources

FloatArray = NDArray[np.float64]

STAR_SEARCH_ARCSEC = 60.0
"""Largest recorded distance to a bright star."""

SAME_PLACE_FWHM = 0.5
"""Distance of fitted places, widths of the PSF, up to which two peaks are one source."""

TRAIL_SPREAD_SIGMA = 2.5
"""Significance of spread_model from which a peak without others may be a trail."""


@dataclass(frozen=True, eq=False)
class BrightStars:
    """Bright stars with veto radii: (n,) positions in pixels, magnitudes."""

    x: FloatArray
    y: FloatArray
    mag: FloatArray


@dataclass(frozen=True, eq=False)
class DifferenceDetections:
    """Detections on one difference, in order of position; (n,) arrays.

    Attributes
    ----------
    measured
        Fluxes, positions, shapes.
    score
        Flux over its measured error at the peak, signed.
    dipole_fraction
        Flux of a neighbouring peak of opposite sign over that of this one, 0 to 1.
    template_flux
        Electrons of the template within one FWHM.
    star_distance_arcsec
        Distance to the nearest bright star; NaN if far.
    pixel_excess
        Excess of one pixel of the search image over a point source, sigma.
    flags
        Bits of :class:`imaging.schemas.difference.DetectionFlag`.
    """

    measured: Measurements
    score: FloatArray
    dipole_fraction: FloatArray
    template_flux: FloatArray
    star_distance_arcsec: FloatArray
    pixel_excess: FloatArray
    flags: NDArray[np.int32]

    def __len__(self) -> int:
        return self.score.size

    @property
    def passed(self) -> NDArray[np.bool_]:
        """Which detections have no flag."""
        return self.flags == 0

    def cut_flow(self) -> dict[str, int]:
        """Return the number of detections that each cut removes after the previous cuts."""
        counts = {"detected": len(self)}
        left = np.ones(len(self), dtype=bool)
        for flag in DetectionFlag:
            hit = left & ((self.flags & int(flag)) != 0)
            counts[flag.name.lower() if flag.name else str(int(flag))] = int(hit.sum())
            left &= ~hit
        return counts | {"passed": int(left.sum())}


def detect(
    difference: Difference, settings: DetectionSettings, stars: BrightStars | None = None
) -> DifferenceDetections:
    """Detect and measure all sources above the threshold, of either sign.

    Parameters
    ----------
    difference
        The difference.
    settings
        Threshold and cuts.
    stars
        Bright stars; None takes those of the matched template.

    Returns
    -------
    detections
        All detections; those without a flag have passed the cuts.
    """
    stars = stars or stars_of_template(difference.model, difference.search)
    fwhm = difference.psf.fwhm_pixels
    x, y, score = find_peaks(difference.score, settings.threshold_sigma, settings.peak_radius_pixels)
    noise, systematic = flux_errors(
        *(difference.filtered, x, y, difference.scale_error, difference.shift_error),
        *(difference.widths, difference.tiling),
    )
    error = np.hypot(noise, systematic)
    psf_error = psf_errors(difference, x, y)
    flux, light = score * error, difference.filtered.template_flux
    own = own_peaks(
        *(x, y, flux, error, light),
        *(difference.filtered.psf_stamps, difference.tiling),
        *(settings.threshold_sigma, np.hypot(settings.psf_error, psf_error)),
    )
    x, y, score, noise, systematic = (values[own] for values in (x, y, score, noise, systematic))
    on_light = light[y.astype(int), x.astype(int)] > np.abs(flux[own])
    measured = measure_locally(difference, x, y, score, settings)
    width = noise * np.sqrt(np.maximum(difference.filtered.norm[y.astype(int), x.astype(int)], 0.0))
    single, on_trail = _merge_trails(difference, (x, y, score), width, on_light, measured, settings)
    x, y, score, width, systematic = (values[single] for values in (x, y, score, width, systematic))
    measured, on_trail = measured.select(single), on_trail[single]
    clouds = at_places(difference.transparency_error, measured.x, measured.y)
    proportional = np.hypot(difference.psf_flux_error, clouds)
    systematic = np.hypot(systematic, proportional * measured.flux)
    measured = replace(measured, flux_error=np.hypot(measured.flux_error * width, systematic))
    dipole = _dipole_fractions(difference, x, y, score, settings)
    template = _aperture_sums(difference.model, measured.x, measured.y, fwhm)
    subtracted = np.maximum(template, 0.0) / np.maximum(np.abs(measured.flux), 1.0)
    measured = replace(
        measured, spread_error=np.hypot(measured.spread_error, settings.template_spread_error * subtracted)
    )
    distance, vetoed = _star_distances(measured.x, measured.y, stars, difference.pixel_scale_arcsec, settings)
    excess = pixel_excess(difference.search, difference.model, measured.x, measured.y, measured.flux)
    flags = _flags(difference, measured, score, dipole, excess, vetoed, settings)
    flags[on_trail] |= int(DetectionFlag.STREAK)
    return DifferenceDetections(measured, score, dipole, template, distance, excess, flags)


def _merge_trails(
    difference: Difference,
    peaks: tuple[FloatArray, FloatArray, FloatArray],
    width: FloatArray,
    on_light: NDArray[np.bool_],
    measured: Measurements,
    settings: DetectionSettings,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which peaks are detections, and which are trails: to these, give place, light and shape of the whole."""
    x, y, score = peaks
    single, on_trail = one_of_each_trail(x, y, score, on_light, difference.score, difference.psf.fwhm_pixels)
    single &= one_of_each_place(measured.x, measured.y, score, SAME_PLACE_FWHM * difference.psf.fwhm_pixels)
    single &= _beyond_diffuse_light(difference, x, y, score, on_trail, settings.threshold_sigma)
    wide = measured.spread > TRAIL_SPREAD_SIGMA * measured.spread_error
    for found in connected_trails(difference, peaks, on_light, wide, settings):
        k, trail = found.chosen, found.trail
        single[found.members], on_trail[found.members] = False, True
        single[k], x[k], y[k] = True, trail.x, trail.y
        score[k] = trail.flux / (trail.sky_error * width[k])
        middle = measure_locally(difference, x[[k]], y[[k]], score[[k]], settings)
        for column in fields(Measurements):
            getattr(measured, column.name)[k] = getattr(trail, column.name, getattr(middle, column.name)[0])
    return single, on_trail


def _beyond_diffuse_light(
    difference: Difference,
    x: FloatArray,
    y: FloatArray,
    score: FloatArray,
    on_trail: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.bool_]:
    """Return which peaks exceed the threshold beyond the diffuse light around them.

    A trail is a ridge of its own, and sources on a line look like one: strong peaks are not compared with ridges.
    """
    psf = difference.filtered.psf_stamps.mean(axis=(0, 1))
    noise_pixels, known = float(psf.sum() ** 2 / np.sum(psf**2)), difference.filtered.norm > 0
    peaks, may_ridge = (x, y, score), ~on_trail & (np.abs(score) < threshold + RIDGE_BELOW)
    levels = diffuse_levels(difference.score, known, peaks, noise_pixels, difference.psf.fwhm_pixels, may_ridge)
    return np.abs(score - levels) >= threshold


def find_peaks(score: FloatImage, threshold: float, radius: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Find the local extrema of a significance image beyond a threshold.

    Parameters
    ----------
    score
        (ny, nx) float32.
    threshold
        Lowest absolute value.
    radius
        Radius within which a peak is the highest (if negative, the lowest) pixel.

    Returns
    -------
    x, y, score
        (n,) peaks, in order of row and column.
    """
    rows, columns = _find_peaks(score, np.float32(threshold), radius)
    return columns.astype(float), rows.astype(float), score[rows, columns].astype(float)


def stars_of_template(model: FloatImage, search: CalibratedImage, brightest: float = 18.0) -> BrightStars:
    """Return the bright stars of the matched template, whose saturated cores are filled.

    Parameters
    ----------
    model
        (ny, nx) float32, the matched template in electrons of the search image.
    search
        Search image.
    brightest
        Magnitude of the faintest star.
    """
    ny, nx = model.shape
    peak = float(search.psf.stamp(nx / 2, ny / 2, 1).max())
    lowest = peak * 10 ** (-0.4 * (brightest - search.zeropoint_mag))
    ones = np.ones_like(model)
    x, y, height = find_bright_sources(model, ones, min_snr=lowest, maximum=math.inf, border=1)
    return BrightStars(x, y, search.zeropoint_mag - 2.5 * np.log10(height / peak))


def _flags(
    difference: Difference,
    m: Measurements,
    score: FloatArray,
    dipole: FloatArray,
    excess: FloatArray,
    vetoed: NDArray[np.bool_],
    settings: DetectionSettings,
) -> NDArray[np.int32]:
    ny, nx = difference.score.shape
    edge = settings.edge_pixels
    spread_sigma = m.spread / np.maximum(m.spread_error, 1e-9)
    sharp = (m.spread < settings.cosmic_ray_spread) & (spread_sigma < -settings.spread_sigma)
    sharp |= (excess > settings.cosmic_ray_pixel_sigma) & (score > 0)
    wide = (m.spread > settings.not_psf_spread) & (spread_sigma > settings.spread_sigma)
    conditions = {
        DetectionFlag.NEGATIVE: score < 0,
        DetectionFlag.DIPOLE: (dipole > settings.max_dipole_fraction)
        & (dipole * np.abs(score) > settings.dipole_flag_sigma),
        DetectionFlag.COSMIC_RAY: sharp,
        DetectionFlag.NOT_PSF: wide | ((m.chi2 > settings.max_chi2) & ~sharp),
        DetectionFlag.MASKED: m.masked_fraction > settings.max_masked_fraction,
        DetectionFlag.NEAR_STAR: vetoed,
        DetectionFlag.NEGATIVE_PIXELS: m.negative_fraction > settings.max_negative_fraction,
        DetectionFlag.STREAK: _near_bit(
            difference.search.pixels.mask | difference.mask, m.x, m.y, int(MaskBit.STREAK), settings.streak_pixels
        ),
        DetectionFlag.EDGE: (m.x < edge) | (m.y < edge) | (m.x > nx - 1 - edge) | (m.y > ny - 1 - edge),
    }
    flags = np.zeros(score.size, dtype=np.int32)
    for flag, condition in conditions.items():
        flags[condition] |= int(flag)
    return flags


def _dipole_fractions(
    difference: Difference, x: FloatArray, y: FloatArray, score: FloatArray, settings: DetectionSettings
) -> FloatArray:
    """Fit two PSFs, one at the peak and one at the strongest nearby peak of opposite sign."""
    psf = difference.psf
    reach = math.ceil(settings.dipole_radius_fwhm * psf.fwhm_pixels)
    half = reach + 6
    fractions = np.zeros(x.size)
    padded = _Padded(difference.image, difference.weight, half)
    ny, nx = difference.score.shape
    for k in range(x.size):
        cx, cy = int(x[k]), int(y[k])
        y0, x0 = max(cy - reach, 0), max(cx - reach, 0)
        near = np.sign(score[k]) * difference.score[y0 : min(cy + reach + 1, ny), x0 : min(cx + reach + 1, nx)]
        if near.min() > -settings.dipole_sigma:
            continue
        j, i = np.unravel_index(int(np.argmin(near)), near.shape)
        shift = (float(x0 + i - cx), float(y0 + j - cy))
        terms = position_terms(x[k], y[k], psf.degree, psf.origin, psf.scale)
        samples = local_samples(psf.coefficients, terms, psf.coefficients.shape[1])
        stamps = (draw_stamp(samples, psf.step, 0.0, 0.0, half), draw_stamp(samples, psf.step, *shift, half))
        data, weight = padded.window(cx, cy)
        columns = np.stack([s.ravel() for s in stamps], axis=1)
        normal = (columns * weight[:, None]).T @ columns
        if np.linalg.det(normal) <= 0:
            continue
        fluxes = np.linalg.solve(normal, columns.T @ (weight * data))
        if fluxes[0] * fluxes[1] < 0:
            fractions[k] = min(abs(fluxes[1] / fluxes[0]), abs(fluxes[0] / fluxes[1]))
    return fractions


class _Padded:
    """Windows of an image that may extend beyond it."""

    def __init__(self, image: FloatImage, weight: FloatImage, half: int) -> None:
        self.image, self.weight, self.half = image, weight, half

    def window(self, x: int, y: int) -> tuple[FloatArray, FloatArray]:
        """Return flat data and weight about a pixel; zero weight beyond the image."""
        size = 2 * self.half + 1
        data, weight = np.zeros((size, size)), np.zeros((size, size))
        y0, x0 = y - self.half, x - self.half
        ys = slice(max(y0, 0), min(y0 + size, self.image.shape[0]))
        xs = slice(max(x0, 0), min(x0 + size, self.image.shape[1]))
        inner = (slice(ys.start - y0, ys.stop - y0), slice(xs.start - x0, xs.stop - x0))
        data[inner], weight[inner] = self.image[ys, xs], self.weight[ys, xs]
        return data.ravel(), weight.ravel()


def _aperture_sums(image: FloatImage, x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    ny, nx = image.shape
    reach = math.ceil(radius)
    sums = np.zeros(x.size)
    for k in range(x.size):
        cx, cy = round(x[k]), round(y[k])
        ys, xs = np.mgrid[max(cy - reach, 0) : min(cy + reach + 1, ny), max(cx - reach, 0) : min(cx + reach + 1, nx)]
        inside = np.hypot(ys - y[k], xs - x[k]) <= radius
        sums[k] = image[ys[inside], xs[inside]].sum(dtype=float)
    return sums


def _star_distances(
    x: FloatArray, y: FloatArray, stars: BrightStars, scale_arcsec: float, settings: DetectionSettings
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return distances to the nearest bright star, and whether the detection is within any star's veto radius."""
    distance, vetoed = np.full(x.size, np.nan), np.zeros(x.size, dtype=bool)
    if stars.x.size == 0:
        return distance, vetoed
    radius = settings.veto_radius_arcsec * 10 ** (settings.veto_growth * (15.0 - stars.mag))
    radius = np.where(stars.mag < settings.veto_mag, radius, 0.0)
    for k in range(x.size):
        all_distances = np.hypot(stars.x - x[k], stars.y - y[k]) * scale_arcsec
        nearest = float(all_distances.min())
        distance[k] = nearest if nearest < STAR_SEARCH_ARCSEC else np.nan
        vetoed[k] = bool((all_distances < radius).any())
    return distance, vetoed


def _near_bit(mask: MaskImage, x: FloatArray, y: FloatArray, bit: int, radius: int) -> NDArray[np.bool_]:
    near = np.zeros(x.size, dtype=bool)
    for k in range(x.size):
        cx, cy = round(x[k]), round(y[k])
        part = mask[max(cy - radius, 0) : cy + radius + 1, max(cx - radius, 0) : cx + radius + 1]
        near[k] = bool((part & np.int16(bit)).any())
    return near


@numba.njit(cache=True)
def _find_peaks(score: FloatImage, threshold: np.float32, radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ny, nx = score.shape
    rows, columns = [0 for _ in range(0)], [0 for _ in range(0)]
    for j in range(ny):
        for i in range(nx):
            value = score[j, i]
            if abs(value) < threshold:
                continue
            sign = np.float32(1.0) if value > 0 else np.float32(-1.0)
            highest = True
            for b in range(max(0, j - radius), min(ny, j + radius + 1)):
                for a in range(max(0, i - radius), min(nx, i + radius + 1)):
                    other = sign * score[b, a]
                    if other > sign * value or (other == sign * value and (b < j or (b == j and a < i))):
                        highest = False
                        break
                if not highest:
                    break
            if highest:
                rows.append(j)
                columns.append(i)
    return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)
