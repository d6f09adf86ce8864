"""Kernels of single pixels of a stack that have other inputs than their block.

The search image is convolved to the PSF of the stack, with a kernel that is constant in blocks of one part of the stack
(:mod:`imaging.difference.coverage`). An input that ends within a block and its masked pixels (bad columns, trails,
cosmic rays) change the inputs from one pixel to the next, and with them the PSF. The stack is a weighted mean, pixel by
pixel, so that the search image matches it where each pixel has the kernel of its own inputs. (A template that is
convolved cannot be matched so: the kernel mixes pixels of different inputs.)
"""

from dataclasses import replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.difference.coverage import MIN_CHANGE, StackParts, kernel_changes
from imaging.difference.kernel import MatchingKernel
from imaging.image import FloatImage
from imaging.psf.model import PsfModel
from imaging.templates.stack import StackMakeup

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEAST_SNR = 3.0
"""Least signal to noise of the stack in a pixel with its own kernel: the PSFs differ by a fraction of its light."""

STEP = 0.005
"""Step of the shares for which kernels are computed."""


def convolve_pixels(
    convolved: FloatImage,
    image: FloatImage,
    snr: FloatImage,
    kernel: MatchingKernel,
    makeup: StackMakeup,
    parts: tuple[PsfModel, StackParts | None, FloatArray],
) -> int:
    """Convolve an image with the kernel of the stack's own inputs in pixels that lack one of them, in place.

    Parameters
    ----------
    convolved
        (ny, nx) float32, the image convolved with the kernel of each block.
    image
        (ny, nx) float32, the search image.
    snr
        (ny, nx) signal to noise of the stack in single pixels.
    kernel, makeup
        Kernel of the largest part, and inputs of the stack.
    parts
        PSF of the search image, parts of the stack (None if it is one), and (c, k, k) change of the kernel in each.

    Returns
    -------
    number
        Number of pixels with a kernel of their own.
    """
    search, coverage, changes = parts
    if makeup.used is None:
        return 0
    if coverage is None:
        number = np.zeros(makeup.shares.shape[:2], dtype=np.int64)
        coverage = StackParts(makeup, number, makeup.mean_shares[None], search, np.zeros(1, dtype=np.bool_))
    rows, columns = np.nonzero(snr > LEAST_SNR)
    own = _shares_at(makeup, makeup.used, rows, columns)
    part = coverage.part_at(columns.astype(float), rows.astype(float))
    odd = (np.abs(own - coverage.shares[part]).max(axis=1) >= MIN_CHANGE) & own.any(axis=1) & ~coverage.unknown[part]
    rows, columns, own, part = (values[odd] for values in (rows, columns, own, part))
    if not rows.size:
        return 0
    ends = np.vstack([coverage.shares[:1], np.eye(own.shape[1])])  # the change is linear in the shares
    of_inputs = kernel_changes(kernel, replace(coverage, shares=ends, search=search))[1:]
    different, index = np.unique(np.column_stack([part, np.rint(own / STEP)]), axis=0, return_inverse=True)
    kernels = np.tensordot(STEP * different[:, 1:], of_inputs, axes=1) - changes[different[:, 0].astype(int)]
    _add(convolved, image, rows, columns, index.ravel(), kernels.astype(np.float32))
    return rows.size


def _shares_at(
    makeup: StackMakeup, used: NDArray[np.unsignedinteger[Any]], rows: IntArray, columns: IntArray
) -> FloatArray:
    """Return (n, k) weight fractions of the inputs in pixels, with the mean weight of each in the block; zeros if none.

    The fractions of a block are those of all its pixels; an input counts where it is used.
    """
    own = np.zeros((rows.size, makeup.mean_shares.size))
    starts = [np.arange(0, n, makeup.block) for n in used.shape]
    at = rows // makeup.block, columns // makeup.block
    for number in range(own.shape[1]):
        there = (used >> used.dtype.type(number)) & used.dtype.type(1)
        counts = np.add.reduceat(np.add.reduceat(there, starts[1], axis=1, dtype=np.int32), starts[0], axis=0)
        own[:, number] = there[rows, columns] * (makeup.shares[..., number] / np.maximum(counts, 1))[at]
    return np.asarray(own / np.maximum(own.sum(axis=1, keepdims=True), np.finfo(float).tiny))


@numba.njit(cache=True, fastmath=True)
def _add(
    out: FloatImage,
    image: FloatImage,
    rows: IntArray,
    columns: IntArray,
    index: IntArray,
    kernels: FloatImage,
) -> None:
    """Add the convolution with one of the kernels at each pixel; the image is padded with its outermost pixels."""
    ny, nx = image.shape
    half = kernels.shape[1] // 2
    for n in range(rows.size):
        kernel, total = kernels[index[n]], np.float32(0.0)
        for j in range(kernel.shape[0]):
            line = image[min(max(rows[n] + half - j, 0), ny - 1)]
            for i in range(kernel.shape[1]):
                total += kernel[j, i] * line[min(max(columns[n] + half - i, 0), nx - 1)]
        out[rows[n], columns[n]] += total
