"""Convolve an image with a spatially varying kernel.

The kernel is a sum of fixed kernels, each times a polynomial in position (Alard 2000), so the convolution is a sum of
ordinary ones, each times that polynomial: tile by tile in Fourier space, exact at every pixel.
"""

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.difference.kernel import MatchingKernel, term_powers
from imaging.difference.tiles import Tiling
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

BLOCK = 32
"""Side of the blocks with constant coefficients of additional kernels, pixels."""

TILE = 8 * BLOCK
"""Side of the Fourier-transformed tiles, pixels."""


def convolve_varying(
    image: FloatImage, kernel: MatchingKernel, changes: FloatArray | None = None, images: FloatArray | None = None
) -> FloatImage:
    """Convolve an image with a matching kernel.

    The image is padded with its outermost pixels.

    Parameters
    ----------
    image
        (ny, nx) float32.
    kernel
        The kernel.
    changes, images
        (n, m, k) coefficients per block of 32 pixels of k additional kernels (k, s, s).

    Returns
    -------
    convolved
        (ny, nx) float32, without the background of the kernel fit.
    """
    ny, nx = image.shape
    reach = kernel.basis.half_width
    tiling = Tiling((ny, nx), TILE, reach)
    spectra = _spectra(np.tensordot(kernel.coefficients.T, kernel.basis.images, axes=1), tiling)
    further = None if images is None else _spectra(images, tiling)
    powers = term_powers(kernel.coefficients.shape[1])
    u, v = ((np.arange(n) - o) / s for n, o, s in zip((nx, ny), kernel.origin, kernel.scale, strict=True))
    out = np.zeros((ny, nx), dtype=np.float32)
    for _, _, y, x in tiling:
        spectrum = fft.rfft2(_with_border(image, y, x, reach), s=tiling.fft_shape)
        for term, (i, j) in zip(spectra, powers, strict=True):
            _add(out[y, x], _inverse(spectrum * term, tiling), *_float32(v[y] ** j, u[x] ** i))
        if changes is None or further is None:
            continue
        coefficients = changes[y.start // BLOCK : -(-y.stop // BLOCK), x.start // BLOCK : -(-x.stop // BLOCK)]
        for number in np.flatnonzero(coefficients.any(axis=(0, 1))):
            _add_blocks(out[y, x], _inverse(spectrum * further[number], tiling), *_float32(coefficients[:, :, number]))
    return out


def _spectra(kernels: FloatArray, tiling: Tiling) -> NDArray[np.complex64]:
    """Return the transforms of (n, k, k) kernels whose first pixel is the origin."""
    return fft.rfft2(kernels.astype(np.float32), s=tiling.fft_shape)


def _with_border(image: FloatImage, y: slice, x: slice, reach: int) -> FloatImage:
    """Return a tile with its border, padded with the outermost pixels of the image."""
    ny, nx = image.shape
    below, above = max(reach - y.start, 0), max(y.stop + reach - ny, 0)
    left, right = max(reach - x.start, 0), max(x.stop + reach - nx, 0)
    part = image[y.start - reach + below : y.stop + reach - above, x.start - reach + left : x.stop + reach - right]
    return np.pad(part, ((below, above), (left, right)), mode="edge") if below + above + left + right else part


def _inverse(spectrum: NDArray[np.complex64], tiling: Tiling) -> FloatImage:
    """Transform back; the tile starts at twice the border width, because the kernels start at the origin."""
    return fft.irfft2(spectrum, s=tiling.fft_shape, overwrite_x=True)[2 * tiling.border :, 2 * tiling.border :]


def _float32(*arrays: FloatArray) -> tuple[NDArray[np.float32], ...]:
    return tuple(array.astype(np.float32) for array in arrays)


@numba.njit(cache=True, fastmath={"contract"})
def _add(out: FloatImage, plane: FloatImage, across: FloatImage, along: FloatImage) -> None:
    """Add a plane times a function of y and one of x."""
    for j in range(out.shape[0]):
        target, values, factor = out[j], plane[j], across[j]
        for i in range(target.size):
            target[i] += factor * along[i] * values[i]


@numba.njit(cache=True, fastmath={"contract"})
def _add_blocks(out: FloatImage, plane: FloatImage, blocks: FloatImage) -> None:
    """Add a plane times a coefficient per block."""
    for j in range(out.shape[0]):
        for block in range(blocks.shape[1]):
            factor, first = blocks[j // BLOCK, block], block * BLOCK
            target, values = out[j, first : first + BLOCK], plane[j, first : first + BLOCK]
            if factor != 0:
                for i in range(target.size):
                    target[i] += factor * values[i]
