"""Prepare images of other pipelines for subtraction: weight, gain, PSF, zero point."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.catalogue.build import REFERENCE_APERTURE, find_sources
from imaging.errors import CcdError, InputError
from imaging.foreign.cards import positive
from imaging.foreign.noise import (
    MIN_NOISE_SLOPE,
    SCALE_CARD,
    SCALE_LIMITS,
    blank_correlation,
    blank_scale,
    gain_of_stars,
    gain_of_weights,
    long_range,
    noise_slope,
)
from imaging.foreign.sky import SkyModel, measure_sky, measure_wide_sky
from imaging.image import CalibratedImage, CcdImage, FloatImage, LoadedImage, MaskImage
from imaging.masks.settings import StreakSettings
from imaging.masks.streak_model import Streak, mask_streak
from imaging.masks.streaks import find_streaks
from imaging.measure.chain import psf_candidates
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.psf.fit import fit_psf
from imaging.psf.model import PsfModel
from imaging.psf.select import select_psf_stars
from imaging.psf.shape import normalised
from imaging.templates.relative import find_bright_sources

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

FAINT_SNR, FAINT_PEAK, FAINT_NEIGHBOURS = 12.0, 8.0, (0.1, 0.3, 0.6)
"""Relaxed limits for images without a bright star: signal to noise of a PSF star, significance of the peaks used for
the seeing, and fractions of a star's surroundings that neighbours may occupy."""

TRIAL_SIGMA = 20.0
"""Noise in electrons of a pixel of blank sky that is assumed to find stars where the gain is unknown."""

CONTRADICTING_STARS, GAIN_AGREES = 20, (0.12, 3.0)
"""Fewest sources whose noise may contradict the gain of a header, and the ratios of the two gains that do not. Errors
of the PSF add to the noise: stars show a lower gain more easily than a higher one."""

MIN_SKY_SIGMA, SKY_AGREES = 10.0, 1.6
"""Level of the sky, in units of its noise, above which it may be the whole sky and show the gain; factor by which that
gain may differ from the one of the stars, which is less precise."""

UNKNOWN_ZEROPOINT = 30.0
"""Zero point assumed for an image without one in the header; the template is scaled to it by common stars."""


def _check_pixels(science: FloatImage, bad: BoolImage) -> None:
    """Raise if an image has no good pixels, or if all good pixels are equal."""
    good = science[~bad]
    if good.size and good.min() < good.max():
        return
    raise CcdError(
        "the image is empty: its good pixels are all the same" if good.size else "the image has no good pixel",
        reason="no_good_pixels",
        step="difference_images",
        value=f"{good.size} good pixels",
        remedy="check that the file contains a sky image, and that the mask marks bad pixels, not good ones",
    )


def calibrate(
    loaded: LoadedImage,
    *,
    psf: PsfModel | None = None,
    zeropoint_mag: float | None = None,
    settings: MeasureSettings | None = None,
) -> CalibratedImage:
    """Convert a loaded image to this project's conventions: electrons, sky subtracted, weight without sources, PSF.

    Parameters
    ----------
    loaded
        Image as read from its file.
    psf
        PSF, if known; otherwise measured from stars.
    zeropoint_mag
        AB magnitude of one unit of the file, overriding the header; None uses the header's.
    settings
        Star selection and PSF fit; None takes the defaults with smaller numbers of stars.

    Raises
    ------
    CcdError
        ``no_good_pixels`` for an empty image; ``gain_unknown`` if neither header nor noise shows the gain;
        ``psf_too_few_stars`` or another reason of the PSF fit, if no PSF is given and none can be fitted.
    """
    prepared = without_sky(loaded)
    electrons, psf, gain = _in_electrons(loaded, prepared, psf, settings)
    unit, electrons.header["FILEGAIN"] = loaded.zeropoint_mag if zeropoint_mag is None else zeropoint_mag, gain
    return CalibratedImage(
        pixels=electrons,
        wcs=loaded.wcs,
        psf=psf,
        zeropoint_mag=UNKNOWN_ZEROPOINT if unit is None else unit + 2.5 * math.log10(gain),
        sky_electrons=(positive(loaded.header, "SKYBRITE") or 0.0) if prepared.sky is None else prepared.sky * gain,
        saturation_electrons=loaded.saturation * gain,
        label=loaded.label,
        noise_correlation=prepared.correlation,
        transparency_error=np.full((1, 1), float(loaded.header.get("TRANSERR", 0.0))),
    )


@dataclass(frozen=True, eq=False)
class SkylessImage:
    """An image in its own unit without its sky.

    Attributes
    ----------
    pixels
        Science without the sky, mask, weight of the sky's noise.
    variance
        (ny, nx) variance of blank sky.
    sky
        Median level that was subtracted; None for a product of this project, which has none.
    correlation
        (6, 6) autocorrelation of the noise; None if it is white.
    streaks
        Streaks that were masked.
    variance_ratio
        Variance of a pixel of blank sky over that of the weight map, which is that before the resampling.
    has_relative_weights
        Whether the weight map is right but for a factor, such as a map of exposure times or of zeros and ones.
    """

    pixels: CcdImage
    variance: FloatImage
    sky: float | None
    correlation: FloatArray | None
    streaks: tuple[Streak, ...] = ()
    variance_ratio: float = 1.0
    has_relative_weights: bool = False


def without_sky(loaded: LoadedImage, *, is_wide: bool = False) -> SkylessImage:
    """Subtract the sky of a loaded image, mask its streaks, and measure its noise.

    Parameters
    ----------
    loaded
        Image as read from its file.
    is_wide
        Whether its sky is smooth over hundreds of pixels, as that of a whole CCD.

    Raises
    ------
    CcdError
        ``no_good_pixels`` for an empty image.
    """
    mask = loaded.mask.copy()
    if loaded.weight is not None:
        mask[~(loaded.weight > 0)] |= np.int16(MaskBit.BPM)
    bad = (mask & np.int16(int(NO_WEIGHT))) != 0
    absent = ~np.isfinite(loaded.science)
    science = np.where(absent, np.float32(0.0), loaded.science)
    _check_pixels(science, bad | absent)
    if loaded.is_own_product and loaded.weight is not None:
        return SkylessImage(_own_pixels(loaded, science, mask, bad), np.ones_like(science), None, None)
    sky = (measure_wide_sky if is_wide else measure_sky)(science, bad, loaded.weight)
    science -= sky.level
    ratio, correlation, is_relative = _noise(science, sky, loaded)
    variance = sky.variance * np.float32(ratio)
    science[absent] = 0.0
    weight = np.where(bad, np.float32(0.0), np.float32(1.0) / variance)
    streaks = tuple(find_streaks(science, weight, mask, StreakSettings()))
    for streak in streaks:
        mask_streak(mask, streak)
    weight[(mask & np.int16(MaskBit.STREAK)) != 0] = 0.0
    scale = {SCALE_CARD: math.sqrt(ratio)} if is_relative else {}
    pixels = CcdImage(science, mask, weight, dict(loaded.header) | {"GAIN": 1.0} | scale)
    return SkylessImage(pixels, variance, float(np.median(sky.level)), correlation, streaks, ratio, is_relative)


def in_electrons(
    loaded: LoadedImage, prepared: SkylessImage, psf: PsfModel | None = None, settings: MeasureSettings | None = None
) -> tuple[CcdImage, float]:
    """Return an image in electrons and its gain; a PSF is measured only where the noise of stars must show the gain.

    Parameters
    ----------
    loaded, prepared
        Image as read from its file, and without its sky.
    psf
        PSF, if known.
    settings
        Star selection and PSF fit.

    Raises
    ------
    CcdError
        ``gain_unknown`` if neither header nor noise shows the gain, or a reason of the PSF fit.
    """
    gain = stated_gain(loaded, prepared)
    if gain is None:
        electrons, _, gain = _in_electrons(loaded, prepared, psf, settings)
        return electrons, gain
    return _scaled(prepared.pixels, gain), gain


def stated_gain(loaded: LoadedImage, prepared: SkylessImage) -> float | None:
    """Return the electrons per unit that the header or the weights show; None if neither does.

    Parameters
    ----------
    loaded, prepared
        Image as read from its file, and without its sky.
    """
    if loaded.gain is not None or loaded.weight is None:
        return loaded.gain
    pixels = prepared.pixels
    stated = np.divide(1.0, loaded.weight, out=np.full_like(pixels.science, np.inf), where=pixels.weight > 0)
    ratio = np.float32(prepared.variance_ratio)
    if prepared.has_relative_weights:
        return gain_of_weights(pixels.science, stated * ratio, prepared.variance)
    return gain_of_weights(pixels.science, stated, prepared.variance / ratio)


def _in_electrons(
    loaded: LoadedImage, prepared: SkylessImage, psf: PsfModel | None, settings: MeasureSettings | None
) -> tuple[CcdImage, PsfModel, float]:
    """Return an image in electrons, its PSF and its gain, which is measured if the header does not say it."""
    pixels, gain = prepared.pixels, stated_gain(loaded, prepared)
    trial = gain if gain is not None else TRIAL_SIGMA / float(np.sqrt(np.median(prepared.variance)))
    electrons = _scaled(pixels, trial)
    psf = psf or measure_psf(electrons, settings)
    if gain is not None and (loaded.is_own_product or loaded.is_gain_given):
        return electrons, psf, gain
    sky, fewest = (prepared.sky or 0.0) * trial, CONTRADICTING_STARS if gain else 0
    shown = _gain_of_noise(electrons, psf, sky, fewest, prepared.correlation)
    if gain is None and shown is None:
        raise CcdError(
            f"{loaded.label}: the gain is neither in the header nor seen in the noise",
            reason="gain_unknown",
            step="difference_images",
            value="no GAIN, no weight that rises in sources, too few stars",
            remedy="give the electrons per unit of the pixels with --gain or --template-gain",
        )
    if shown is None or (gain is not None and GAIN_AGREES[0] < shown < GAIN_AGREES[1]):
        return electrons, psf, trial
    return _scaled(pixels, trial * shown), psf, trial * shown


def _noise(science: FloatImage, sky: SkyModel, loaded: LoadedImage) -> tuple[float, FloatArray | None, bool]:
    """Return the variance of a pixel over that of the sky model, the neighbours' correlation, and whether weights lie.

    The correlation is None if the noise is white. The weight map of a resampled image is that of its input or of a
    summed aperture; the variance of its pixels is then measured. So it is where the noise of the sky is another than
    resampling explains: such weights are relative.

    Raises
    ------
    InputError
        If the noise of the sky is lower where the weights are lower.
    """
    width = math.nan
    if loaded.weight is not None:
        width = blank_scale(science, np.float32(1.0) / sky.variance, sky.blank)
        slope = noise_slope(science, sky.variance, sky.blank)
        if slope is not None and slope < MIN_NOISE_SLOPE:
            raise InputError(
                "the noise of the sky is lower where the weights are lower",
                value=f"{loaded.label}: sigma^2 ~ weight^{-slope:+.1f}",
                limit="weight^-1",
                remedy="give inverse variances, or name the extension RMS or VARIANCE",
            )
    is_far = width > SCALE_LIMITS[1] or width < SCALE_LIMITS[0]
    sigma = np.sqrt(sky.variance) * np.float32(width if is_far else 1.0)
    correlation = blank_correlation(science, sigma, sky.blank)
    if math.isfinite(width) and (is_far or correlation is not None):
        return width**2, correlation, width > SCALE_LIMITS[1] or (is_far and correlation is None)
    return 1.0, correlation, False


def _own_pixels(loaded: LoadedImage, science: FloatImage, mask: MaskImage, bad: BoolImage) -> CcdImage:
    weight = loaded.weight if loaded.weight is not None else np.zeros_like(science)
    return CcdImage(science, mask, np.where(bad, np.float32(0.0), weight), dict(loaded.header))


def _scaled(pixels: CcdImage, gain: float) -> CcdImage:
    """Return an image in electrons."""
    if gain == 1.0:
        return pixels
    factor = np.float32(gain)
    return CcdImage(pixels.science * factor, pixels.mask, pixels.weight / (factor * factor), pixels.header)


def _gain_of_noise(
    pixels: CcdImage, psf: PsfModel, sky: float, min_sources: int, correlation: FloatArray | None
) -> float | None:
    """Return the electrons per unit of an image from the noise of its stars, else of its sky; None if unknown."""
    variance = np.divide(1.0, pixels.weight, out=np.full_like(pixels.weight, np.inf), where=pixels.weight > 0)
    x, y, _ = find_bright_sources(pixels.science, pixels.weight, min_snr=5.0, maximum=math.inf)
    typical = float(np.median(variance[np.isfinite(variance)])) * long_range(correlation)  # that of the input
    of_sky = sky / typical if sky > MIN_SKY_SIGMA * math.sqrt(typical) else None
    stated, gain = 1.0 if min_sources else None, None
    if x.size >= min_sources:
        gain = gain_of_stars(pixels.science, variance, psf, x, y, correlation, stated)
    if gain is None and min_sources:
        return None
    agrees = of_sky is not None and (gain is None or 1.0 / SKY_AGREES < of_sky / gain < SKY_AGREES)
    return of_sky if agrees else gain


def measure_psf(pixels: CcdImage, settings: MeasureSettings | None = None) -> PsfModel:
    """Fit a PSF to the stars of an image, even if they are few and faint.

    An image of a few hundred pixels may have no star of the usual brightness. Then fainter ones are used, and finally a
    round Moffat profile of the width of the sharpest sources.

    Parameters
    ----------
    pixels
        Image, sky subtracted.
    settings
        Star selection and PSF fit.

    Raises
    ------
    CcdError
        ``too_few_stars`` if there is no source to measure the seeing.
    """
    base = settings or MeasureSettings()
    few = base.with_values(seeing_minimum_stars=1, psf=base.psf.with_values(minimum_stars=1).model_dump())
    psf = few.psf.with_values(minimum_snr=min(FAINT_SNR, few.psf.minimum_snr), neighbour_limits=FAINT_NEIGHBOURS)
    faint = few.with_values(seeing_peak_sigma=min(FAINT_PEAK, few.seeing_peak_sigma), psf=psf.model_dump())
    for attempt in (base, few, faint):
        try:
            return _psf_of_stars(pixels, attempt)
        except CcdError:
            continue
    try:
        return moffat_psf(estimate_fwhm(pixels.science, pixels.mask, faint).fwhm_pixels)
    except CcdError as error:
        raise CcdError(
            "the image has no star to measure the seeing",
            reason=error.reason,
            step="difference_images",
            value=error.value,
            limit=error.limit,
            remedy="give the PSF with --psf or --template-psf, or a larger part of the image",
        ) from error


def moffat_psf(fwhm_pixels: float, beta: float = 3.5, half_width: int = 25) -> PsfModel:
    """Return a constant PSF model with a round Moffat profile.

    Parameters
    ----------
    fwhm_pixels
        Full width at half maximum.
    beta
        Index of the wings; 3.5 is typical of a large ground-based telescope.
    half_width
        Half width of the model, pixels.
    """
    step = 0.5
    axis = np.arange(-round(half_width / step), round(half_width / step) + 1) * step
    core = fwhm_pixels / (2.0 * math.sqrt(2.0 ** (1.0 / beta) - 1.0))
    image = (1.0 + (axis[:, None] ** 2 + axis[None, :] ** 2) / core**2) ** -beta
    model = PsfModel(image[None].astype(np.float32), 0, step, (0.0, 0.0), (1.0, 1.0), fwhm_pixels)
    return normalised(model)


def _psf_of_stars(pixels: CcdImage, settings: MeasureSettings) -> PsfModel:
    fwhm = estimate_fwhm(pixels.science, pixels.mask, settings).fwhm_pixels
    sources = find_sources(pixels, fwhm, settings.catalogue, n_apertures=REFERENCE_APERTURE + 1)
    candidates = psf_candidates(pixels, sources)
    chosen = select_psf_stars(candidates, settings.psf, fwhm)
    fit = fit_psf(
        pixels.science,
        pixels.weight,
        sources.detections.segmentation,
        candidates.x[chosen],
        candidates.y[chosen],
        candidates.flux[chosen],
        fwhm,
        settings.psf,
    )
    return fit.model
