"""Estimate the seeing (FWHM) of a CCD from its brightest peaks, before source detection."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from imaging.bits import NOT_SKY
from imaging.catalogue.shapes import core_widths
from imaging.errors import CcdError
from imaging.image import FloatImage, MaskImage
from imaging.measure.double_image import LEAST_RATIO, REACH, find_double_image, stamps_around
from imaging.measure.settings import MeasureSettings
from imaging.numerics.robust import mad_sigma
from imaging.psf.select import stellar_size

FloatArray = NDArray[np.float64]

CUT_OUT_PIXELS = 1_000_000
"""Number of pixels below which an image is a cut-out, in which few stars are no sign of bad weather."""


@dataclass(frozen=True, slots=True)
class Seeing:
    """The seeing of a CCD.

    Attributes
    ----------
    fwhm_pixels
        Full width at half maximum of a star, that of a round one.
    short_pixels
        Width along the short axis if the stars are elongated, else the same.
    n_stars
        Number of stars near that width.
    """

    fwhm_pixels: float
    short_pixels: float
    n_stars: int


def estimate_fwhm(science: FloatImage, mask: MaskImage, settings: MeasureSettings) -> Seeing:
    """Estimate the seeing from the brightest unsaturated peaks.

    Cosmic rays, which need not be masked, are identified by their steep drop to neighbouring pixels; the sharpest of
    the common widths of the other peaks is that of the stars.

    Parameters
    ----------
    science
        (ny, nx) float32, sky-subtracted, or with flat sky.
    mask
        (ny, nx) int16, saturated and bad pixels.
    settings
        Thresholds.

    Raises
    ------
    CcdError
        ``too_few_stars``; ``double_image`` if the telescope jumped during the exposure.
    """
    sample = science[::16, ::4][(mask[::16, ::4] & int(NOT_SKY)) == 0]
    if sample.size == 0:
        raise _too_few(0, science, settings)
    level, sigma = float(np.median(sample)), mad_sigma(sample)
    x, y, peak = _peaks(science, mask, level, settings.seeing_peak_sigma * sigma, int(NOT_SKY))
    brightest = np.argsort(-peak, kind="stable")[: settings.seeing_maximum_peaks]
    x, y, peak = x[brightest], y[brightest], peak[brightest]
    good = ((mask & int(NOT_SKY)) == 0).astype(np.float32)
    flat = science - np.float32(level)
    _require_one_image(flat, good, x, y, peak)
    column, row = x, y
    x, y = _refine(science, good, x, y)
    widths = core_widths(flat, good, x, y, peak, REACH)
    low, high = settings.seeing_range_pixels
    stellar = widths[(widths > low) & (widths < high)]
    if stellar.size < settings.seeing_minimum_stars:
        raise _too_few(stellar.size, science, settings)
    fwhm = stellar_size(stellar)
    near = np.abs(widths / fwhm - 1.0) < 0.15
    if near.sum() < settings.seeing_minimum_stars:
        raise _too_few(int(near.sum()), science, settings)
    short = _short_width(flat, column[near], row[near], peak[near])
    return Seeing(fwhm, min(short, fwhm), int(near.sum()))


def _short_width(science: FloatImage, x: FloatArray, y: FloatArray, peak: FloatArray) -> float:
    """Return the least width at half maximum through the peak of the median star, pixels."""
    star = np.median(stamps_around(science, x, y, peak), axis=0)
    radii, angles = np.arange(0.0, REACH, 0.1), np.pi * np.arange(16) / 8
    places = REACH + radii * np.stack([np.sin(angles), np.cos(angles)])[..., None]
    below = map_coordinates(star, places, order=1) < 0.5
    half = np.where(below.any(axis=1), radii[np.argmax(below, axis=1)], np.inf)
    return float((half[:8] + half[8:]).min())


def _require_one_image(science: FloatImage, good: FloatImage, x: FloatArray, y: FloatArray, peak: FloatArray) -> None:
    double = find_double_image(science, good, x, y, peak)
    if double is not None:
        raise CcdError(
            "the stars have two images: the telescope jumped while the shutter was open",
            reason="double_image",
            step="seeing",
            value=f"{double.share:.0%} of the light is {double.distance_pixels:.1f} pixels away from the rest "
            f"(x {double.dx:+.1f}, y {double.dy:+.1f}), on {double.n_stars} of {double.n_seen} stars",
            limit=f"no second maximum above {LEAST_RATIO:g} of the first",
            remedy="check the guiding; leave this exposure out, no point-spread function describes it",
        )


@njit(cache=True)
def _peaks(
    science: FloatImage, mask: MaskImage, level: float, threshold: float, bad: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Find pixels above a threshold that are local maxima of 7 x 7 unmasked pixels.

    A peak whose four neighbours have less than 0.35 of it on average is a cosmic ray for any seeing.
    """
    ny, nx = science.shape
    xs, ys, peaks = [0.0], [0.0], [0.0]
    for j in range(4, ny - 4):
        for i in range(4, nx - 4):
            value = science[j, i] - level
            if value < threshold:
                continue
            highest = True
            for q in range(-3, 4):
                for p in range(-3, 4):
                    if science[j + q, i + p] > science[j, i] or mask[j + q, i + p] & bad:
                        highest = False
                        break
                if not highest:
                    break
            beside = science[j - 1, i] + science[j + 1, i] + science[j, i - 1] + science[j, i + 1] - 4.0 * level
            if highest and beside > 4.0 * 0.35 * value:
                xs.append(float(i))
                ys.append(float(j))
                peaks.append(float(value))
    return np.array(xs)[1:], np.array(ys)[1:], np.array(peaks)[1:]


@njit(cache=True)
def _refine(science: FloatImage, good: FloatImage, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the barycentres of the 5 x 5 pixels around each peak, above the lowest of them."""
    cx, cy = x.copy(), y.copy()
    for k in range(x.size):
        i0, j0 = int(x[k]), int(y[k])
        floor = science[j0 - 2 : j0 + 3, i0 - 2 : i0 + 3].min()
        total = mx = my = 0.0
        for j in range(j0 - 2, j0 + 3):
            for i in range(i0 - 2, i0 + 3):
                value = (science[j, i] - floor) * good[j, i]
                total += value
                mx += value * (i - i0)
                my += value * (j - j0)
        if total > 0.0:
            cx[k] += mx / total
            cy[k] += my / total
    return cx, cy


def _too_few(found: int, science: FloatImage, settings: MeasureSettings) -> CcdError:
    seen = "check for clouds, a closed dome or a wrong focus; the CCD is skipped"
    return CcdError(
        "too few stars to measure the seeing",
        reason="too_few_stars",
        step="seeing",
        value=found,
        limit=f"at least {settings.seeing_minimum_stars} peaks above {settings.seeing_peak_sigma:g} sigma",
        remedy=seen if science.size >= CUT_OUT_PIXELS else "give a larger part of the image, or deeper images",
    )
