"""Round the pixels of images to a grid that is fine against their noise, so that they compress well, and exactly.

The steps that write images round them, and nothing else does. Rounding with a step q adds the variance q^2/12 to noise
of variance sigma^2. With ``sigma / q`` of 16 the noise grows by 0.016 %; with 300 it grows by 5e-7, and a pixel changes
by 0.1 % of its noise, rms. The subtractive dither of FITS tile compression (Pence et al. 2010, PASP 122, 1065) is for
steps of the order of the noise. Without it the mean of a noisy value is biased by about ``q exp(-2 pi^2 sigma^2 /
q^2)`` (Widrow & Kollar 2008, Quantization Noise, chapter 4): with 16 this is 10^-2000.
"""

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

IMAGE_STEPS = 300.0
"""Steps per sigma of the noise of images: fluxes change by 0.1 % of their errors."""

DIFFERENCE_STEPS = 16.0
"""Steps per sigma of differences and of template fluxes (the value of DES)."""

WEIGHT_STEP = 0.001
"""Relative step of the weights of images: an error changes by 0.014 %."""

DIFFERENCE_WEIGHT_STEP = 0.01
"""Relative step of the weights of differences: an error of a source, of 20 pixels and more, changes by 0.03 %."""

STEP_BITS = 4
"""Bits of a step's mantissa. Its multiples up to 2^20 are exact in float32, and in a decimal text of 15 digits."""

LARGEST = np.float32(2**31 - 1)
"""Limit of the multiples of a step."""

ROWS = 32
"""Rows that are rounded together, so that they stay in the processor's cache."""

SAMPLE = 7
"""Every so manieth row and column is looked at to find the noise."""


def step_below(value: float) -> float | None:
    """Return the largest step of :data:`STEP_BITS` bits that is not above a value; None for no positive value."""
    if not (np.isfinite(value) and value > 0.0):
        return None
    mantissa, exponent = np.frexp(value)
    return float(np.ldexp(np.floor(mantissa * 2**STEP_BITS), int(exponent) - STEP_BITS))


def image_step(weight: FloatImage, steps_per_sigma: float) -> float | None:
    """Return the step of an image, from the noise where it is lowest.

    Parameters
    ----------
    weight
        (ny, nx) inverse variance.
    steps_per_sigma
        Steps per sigma of the noise.

    Returns
    -------
    step
        Unit of the image; None if no pixel has a weight.
    """
    known = _known(weight)
    return step_below(1.0 / np.sqrt(np.percentile(known, 99.0)) / steps_per_sigma) if known.size else None


def image_steps(weight: FloatImage) -> dict[str, float | None]:
    """Return the steps of SCI and WGT of an image with a weight, as :func:`image_step` and :func:`weight_step` do."""
    return {"SCI": image_step(weight, IMAGE_STEPS), "WGT": weight_step(weight, WEIGHT_STEP)}


def sky_step(sky: FloatImage, read_noise_electrons: float) -> float | None:
    """Return the step of an image that has its sky and no weight, from the noise where it is lowest.

    Parameters
    ----------
    sky
        Values of the sky in parts of the image, electrons; NaN where it is not known.
    read_noise_electrons
        Read noise.
    """
    known = sky[np.isfinite(sky)]
    lowest = max(float(known.min()), 0.0) if known.size else 0.0
    return step_below(float(np.hypot(np.sqrt(lowest), read_noise_electrons)) / IMAGE_STEPS)


def weight_step(weight: FloatImage, relative: float) -> float | None:
    """Return the step of a weight plane, relative to its median; None if no pixel has a weight."""
    known = _known(weight)
    return step_below(relative * float(np.median(known))) if known.size else None


def flux_step(flux: FloatImage, steps_per_sigma: float) -> float | None:
    """Return the step of an image without weights, from half of the range of the middle 68 % of its pixels."""
    sample = flux[::SAMPLE, ::SAMPLE]
    sample = sample[np.isfinite(sample) & (sample != 0.0)]
    low, high = np.percentile(sample, (15.87, 84.13)) if sample.size else (0.0, 0.0)
    return step_below(0.5 * (high - low) / steps_per_sigma)


def rounded(plane: FloatImage, step: float | None, *, keep_positive: bool = False) -> FloatImage:
    """Return an image rounded to multiples of a step.

    Parameters
    ----------
    plane
        (ny, nx) float32; NaN and infinite pixels stay as they are.
    step
        A value of :func:`step_below`; None returns the image unchanged.
    keep_positive
        Whether positive pixels below half a step become one step instead of 0, as for weights.
    """
    if step is None:
        return plane
    out = np.empty_like(plane)
    for first in range(0, len(plane), ROWS):
        target = _in_steps(plane[first : first + ROWS], step, keep_positive)
        target += np.float32(0.0)  # no negative zero, which integers do not have
        np.multiply(target, np.float32(step), out=out[first : first + ROWS])
    return out


def multiples(plane: FloatImage, step: float, *, keep_positive: bool = False) -> NDArray[np.int32] | None:
    """Return the integers that :func:`rounded` multiplies by the step; None if a pixel is not finite or too large."""
    out = np.empty(plane.shape, dtype=np.int32)
    for first in range(0, len(plane), ROWS):
        target = _in_steps(plane[first : first + ROWS], step, keep_positive)
        if not np.abs(target).max(initial=0.0) < LARGEST:  # false for NaN
            return None
        out[first : first + ROWS] = target
    return out


def _in_steps(rows: FloatImage, step: float, keep_positive: bool) -> FloatImage:
    target = np.rint(rows * (np.float32(1.0) / np.float32(step)))
    if keep_positive:
        np.copyto(target, np.float32(1.0), where=(target == 0.0) & (rows > 0.0))
    return target


def _known(weight: FloatImage) -> FloatImage:
    sample = weight[::SAMPLE, ::SAMPLE]
    known: FloatImage = sample[np.isfinite(sample) & (sample > 0.0)]
    return known
