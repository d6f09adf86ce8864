"""Turn an image that another pipeline made into one that can be subtracted: sky, weight, PSF, zero point."""

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
"""Growth of the sources that are masked for the sky, pixels."""

FAINT_SNR, FAINT_PEAK, FAINT_NEIGHBOURS = 12.0, 8.0, (0.1, 0.3, 0.6)
"""Where an image has no bright star: signal to noise of a PSF star, significance of the peaks that tell the seeing, and
shares of a star's surroundings that neighbours may occupy."""

UNKNOWN_ZEROPOINT = 30.0
"""Zero point given to an image whose header has none; the template is tied to it by common stars."""


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

    A weight map that was made from the image itself holds the sources' photon noise and follows the sky's own noise;
    its median in blank sky has neither. Without a weight map the noise is measured.

    Parameters
    ----------
    science
        (ny, nx) float32.
    bad
        (ny, nx) bool, pixels to leave out.
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
    """Refuse an image without good pixels, or whose good pixels are all the same."""
    good = science[~bad]
    if good.size and good.min() < good.max():
        return
    raise CcdError(
        "the image is empty: its good pixels are all the same" if good.size else "the image has no good pixel",
        reason="no_good_pixels",
        step="difference_images",
        value=f"{good.size} good pixels",
        remedy="check that the file holds a sky image, and that the mask marks bad pixels, not good ones",
    )


def calibrate(
    loaded: LoadedImage,
    *,
    psf: PsfModel | None = None,
    zeropoint_mag: float | None = None,
    settings: MeasureSettings | None = None,
) -> CalibratedImage:
    """Bring a loaded image to this project's conventions: electrons, sky subtracted, weight of the sky alone, PSF.

    Parameters
    ----------
    loaded
        Image as its file has it.
    psf
        Its PSF, if known; measured from its stars otherwise.
    zeropoint_mag
        AB magnitude of one unit of the file, if the header's is not to be used.
    settings
        How stars are found and the PSF is fitted; the defaults, but for smaller numbers of stars, if left out.

    Raises
    ------
    CcdError
        ``no_good_pixels`` for an empty image; ``psf_too_few_stars`` or another reason of the PSF fit, if no PSF is
        given and the stars make none.
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
    """Fit a PSF to the stars of an image, with as few and as faint ones as there are.

    In an image of a few hundred pixels there may be no star of the usual brightness. Then fainter ones are taken, and
    at last a round Moffat profile of the width of the sharpest sources.

    Parameters
    ----------
    pixels
        Image, sky subtracted.
    settings
        How stars are found and the PSF is fitted.

    Raises
    ------
    CcdError
        ``too_few_stars`` if there is not a single source to tell the seeing.
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
    """Return a round Moffat profile as a PSF model that is the same everywhere.

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
