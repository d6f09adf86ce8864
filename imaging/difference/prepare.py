"""Prepare images of other pipelines for subtraction: sky, weight, PSF, zero point."""

import math
from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.catalogue.build import find_sources
from imaging.errors import CcdError
from imaging.image import CalibratedImage, CcdImage, FloatImage, LoadedImage
from imaging.measure.chain import psf_candidates
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.psf.fit import fit_psf
from imaging.psf.model import PsfModel
from imaging.psf.select import select_psf_stars
from imaging.psf.shape import normalised

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

MESH = 64
"""Side of the mesh of sky and variance, pixels."""

SOURCE_GROWTH = 4
"""Growth of the source masks for the sky measurement, pixels."""

FAINT_SNR, FAINT_PEAK, FAINT_NEIGHBOURS = 12.0, 8.0, (0.1, 0.3, 0.6)
"""Relaxed limits for images without a bright star: signal to noise of a PSF star, significance of the peaks used for
the seeing, and fractions of a star's surroundings that neighbours may occupy."""

UNKNOWN_ZEROPOINT = 30.0
"""Zero point assumed for an image without one in the header; the template is scaled to it by common stars."""


@dataclass(frozen=True, eq=False)
class SkyModel:
    """Level and noise of an image's sky.

    Attributes
    ----------
    level, variance
        (ny, nx) float32.
    """

    level: FloatImage
    variance: FloatImage


def measure_sky(science: FloatImage, bad: BoolImage, weight: FloatImage | None) -> SkyModel:
    """Measure the sky's level and the variance of its pixels on a mesh, with sources masked.

    A weight map derived from the image includes the sources' photon noise and follows noise fluctuations of the sky;
    its median in blank sky does not. Without a weight map the noise is measured.

    Parameters
    ----------
    science
        (ny, nx) float32.
    bad
        (ny, nx) bool, pixels to ignore.
    weight
        (ny, nx) float32, inverse variance; None if there is none.
    """
    mesh = {"bw": min(MESH, science.shape[1]), "bh": min(MESH, science.shape[0])}
    science = np.where(bad, np.float32(0.0), science)
    sources = bad
    for _ in range(2):
        background = sep.Background(science, mask=sources, **mesh)
        _, segmentation = sep.extract(
            science - background.back(), 2.0, err=background.globalrms, mask=bad, segmentation_map=True
        )
        sources = bad | binary_dilation(segmentation != 0, iterations=SOURCE_GROWTH)
    background = sep.Background(science, mask=sources, **mesh)
    level = background.back(dtype=np.float32)
    if weight is None:
        return SkyModel(level, background.rms(dtype=np.float32) ** 2)
    variance = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
    smooth = sep.Background(variance, mask=sources | (weight <= 0), **mesh).back(dtype=np.float32)
    return SkyModel(level, np.maximum(smooth, np.float32(1e-6) * smooth.max()))


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
        ``no_good_pixels`` for an empty image; ``psf_too_few_stars`` or another reason of the PSF fit, if no PSF is
        given and none can be fitted.
    """
    gain = np.float32(loaded.gain)
    mask = loaded.mask.copy()
    science = np.where(np.isfinite(loaded.science), loaded.science, np.float32(0.0)) * gain
    weight = None if loaded.weight is None else loaded.weight / (gain * gain)
    if weight is not None:
        mask[~(weight > 0)] |= np.int16(MaskBit.BPM)
    bad = (mask & np.int16(int(NO_WEIGHT))) != 0
    _check_pixels(science, bad)
    sky_electrons = float(loaded.header.get("SKYBRITE", 0.0) or 0.0)
    if loaded.is_own_product and weight is not None:
        pixels = CcdImage(science, mask, np.where(bad, np.float32(0.0), weight), dict(loaded.header))
    else:
        sky = measure_sky(science, bad, weight)
        science = science - sky.level
        sky_electrons = float(np.median(sky.level))
        weight = np.where(bad, np.float32(0.0), np.float32(1.0) / sky.variance)
        pixels = CcdImage(science, mask, weight, dict(loaded.header) | {"GAIN": 1.0})
    if psf is None:
        psf = measure_psf(pixels, settings)
    unit = zeropoint_mag if zeropoint_mag is not None else loaded.zeropoint_mag
    zeropoint = UNKNOWN_ZEROPOINT if unit is None else unit + 2.5 * math.log10(loaded.gain)
    return CalibratedImage(
        pixels=pixels,
        wcs=loaded.wcs,
        psf=psf,
        zeropoint_mag=zeropoint,
        sky_electrons=sky_electrons,
        saturation_electrons=loaded.saturation * loaded.gain,
        label=loaded.label,
    )


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
    return moffat_psf(estimate_fwhm(pixels.science, pixels.mask, faint).fwhm_pixels)


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
    sources = find_sources(pixels, fwhm, settings.catalogue)
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
