"""A Gaussian process through the sources of a CCD: the nodes at which it is evaluated, and its likelihood."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

NODE = 64
"""Spacing of the nodes, pixels."""


def node_places(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return (rows, columns) x and y of the nodes of an image of (ny, nx) pixels.

    They are at every 64th pixel, starting at zero, to beyond the end of the image.
    """
    y, x = (np.arange(size // NODE + 2) * float(NODE) for size in shape)
    gx, gy = np.meshgrid(x, y)
    return gx, gy


def node_distances(x: FloatArray, y: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return (rows, columns, n) the distances of n sources from the nodes (:func:`node_places`), in pixels."""
    gx, gy = node_places(shape)
    return np.asarray(np.hypot(gx[..., None] - x, gy[..., None] - y))


def log_likelihood(values: FloatArray, covariance: FloatArray) -> float:
    """Return the logarithm of the probability density, but for a constant.

    Parameters
    ----------
    values
        (n,) or (n, k) values at the sources; the k columns are independent.
    covariance
        (n, n) covariance of each column.
    """
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, values.reshape(len(factor), -1))
    return float(-0.5 * np.sum(white**2) - white.shape[1] * np.sum(np.log(np.diag(factor))))
