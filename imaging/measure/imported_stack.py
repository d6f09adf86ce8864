"""Measure a stack on the sky of another survey, so that it serves as a template on its own pixel grid."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.difference.prepare import SkylessImage, in_electrons, stated_gain, without_sky
from imaging.errors import CcdError
from imaging.exposure import date_of
from imaging.foreign.cards import FILE_GAIN, FIRST_MJD_CARD, GIVEN_ZEROPOINT, LONG_RANGE_CARD, SOURCE
from imaging.foreign.identity import ForeignCcd, source_text
from imaging.foreign.noise import long_range
from imaging.foreign.patch import bounding_box, covered_polygon, outside
from imaging.foreign.stacks import dark_sky_flux
from imaging.image import CcdImage, LoadedImage
from imaging.masks.cosmic_rays import CosmicRays
from imaging.measure.chain import measure_ccd
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.imported import ImportedCcd, confirmed, moved_psf, nominal_wcs, offset_arcsec
from imaging.measure.settings import MeasureSettings
from imaging.psf.model import PsfModel
from imaging.sky.noise import check_noise
from imaging.timing import StepTimes

FloatArray = NDArray[np.float64]

LEAST = 0.2
"""Smallest variance of a pixel over the mean around it: the light of a bright source is not known exactly."""

MIN_FWHM_PIXELS = 1.6
"""Width of stars below which the pixels do not sample them, and resampling rings."""


def import_stack(
    loaded: LoadedImage,
    shown: ForeignCcd,
    reference: pa.Table,
    settings: MeasureSettings,
    *,
    psf: PsfModel | None = None,
    zeropoint_mag: float | None = None,
    gain: float | None = None,
) -> ImportedCcd:
    """Convert and measure a stack on the sky.

    It keeps its pixels, cut to the part that has data. The noise of neighbouring pixels is correlated by the
    resampling: its autocorrelation in blank sky is measured and kept for the resampling to a search CCD. Cosmic rays
    are not searched: a stack has rejected them, and coarse pixels with correlated noise resemble them.

    Parameters
    ----------
    loaded, shown, reference, settings, psf, zeropoint_mag
        As of :func:`imaging.measure.imported.import_ccd`.
    gain
        Photo-electrons per unit of the file, given by the user; None to derive it from the weights or the stars. The
        header's is that of one exposure.

    Raises
    ------
    CcdError
        If the stack is empty, does not sample its stars, or has too few of them for its seeing, its PSF or its
        coordinates.
    InputError
        If its coordinates are no cubic.
    """
    times = StepTimes()
    loaded, psf = _cut(replace(loaded, gain=gain), psf)
    with times.step("sky"):
        prepared = without_sky(loaded, is_wide=True)
        whiteness = long_range(prepared.correlation)
    with times.step("electrons"):
        image, gain = _electrons(loaded, prepared, psf, settings, whiteness, shown.exposure.band)
    with times.step("seeing"):
        fwhm = _fwhm_pixels(image, psf, settings, loaded.label)
    nominal = nominal_wcs(loaded, shown)
    scale = math.sqrt(float(nominal.pixel_area_arcsec2(image.shape[1] / 2, image.shape[0] / 2)))
    image = CcdImage(image.science, image.mask, image.weight, _header(loaded, shown, image, gain, zeropoint_mag))
    middle = replace(shown.exposure, mjd=0.5 * (shown.exposure.mjd + (shown.first_mjd or shown.exposure.mjd)))
    about = (image, middle, shown.ccd, reference, settings, fwhm)  # reference stars at the mean epoch
    measured = measure_ccd(*about, nominal=nominal, psf_model=psf, pixel_scale_arcsec=scale)
    times.add(measured.times)
    if measured.astrometry is None:
        measured = confirmed(measured, reference, middle.mjd_mid, settings.astrometry)
    quality = dict(measured.quality) | _noise_numbers(image, whiteness)
    quality |= {"n_streaks": float(len(prepared.streaks)), "file_gain": gain}
    quality["header_offset_arcsec"] = offset_arcsec(nominal, measured.wcs, image.shape)
    none = np.zeros(0)
    rays = CosmicRays(np.zeros(image.shape, np.bool_), none, none, none.astype(np.int32), none)
    return ImportedCcd(image, measured, rays, (), nominal, False, quality, times, prepared.correlation)


def _fwhm_pixels(image: CcdImage, psf: PsfModel | None, settings: MeasureSettings, label: str) -> float:
    """Return the seeing; raise if the pixels do not sample it."""
    fwhm = psf.fwhm_pixels if psf else estimate_fwhm(image.science, image.mask, settings).fwhm_pixels
    if not fwhm > MIN_FWHM_PIXELS:
        raise CcdError(
            "the pixels of the stack do not sample its stars",
            reason="undersampled",
            value=f"{fwhm:.2f} pixels, {label}",
            limit=f"{MIN_FWHM_PIXELS:g} pixels",
        )
    return fwhm


def _cut(loaded: LoadedImage, psf: PsfModel | None) -> tuple[LoadedImage, PsfModel | None]:
    """Return the part of a stack that has data; pixels outside the polygon around them are marked EDGE."""
    weight = np.ones_like(loaded.science) if loaded.weight is None else loaded.weight
    covered = np.isfinite(loaded.science) & (weight > 0)
    box = bounding_box(covered)
    if not covered.any() or min(covered[box].shape) < 2:
        raise CcdError("the stack has no pixel with weight", reason="no_good_pixels", value=loaded.label)
    mask = loaded.mask[box].copy()
    mask[outside(covered_polygon(covered[box]), mask.shape)] |= np.int16(MaskBit.EDGE)
    corner = (-box[1].start, -box[0].start)
    cut = replace(
        loaded,
        science=np.ascontiguousarray(loaded.science[box]),
        mask=mask,
        weight=np.ascontiguousarray(weight[box]),
        wcs=loaded.wcs.shifted(float(corner[0]), float(corner[1])),
    )
    return cut, moved_psf(psf, corner)


def _electrons(
    loaded: LoadedImage,
    prepared: SkylessImage,
    psf: PsfModel | None,
    settings: MeasureSettings,
    whiteness: float,
    band: str,
) -> tuple[CcdImage, float]:
    """Return the stack in photo-electrons and their number per unit.

    Weights that rise in sources show it. Else two lower limits do. One is the scatter of stars about the PSF, which its
    errors increase. The other is
    the noise of the sky, which is not darker than without the Moon.
    """
    risen = stated_gain(replace(loaded, gain=None), prepared)
    gain = loaded.gain or risen
    if gain is None:
        gain = in_electrons(loaded, prepared, psf, settings)[1]
        if loaded.zeropoint_mag is not None:
            ny, nx = loaded.science.shape
            area = float(loaded.wcs.pixel_area_arcsec2(nx / 2, ny / 2))
            variance = whiteness * float(np.median(prepared.variance[prepared.pixels.weight > 0]))
            gain = max(gain, dark_sky_flux(band, loaded.zeropoint_mag, area) / variance)
    return in_electrons(replace(loaded, gain=gain), _with_own_weights(loaded, prepared, risen))


def _with_own_weights(loaded: LoadedImage, prepared: SkylessImage, risen: float | None) -> SkylessImage:
    """Return a stack with the variance of the sky of every pixel, which jumps where the number of inputs changes.

    Parameters
    ----------
    loaded, prepared
        The stack as read, and without its sky.
    risen
        Gain that the rise of the variance in sources shows; None if it does not rise.
    """
    if loaded.weight is None:
        return prepared
    pixels = prepared.pixels
    good = pixels.weight > 0
    variance = np.divide(1.0, loaded.weight, out=np.ones_like(loaded.weight), where=good)
    if risen is not None:
        of_map = risen * (prepared.variance_ratio if prepared.has_relative_weights else 1.0)
        variance -= np.maximum(pixels.science, np.float32(0.0)) / np.float32(of_map)
    variance = np.maximum(variance * np.float32(prepared.variance_ratio), np.float32(LEAST) * prepared.variance)
    weight = np.divide(1.0, variance, out=np.zeros_like(variance), where=good)
    return replace(prepared, pixels=CcdImage(pixels.science, pixels.mask, weight, pixels.header), variance=variance)


def _header(
    loaded: LoadedImage, shown: ForeignCcd, image: CcdImage, gain: float, zeropoint_mag: float | None
) -> dict[str, Any]:
    """Return the keywords of an image of this project for a stack."""
    e, good = shown.exposure, image.weight > 0
    header: dict[str, Any] = {
        "EXPNUM": e.expnum,
        "CCDNUM": shown.ccd,
        "BAND": e.band,
        "FILTER": e.band,
        "NITE": e.night,
        "DATE-OBS": date_of(e.mjd),
        "TIMESYS": "UTC",
        "MJD-OBS": (e.mjd, "last exposure of the stack"),
        FIRST_MJD_CARD: (shown.first_mjd, "first exposure of the stack"),
        "EXPTIME": e.exptime_s,
        "TELRA": e.ra_deg,
        "TELDEC": e.dec_deg,
        "OBSTYPE": e.obstype,
        "OBJECT": e.object_name,
        "BUNIT": "electron",
        "GAIN": 1.0,
        "SATURATE": min(float(image.science[good].max()), loaded.saturation * gain),
        SOURCE: (source_text(shown.form, loaded.label), "survey and file"),
        FILE_GAIN: (gain, "electrons per unit of the file"),
    }
    if zeropoint_mag is not None:
        header[GIVEN_ZEROPOINT] = (zeropoint_mag + 2.5 * math.log10(gain), "[mag] of one electron, given")
    return header


def _noise_numbers(image: CcdImage, whiteness: float) -> dict[str, float]:
    """Return the quality numbers of sky and noise, those of uncorrelated pixels, and write them into the header."""
    noise = check_noise(image.science, image.weight, image.mask)
    sigma = noise.sigma_electrons * math.sqrt(whiteness)
    image.header["SKYBRITE"], image.header["SKYSIGMA"] = sigma**2, noise.sigma_electrons
    image.header[LONG_RANGE_CARD] = (whiteness, "variance of a sum of pixels over uncorrelated ones")
    return {
        "sky_electrons": sigma**2,
        "sky_sigma_electrons": sigma,
        "sky_offset_electrons": noise.offset_electrons,
        "noise_ratio": noise.ratio,
        "noise_correlation": whiteness,
    }
