"""Adapt the matching kernel to changes of the stack's PSF where the number of its inputs changes.

At the border of an input the stack's PSF is discontinuous, which a smooth kernel cannot model. The step is known from
the inputs' PSF models and their fractions of the weight, and to first order the kernel changes in proportion to them.
"""

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from imaging.difference.kernel import MatchingKernel
from imaging.image import FloatImage
from imaging.psf.model import PsfModel
from imaging.templates.stack import StackMakeup

FloatArray = NDArray[np.float64]

MIN_CHANGE = 0.05
"""Smaller changes of an input's fraction of the weight are left to the smooth kernel."""

MIN_DEFICIT = 0.12
"""Smaller relative deficits of weight are due to interpolation and amplifiers, not to a missing input."""

OTHER_DIFFERENCES = 0.05
"""Relative difference of two inputs at a source, from turbulence and noise of the PSFs."""

HALF_WIDTH = 12
"""Half width of the compared PSF stamps, pixels."""


def share_changes(makeup: StackMakeup) -> FloatArray:
    """Return (n, m, k) deviations of the inputs' weight fractions from their means, zero if small."""
    change = makeup.shares - makeup.mean_shares
    change[np.abs(change).max(axis=2) < MIN_CHANGE] = 0.0
    return change


def is_typical(makeup: StackMakeup, x: FloatArray, y: FloatArray, limit: float = 0.15) -> NDArray[np.bool_]:
    """Return the positions where the weight fractions are near their means, so that the main kernel applies."""
    change = np.abs(share_changes(makeup)).max(axis=2)
    rows = np.minimum(np.asarray(y, dtype=int) // makeup.block, change.shape[0] - 1)
    columns = np.minimum(np.asarray(x, dtype=int) // makeup.block, change.shape[1] - 1)
    return change[rows, columns] < limit


def missing_input_error(makeup: StackMakeup, weight: FloatImage, radius: int) -> FloatImage:
    """Estimate the relative error of the matched stack around pixels that lack an input.

    A bad column or a cosmic ray of one input changes the stack's PSF in a few pixels, by the missing fraction of the
    weight times the difference of the inputs' PSFs.

    Parameters
    ----------
    makeup
        Inputs of the stack.
    weight
        (ny, nx) float32, inverse variance of the stack.
    radius
        Radius of the kernel, pixels.

    Returns
    -------
    error
        (ny, nx) float32, zero if no input is missing.
    """
    peaks = makeup.psf_stamps[:, makeup.psf_stamps.shape[1] // 2, makeup.psf_stamps.shape[2] // 2]
    difference = OTHER_DIFFERENCES + float(np.max(np.abs(peaks / np.sum(makeup.mean_shares * peaks) - 1.0)))
    ny, nx = weight.shape
    across = np.maximum.reduceat(weight, np.arange(0, nx, makeup.block), axis=1)
    usual = np.maximum.reduceat(across, np.arange(0, ny, makeup.block), axis=0)
    return _deficit(weight, usual, makeup.block, radius, np.float32(difference))


@numba.njit(cache=True)
def _deficit(weight: FloatImage, usual: FloatImage, block: int, radius: int, difference: np.float32) -> FloatImage:
    ny, nx = weight.shape
    out = np.zeros((ny, nx), dtype=np.float32)
    for j in range(ny):
        for x0 in range(0, nx, block):
            typical = usual[j // block, x0 // block]
            enough = np.float32(1.0 - MIN_DEFICIT) * typical
            values = weight[j, x0 : x0 + block]
            for k in range(values.size):
                if 0 < values[k] < enough:
                    value = (np.float32(1.0) - values[k] / typical) * difference
                    i = x0 + k
                    for b in range(max(0, j - radius), min(ny, j + radius + 1)):
                        for a in range(max(0, i - radius), min(nx, i + radius + 1)):
                            out[b, a] = max(out[b, a], value)
    return out


def kernel_changes(kernel: MatchingKernel, makeup: StackMakeup, search: PsfModel | None) -> FloatArray:
    """Compute the change of the kernel per change of each input's weight fraction.

    Parameters
    ----------
    kernel
        Kernel of the typical stack.
    makeup
        PSFs and weight fractions of the inputs.
    search
        PSF of the search image if it is convolved; None if the template is.

    Returns
    -------
    images
        (k, n, n), one kernel per input.
    """
    x, y = kernel.origin
    main = kernel.images(np.array([x]), np.array([y]))[0]
    reach = kernel.basis.half_width
    wide = HALF_WIDTH + reach
    inputs = [_crop(stamp, wide) for stamp in makeup.psf_stamps]
    if search is None:
        reference = np.tensordot(makeup.mean_shares, np.array(inputs), axes=1)
        goals = [-fftconvolve(stamp, main, mode="valid") for stamp in inputs]
    else:
        reference = search.stamp(x, y, wide)
        goals = [_crop(stamp, HALF_WIDTH) for stamp in inputs]
    columns = np.array([fftconvolve(reference, image, mode="valid").ravel() for image in kernel.basis.images])
    weight = 1.0 / (np.abs(columns[0]) + 0.01 * columns[0].max())
    others = columns[1:]
    normal = (others * weight) @ others.T
    normal += 1e-5 * np.trace(normal) / len(normal) * np.eye(len(normal))
    sign = -main.sum() if search is None else 1.0
    coefficients = [
        np.append(sign, np.linalg.solve(normal, (others * weight) @ (goal.ravel() - sign * columns[0])))
        for goal in goals
    ]
    return np.tensordot(np.array(coefficients), kernel.basis.images, axes=1)


def _crop(stamp: FloatArray, half_width: int) -> FloatArray:
    half = stamp.shape[0] // 2
    if half < half_width:
        return np.pad(stamp, half_width - half)
    return stamp[half - half_width : half + half_width + 1, half - half_width : half + half_width + 1]
