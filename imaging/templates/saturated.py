"""Put back the light that saturation has taken from a star's core, before the image is resampled or convolved.

A convolution spreads a saturated core, and the light that is missing there, over the kernel's reach: rings of false
positives around every bright star. The star's flux is known from its wings, and with it what the core would have been.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.image import CalibratedImage, FloatImage, MaskImage
from imaging.psf.draw import draw_stamp_and_slopes, local_samples, position_terms
from imaging.psf.model import PsfModel
from imaging.templates.pixels import repair_rows

FloatArray = NDArray[np.float64]

REACH = 20
"""Radius of the wings that are fitted, pixels."""

ITERATIONS = 5
"""Rounds of the fit of flux and position."""

ENOUGH = 0.03
"""Change of the position at which the fit has converged, pixels."""

MAX_SHIFT = 4.0
"""Farthest that the position may move from the core's middle pixel."""

MAX_RESIDUAL = 0.3
"""Largest relative residual of the wings, beyond which a core is left alone: a blend or a galaxy."""


def repair_pixels(image: CalibratedImage, max_gap: int = 12) -> FloatImage:
    """Return an image's pixels with saturated cores filled and narrow defects bridged.

    Parameters
    ----------
    image
        Image with its PSF.
    max_gap
        Widest defect that is bridged along the row, pixels.
    """
    pixels = image.pixels
    science = repair_rows(pixels.science, pixels.mask, max_gap)
    fill_saturated_cores(science, pixels.mask, pixels.weight, image.psf)
    return science


def fill_saturated_cores(science: FloatImage, mask: MaskImage, weight: FloatImage, psf: PsfModel) -> int:
    """Replace saturated cores by the PSF that fits the star's wings, in place.

    Parameters
    ----------
    science
        (ny, nx) float32, changed where cores are filled.
    mask
        (ny, nx) int16; it is not changed.
    weight
        (ny, nx) float32, inverse variance.
    psf
        PSF of the image.

    Returns
    -------
    n_filled
        Number of cores.
    """
    saturated = (mask & np.int16(MaskBit.SATURATE)) != 0
    labels, n = ndimage.label(saturated, structure=np.ones((3, 3)))
    filled = 0
    for number, box in enumerate(ndimage.find_objects(labels, n), start=1):
        core = labels[box] == number
        if core.sum() < 3:
            continue
        widest = int(np.argmax(core.sum(axis=1)))
        x = box[1].start + float(np.flatnonzero(core[widest]).mean())
        rows = np.flatnonzero(core.sum(axis=1) >= 0.8 * core[widest].sum())
        y = box[0].start + float(rows.mean())
        filled += _fill_one(science, mask, weight, psf, x, y)
    return filled


def _fill_one(science: FloatImage, mask: MaskImage, weight: FloatImage, psf: PsfModel, x: float, y: float) -> bool:
    """Fit the wings about a place and fill the core; returns whether that was possible."""
    cx, cy = round(x), round(y)
    ny, nx = science.shape
    if not (REACH <= cx < nx - REACH and REACH <= cy < ny - REACH):
        return False
    window = (slice(cy - REACH, cy + REACH + 1), slice(cx - REACH, cx + REACH + 1))
    data, bits = science[window].astype(float), mask[window]
    good = (bits & np.int16(int(NO_WEIGHT))) == 0
    axis = np.arange(-REACH, REACH + 1)
    good &= np.hypot(axis[:, None], axis[None, :]) <= REACH
    if good.sum() < 200:
        return False
    terms = position_terms(x, y, psf.degree, psf.origin, psf.scale)
    samples = local_samples(psf.coefficients, terms, psf.coefficients.shape[1])
    dx, dy = x - cx, y - cy
    noise = 1.0 / np.maximum(weight[window][good], 1e-12)
    solution = np.zeros(4)
    for _ in range(ITERATIONS):
        stamp, slope_x, slope_y = draw_stamp_and_slopes(samples, psf.step, dx, dy, REACH)
        columns = np.stack([stamp[good], slope_x[good], slope_y[good], np.ones(good.sum())], axis=1)
        w = 1.0 / (noise + np.maximum(data[good], 0.0) + (0.05 * data[good]) ** 2)
        weighted = (columns * w[:, None]).T
        solution = np.linalg.lstsq(weighted @ columns, weighted @ data[good], rcond=1e-10)[0]
        if solution[0] <= 0:
            return False
        step_x, step_y = np.clip(solution[1:3] / solution[0], -1.0, 1.0)
        dx, dy = float(np.clip(dx + step_x, -MAX_SHIFT, MAX_SHIFT)), float(np.clip(dy + step_y, -MAX_SHIFT, MAX_SHIFT))
        if max(abs(step_x), abs(step_y)) < ENOUGH:
            break
    model = solution[0] * stamp + solution[3]
    bright = good & (model > 10.0 * np.sqrt(np.median(noise)))
    if not bright.any() or np.median(np.abs(data[bright] / model[bright] - 1.0)) > MAX_RESIDUAL:
        return False
    lost = (bits & np.int16(MaskBit.SATURATE | MaskBit.TRAIL)) != 0
    lost &= np.hypot(axis[:, None], axis[None, :]) <= REACH
    science[window][lost] = model[lost].astype(np.float32)
    return True
