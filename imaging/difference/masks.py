"""Mask of a difference: defects of both images, grown by the kernel, and surroundings of saturated stars."""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.bits import NOT_SEARCHED, MaskBit
from imaging.difference.settings import MaskSettings
from imaging.image import FloatImage, MaskImage
from imaging.templates.pixels import grow_bits

FloatArray = NDArray[np.float64]

NOISE_STEP = 3.0
"""Rise from pixel to pixel that may be noise, in units of that of a pixel. A larger one is the flank of another source,
whose light is not that of the saturated star."""

SATURATED = int(MaskBit.SATURATE | MaskBit.TRAIL | MaskBit.EDGEBLEED)


def kernel_radius(kernel: FloatArray, share: float) -> int:
    """Return the radius in whole pixels that contains a given fraction of a kernel's absolute sum."""
    half = kernel.shape[0] // 2
    distance = np.maximum(*np.abs(np.mgrid[-half : half + 1, -half : half + 1]))
    total = np.abs(kernel).sum()
    inside = [np.abs(kernel)[distance <= r].sum() / total for r in range(half + 1)]
    return int(np.searchsorted(np.array(inside), share))


def share_beyond(kernel: FloatArray) -> FloatArray:
    """Return (n,) the fraction of a kernel more than 0, 1, ... pixels from its centre on one side along an axis.

    At that distance from the image's border it meets what is beyond, of which nothing is known.
    """
    half = kernel.shape[0] // 2
    sides = [np.abs(kernel.sum(axis=axis))[::step] for axis in (0, 1) for step in (1, -1)]
    return np.mean(sides, axis=0)[half + 1 :][::-1].cumsum()[::-1] / abs(kernel.sum())


def difference_mask(
    fixed: MaskImage,
    convolved: MaskImage,
    kernel: FloatArray,
    model: FloatImage,
    sky_sigma: float,
    noise_pixels: float,
    settings: MaskSettings,
) -> MaskImage:
    """Combine the masks of both images, grown by the convolution; STAR is the halo of saturated stars around them.

    Parameters
    ----------
    fixed, convolved
        (ny, nx) int16, masks of the unconvolved and of the convolved image.
    kernel
        (k, k) typical matching kernel.
    model
        (ny, nx) float32, the matched template, for the extent of saturated stars.
    sky_sigma
        Noise of a pixel of the difference in blank sky, electrons.
    noise_pixels
        Effective number of pixels in a PSF fit.
    settings
        Growth around defects and saturated stars.
    """
    radius = kernel_radius(kernel, settings.kernel_share)
    mask = (fixed | grow_bits(convolved, radius)) & ~np.int16(MaskBit.STAR)
    if radius > 0:
        for edge in (mask[:radius], mask[-radius:], mask[:, :radius], mask[:, -radius:]):
            edge |= np.int16(MaskBit.EDGE)
    saturated = ((fixed | convolved) & np.int16(SATURATED)) != 0
    if saturated.any():
        reach = settings.saturated_growth_pixels + radius
        seeds = grow_bits(saturated.astype(np.int16), reach)
        faintest, step = settings.bright_sigma * sky_sigma, np.float32(NOISE_STEP * sky_sigma)
        uncertain = faintest / (settings.bright_error * math.sqrt(noise_pixels))
        for bit, level in ((MaskBit.SATURATE, uncertain), (MaskBit.STAR, min(uncertain, faintest))):
            _flood(seeds, model, np.float32(level), step)
            mask[seeds != 0] |= np.int16(bit)
    return mask


def usable(mask: MaskImage) -> NDArray[np.bool_]:
    """Return which pixels have no defect that sets their weight to zero."""
    return (mask & np.int16(int(NOT_SEARCHED))) == 0


def halos(mask: MaskImage) -> NDArray[np.bool_]:
    """Return which pixels of a difference lie in the halo of a saturated star."""
    return (mask & np.int16(MaskBit.STAR)) != 0


@numba.njit(cache=True)
def _flood(seeds: MaskImage, model: FloatImage, level: np.float32, step: np.float32) -> None:
    """Spread non-zero seeds to all pixels above a level that are reached without a rise of more than one step."""
    ny, nx = seeds.shape
    stack = np.empty(ny * nx, dtype=np.int32)
    top = 0
    for j in range(ny):
        for i in range(nx):
            if seeds[j, i] != 0:
                stack[top] = j * nx + i
                top += 1
    while top > 0:
        top -= 1
        j, i = stack[top] // nx, stack[top] % nx
        for k in range(4):
            b = j + (1 if k == 0 else -1 if k == 1 else 0)
            a = i + (1 if k == 2 else -1 if k == 3 else 0)
            if b < 0 or a < 0 or b >= ny or a >= nx or seeds[b, a] != 0:
                continue
            if level < model[b, a] < model[j, i] + step:
                seeds[b, a] = 1
                stack[top] = b * nx + a
                top += 1
