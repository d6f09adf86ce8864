"""Subtract a template from a search image."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imaging.difference.alard_lupton import match_alard_lupton
from imaging.difference.blank import blank_sky, quiet_sky
from imaging.difference.bump_glow import add_bump_glow
from imaging.difference.clouds import add_cloud_errors, correct_search
from imaging.difference.detect import BrightStars, stars_of_template
from imaging.difference.filter import FilteredDifference, matched_filter, measure_scale_error, significance
from imaging.difference.ghosts import add_ghosts, add_known_ghosts
from imaging.difference.mask_edges import add_halos, add_mask_edges
from imaging.difference.masks import halos, usable
from imaging.difference.noise import lag_one, noise_width, predicted_weight
from imaging.difference.pair import Pair, prepare_pair
from imaging.difference.point_noise import correct_variances
from imaging.difference.records import Difference, Matched
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.response import (
    compare_with_psf,
    difference_psf,
    photon_factor,
    psf_flux_error,
    tile_scales,
    tile_stamps,
)
from imaging.difference.settings import SubtractionSettings
from imaging.difference.spikes import add_spikes
from imaging.difference.star_residuals import (
    add_border_residuals,
    add_edge_residuals,
    add_motions,
    add_star_residuals,
)
from imaging.difference.star_surroundings import add_star_surroundings, stars_of_mask
from imaging.difference.streaks import mask_streaks
from imaging.difference.tiles import Tiling
from imaging.difference.zogy import match_zogy
from imaging.errors import CcdError
from imaging.image import CalibratedImage, FloatImage
from imaging.photometry.transparency import rms_of
from imaging.psf.model import PsfModel
from imaging.psf.shape import aperture_flux
from imaging.templates.stack import Template
from imaging.timing import StepTimes
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

BRIGHT_SNR = 50.0
"""Signal to noise of the template in the pixels used to measure the subtraction of bright sources."""

UNCHANGED = 0.98
"""Least inverse variance of a quiet pixel in units of that before the noise of stars was added."""

LEAST_QUIET = 0.1
"""Least share of quiet pixels in which the width of the score is measured again after the noise of stars was added."""

MIN_SOURCES = 10
"""With fewer kernel sources the relative error of the subtracted brightness is assumed, not measured."""


def subtract(
    search: CalibratedImage,
    template: Template | CalibratedImage,
    settings: SubtractionSettings | None = None,
    stars: BrightStars | None = None,
) -> Difference:
    """Subtract a template from a search image, with a significance that is calibrated on blank sky.

    Parameters
    ----------
    search
        Search image, sky subtracted.
    template
        Stack (or one calibrated image) on the search image's grid.
    settings
        All settings; the defaults if left out.
    stars
        Bright stars of a catalogue, on and around the image, beside those of the template.

    Raises
    ------
    CcdError
        ``shapes_differ``, ``no_good_pixels``; ``kernel_too_few_stamps``, ``kernel_sum``, ``kernel_chi2`` if no
        kernel is acceptable; ``difference_noise`` if the noise is far from the prediction.
    """
    settings, times = settings or SubtractionSettings(), StepTimes()
    pair, matched, psf, stamps = _match(search, template, settings, times)
    with times.step("noise"):
        sky = _weigh(pair, matched, settings)
        matched = replace(matched, model_error=None)
        streaks = mask_streaks(matched.image, sky.weight, matched.mask, settings.streaks)
    with times.step("filter"):
        filtered = _filter(pair, matched, sky.weight, stamps, round(0.6 * psf.fwhm_pixels))
    with times.step("errors"):
        scale_error, score, widths, quiet = _errors(matched, filtered, sky.weight, settings, (search, template), stars)
    with times.step("quality"):
        quality = _quality(matched, sky, score, quiet, streaks) | {"scale_error": scale_error}
    return Difference(
        search=search,
        image=matched.image,
        mask=matched.mask,
        weight=sky.weight,
        score=score,
        psf=psf,
        model=matched.model,
        filtered=filtered,
        widths=widths,
        scale_error=scale_error,
        shift_error=matched.shifts.rms_after_pixels,
        psf_flux_error=psf_flux_error(search.psf, psf, matched.noise, matched.tiling),
        transparency_error=matched.transparency_error,
        photon_gain=pair.search.gain / photon_factor(search.psf, matched.noise, matched.tiling),
        noise=matched.noise,
        tiling=matched.tiling,
        kernel=matched.kernel,
        method=settings.method,
        quality=quality,
        times=times,
    )


def _match(
    search: CalibratedImage, template: Template | CalibratedImage, settings: SubtractionSettings, times: StepTimes
) -> tuple[Pair, Matched, PsfModel, FloatArray]:
    """Return the pair, its whitened difference, the PSF and its stamps per tile."""
    with times.step("prepare"):
        pair = prepare_pair(search, template)
    match = match_alard_lupton if settings.method == "alard_lupton" else match_zogy
    matched = match(pair, settings, times)
    with times.step("clouds"):
        pair, matched = correct_search(pair, matched)
    with times.step("psf"):
        matched, psf, stamps = _in_reference_aperture(search, matched)
    return pair, matched, psf, stamps


@dataclass(frozen=True, eq=False)
class _Sky:
    """The noise of the difference measured in blank sky.

    Attributes
    ----------
    weight
        (ny, nx) inverse variance, normalised.
    predicted
        Median width of the noise before the normalisation.
    width
        Width of the normalised noise, on pixels not used for the normalisation.
    lag
        Correlation of neighbouring pixels, the larger of those along x and y.
    already_masked
        Fraction of pixels masked in search or template before the convolution.
    """

    weight: FloatImage
    predicted: float
    width: float
    lag: float
    already_masked: float


def _in_reference_aperture(search: CalibratedImage, matched: Matched) -> tuple[Matched, PsfModel, FloatArray]:
    """Scale the difference so that a flux by its PSF refers to the reference aperture; return its PSF and tile stamps.

    Whitening preserves the total flux and moves a thousandth of it across the aperture's edge. A search image is
    convolved to the PSF of the stack, which jumps where a template ends, and the whitening is constant in a tile; the
    PSF model is smooth, and a flux by it would be wrong by some per cent, so that every block or tile is scaled.
    """
    noise, tiling = matched.noise, matched.tiling
    psf = difference_psf(search.psf, noise, tiling)
    flux = aperture_flux(psf)
    scale, parts = np.full(tiling.grid, 1.0 / flux), noise.parts
    matched.image[:] *= np.float32(1.0 / flux)
    stamps = tile_stamps(search.psf, noise, tiling)
    if parts is None:
        of_tiles = tile_scales(stamps, psf, tiling)
        scale *= of_tiles
        for row, column, y, x in tiling:
            matched.image[y, x] *= np.float32(of_tiles[row, column])
    else:
        parts = compare_with_psf(search.psf, psf, noise, tiling)
        scale *= parts.at(parts.scale, *tiling.centres())
        matched.image[:] *= parts.pixels(parts.scale, matched.image.shape)
    of_images = scale[..., None, None].astype(np.float32)
    scaled = replace(
        noise,
        whitening=noise.whitening * of_images,
        response=noise.response * of_images,
        search_factor=noise.search_factor / flux**2,
        template_factor=noise.template_factor / flux**2,
        parts=parts,
    )
    coefficients = (psf.coefficients / np.float32(flux)).astype(np.float32)
    return replace(matched, noise=scaled), replace(psf, coefficients=coefficients), stamps * scale[..., None, None]


def _weigh(pair: Pair, matched: Matched, settings: SubtractionSettings) -> _Sky:
    """Predict the weight of every pixel and normalise it so that blank sky has unit width; bad pixels become zero."""
    tiling = matched.tiling
    gains = (pair.search.gain, pair.template.gain)
    weight = predicted_weight(
        *(pair.search.weight, pair.template.weight, matched.model, gains, matched.model_error, matched.noise, tiling)
    )
    weight[~usable(matched.mask)] = 0.0
    matched.image[weight == 0] = 0.0
    normalised = np.sqrt(weight)
    normalised *= matched.image
    blank = blank_sky(matched.model, weight)
    factors, _ = noise_width(normalised, blank, tiling, degree=settings.noise.normalise_degree)
    predicted = float(np.median(factors))
    _check_noise(predicted, settings)
    for row, column, y, x in tiling:
        weight[y, x] /= np.float32(factors[row, column] ** 2)
        normalised[y, x] /= np.float32(factors[row, column])
    level, width = noise_width(normalised, blank, tiling, degree=0, offset=1)
    lag = max(lag_one(normalised, blank), key=abs)
    already = float(np.mean((pair.search.weight == 0) | (pair.template.weight == 0)))
    return _Sky(weight, predicted, width * float(np.mean(level)), lag, already)


def _filter(pair: Pair, matched: Matched, weight: FloatImage, stamps: FloatArray, core: int) -> FilteredDifference:
    """Return the filtered difference with the variances of fluxes in the noise that tiles leave."""
    filtered = matched_filter(matched.image, weight, matched.model, stamps, core, matched.tiling)
    correct_variances(filtered, (pair.search.weight, pair.template.weight), matched.noise, matched.tiling)
    return filtered


def _errors(
    matched: Matched,
    filtered: FilteredDifference,
    weight: FloatImage,
    settings: SubtractionSettings,
    images: tuple[CalibratedImage, Template | CalibratedImage],
    stars: BrightStars | None,
) -> tuple[float, FloatImage, FloatArray, BoolImage]:
    """Return the relative error of the subtracted brightness, the score, its width in quiet sky, and the quiet pixels.

    What else is left of bright stars is added to the noise in ``filtered`` and ``weight``. It is measured with the
    noise that quiet sky has: where that correlates, the prediction is too low, and the rest is no residual of stars.
    Pixels with noise of stars are not quiet: their score is narrower than that of sky.
    """
    search, (ny, nx), tiling, shifts = images[0], matched.model.shape, matched.tiling, matched.shifts
    quiet = quiet_sky(filtered.template_flux, filtered.norm, np.float32(settings.noise.blank_snr))
    widths = _score_widths(matched, filtered, 0.0, quiet, settings)
    _scale_noise(filtered, weight, widths, tiling)
    before, pixels_before = filtered.norm.copy(), weight.copy()
    pixel_arcsec = float(np.sqrt(search.wcs.pixel_area_arcsec2(nx / 2, ny / 2)))
    noise = ResidualNoise(filtered, weight, (0.0, 0.0), search.psf.fwhm_pixels, pixel_arcsec)
    add_motions(noise, shifts.moved)
    add_cloud_errors(noise, shifts.transparency)
    add_halos(noise, matched.mask, settings.masks.halo_error)
    scale_error = _scale_error(matched, filtered, settings)
    noise = replace(noise, errors=(scale_error, shifts.rms_after_pixels))
    add_border_residuals(noise, matched.beyond)
    add_edge_residuals(noise, matched.mask, images[1].makeup if isinstance(images[1], Template) else None)
    add_star_residuals(noise, matched.model, halos(matched.mask))
    _add_surroundings(noise, matched, *images, stars)
    noise.spread(before, pixels_before)
    before *= np.float32(UNCHANGED)
    quiet &= filtered.norm >= before
    _scale_noise(filtered, weight, 1.0 / widths, tiling)
    if quiet.mean() > LEAST_QUIET:  # with the light that is noise now the width was measured too large
        widths = _score_widths(matched, filtered, scale_error, quiet, settings)
    return scale_error, significance(filtered, scale_error, shifts.rms_after_pixels, widths, tiling), widths, quiet


def _scale_noise(filtered: FilteredDifference, weight: FloatImage, widths: FloatArray, tiling: Tiling) -> None:
    """Multiply the errors of a difference and of its pixels by a factor per tile, in place; the fluxes stay."""
    for row, column, y, x in tiling:
        for values in (filtered.numerator, filtered.norm, weight):
            values[y, x] /= np.float32(widths[row, column] ** 2)


def _add_surroundings(
    noise: ResidualNoise,
    matched: Matched,
    search: CalibratedImage,
    template: Template | CalibratedImage,
    stars: BrightStars | None,
) -> None:
    """Raise the noise by stars of template, mask and catalogue (rings, spikes, ghosts, masks), and in tape bumps.

    The optical axis of a single exposure is the reference point of its coordinates.
    """
    own = stars_of_template(matched.model, search)
    known = stars or own
    lists = [own, stars_of_mask(matched.mask, noise.fwhm_pixels, noise.pixel_scale_arcsec), known]
    x, y, mag = (np.concatenate([getattr(one, name) for one in lists]) for name in ("x", "y", "mag"))
    add_spikes(noise, known.x, known.y, 10 ** (0.4 * (search.zeropoint_mag - known.mag)))
    add_star_surroundings(noise, BrightStars(x, y, mag))
    inputs = template.inputs if isinstance(template, Template) else ()
    add_known_ghosts(noise, [(1.0, search.ghosts), *((-one.weight, one.ghosts) for one in inputs)])
    if isinstance(search.wcs, TpvWcs):
        own_axis = (search.wcs.crpix[0] - 1.0, search.wcs.crpix[1] - 1.0)
        axes = [own_axis, *(one.axis for one in inputs if one.axis)]
        add_ghosts(noise, known, axes)
    add_mask_edges(noise, matched.mask)
    add_bump_glow(noise, matched.mask)


def _scale_error(matched: Matched, filtered: FilteredDifference, settings: SubtractionSettings) -> float:
    """Return the relative error of the subtracted brightness, measured if there are enough sources."""
    shift_error = matched.shifts.rms_after_pixels
    error = measure_scale_error(filtered, shift_error, min_snr=BRIGHT_SNR, maximum=settings.noise.max_scale_error)
    if math.isnan(error) or matched.kernel.n_stamps < MIN_SOURCES:
        error = settings.noise.default_scale_error
    return math.hypot(error, matched.kernel.sum_error)


def _score_widths(
    matched: Matched,
    filtered: FilteredDifference,
    scale_error: float,
    quiet: BoolImage,
    settings: SubtractionSettings,
) -> FloatArray:
    """Return the width of the score in quiet sky per tile."""
    tiling = matched.tiling
    score = significance(filtered, scale_error, matched.shifts.rms_after_pixels, np.ones(tiling.grid), tiling)
    return noise_width(score, quiet, tiling, degree=settings.noise.normalise_degree)[0]


def _check_noise(predicted: float, settings: SubtractionSettings) -> None:
    limit = settings.noise.max_normalisation
    if not 1.0 / limit <= predicted <= limit:
        raise CcdError(
            "the noise of the difference is inconsistent with its prediction",
            reason="difference_noise",
            step="subtract",
            value=f"{predicted:.2f} times the prediction",
            limit=f"{1 / limit:.2f} to {limit:.2f}",
            remedy="check the weights and gains of search and template",
        )


def _quality(
    matched: Matched, sky: _Sky, score: FloatImage, quiet: BoolImage, streaks: tuple[int, int]
) -> dict[str, float]:
    """Return the values for the quality table; ``streaks`` are their number and that of their pixels."""
    score_level, score_width = noise_width(score, quiet, matched.tiling, degree=0, offset=1)
    masked = float(np.mean(sky.weight == 0))
    kernel, shifts, clouds = matched.kernel, matched.shifts, matched.shifts.transparency
    return {
        "difference_noise_width": sky.width,
        "noise_width_predicted": sky.predicted,
        "score_noise_width": score_width * float(np.mean(score_level)),
        "difference_lag1": sky.lag,
        "kernel_origin": kernel.origin,
        "kernel_sum": kernel.sum,
        "kernel_sum_error": kernel.sum_error,
        "kernel_stamps": kernel.n_stamps,
        "kernel_rejected": kernel.n_rejected,
        "kernel_chi2": kernel.chi2,
        "kernel_order": kernel.order,
        "registration_pixels": shifts.rms_after_pixels,
        "registration_before_pixels": shifts.rms_before_pixels,
        "registration_length_pixels": shifts.length_pixels,
        "transparency_rms": 0.0 if clouds is None else clouds.rms_before,
        "transparency_rms_after": 0.0 if clouds is None else clouds.rms_after,
        "transparency_error": rms_of(matched.transparency_error),
        "transparency_length_pixels": 0.0 if clouds is None else clouds.length_pixels,
        "masked_fraction": masked,
        "masked_by_subtraction": masked - sky.already_masked,
        "difference_streaks": streaks[0],
        "streak_fraction": streaks[1] / matched.image.size,
    }
