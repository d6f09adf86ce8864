"""Convolve a whole image with a kernel that varies over it."""

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.difference.kernel import MatchingKernel
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

BLOCK = 32
"""Side of the blocks in which the kernel is constant, pixels: its change over a block is below 1e-4."""

TAPS = 6
"""Kernel taps per pass over a line."""


def convolve_varying(
    image: FloatImage, kernel: MatchingKernel, changes: FloatArray | None = None, images: FloatArray | None = None
) -> FloatImage:
    """Convolve an image with a matching kernel.

    Beyond its edges the image is continued with its outermost pixels.

    Parameters
    ----------
    image
        (ny, nx) float32.
    kernel
        Kernel, evaluated at the centre of every block of 32 pixels.
    changes, images
        (n, m, k) coefficients of k further kernels (k, s, s) that are added block by block.

    Returns
    -------
    convolved
        (ny, nx) float32; the background of the kernel's fit is not added.
    """
    ny, nx = image.shape
    rows, columns = -(-ny // BLOCK), -(-nx // BLOCK)
    gy, gx = np.meshgrid((np.arange(rows) + 0.5) * BLOCK, (np.arange(columns) + 0.5) * BLOCK, indexing="ij")
    kernels = kernel.images(gx.ravel(), gy.ravel())
    if changes is not None and images is not None:
        for block in np.flatnonzero(changes.any(axis=2)):
            kernels[block] += np.tensordot(changes[block // columns, block % columns], images, axes=1)
    kernels = kernels[:, ::-1, ::-1].astype(np.float32)
    reach = kernel.basis.half_width
    kernels = np.pad(kernels, ((0, 0), (0, 0), (0, -kernels.shape[2] % TAPS)))
    pad_y, pad_x = (reach, rows * BLOCK - ny + reach), (reach, columns * BLOCK - nx + reach + TAPS)
    padded = np.pad(image, (pad_y, pad_x), mode="edge")
    return _convolve_blocks(padded, kernels, columns)[:ny, :nx]


@numba.njit(cache=True, fastmath={"contract"})
def _convolve_blocks(padded: FloatImage, kernels: NDArray[np.float32], columns: int) -> FloatImage:
    """Convolve block by block; six taps at a time keep the running sums in registers."""
    rows, size, width = kernels.shape[0] // columns, kernels.shape[1], kernels.shape[2]
    out = np.empty((rows * BLOCK, columns * BLOCK), dtype=np.float32)
    total = np.empty(BLOCK, dtype=np.float32)
    for block in range(rows * columns):
        y0, x0 = (block // columns) * BLOCK, (block % columns) * BLOCK
        kernel = kernels[block]
        for y in range(y0, y0 + BLOCK):
            total[:] = 0.0
            for j in range(size):
                line = padded[y + j, x0 : x0 + BLOCK + width]
                w = kernel[j]
                for k in range(0, width, TAPS):
                    a, b, c, d = line[k : k + BLOCK], line[k + 1 :], line[k + 2 :], line[k + 3 :]
                    e, f = line[k + 4 :], line[k + 5 :]
                    wa, wb, wc, wd, we, wf = w[k], w[k + 1], w[k + 2], w[k + 3], w[k + 4], w[k + 5]
                    for i in range(BLOCK):
                        total[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i] + we * e[i] + wf * f[i]
            out[y, x0 : x0 + BLOCK] = total
    return out
