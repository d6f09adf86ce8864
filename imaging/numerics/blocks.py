"""Values of images in rectangular blocks of pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def block_cells(values: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[Any]:
    """Return the pixels of every block, row by row, for medians and counts.

    Parameters
    ----------
    values
        (ny, nx) image.
    height, width
        Size of a block, pixels.

    Returns
    -------
    cells
        (n, m, height * width) of the type of the image, NaN beyond its borders; n and m are rounded up.
    """
    rows, columns = -(-values.shape[0] // height), -(-values.shape[1] // width)
    if values.shape != (rows * height, columns * width):
        padded = np.full((rows * height, columns * width), np.nan, values.dtype)
        padded[: values.shape[0], : values.shape[1]] = values
        values = padded
    return values.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(rows, columns, height * width)


def reduce_blocks(ufunc: np.ufunc, values: NDArray[np.floating[Any]], side: int) -> NDArray[Any]:
    """Return one value per square block, such as the sum (``np.add``) or the largest (``np.maximum``) of its pixels.

    Parameters
    ----------
    ufunc
        Function of two values.
    values
        (ny, nx) image.
    side
        Side of a block, pixels; the last ones are cut at the image's borders.
    """
    across = ufunc.reduceat(values, np.arange(0, values.shape[1], side), axis=1)
    return np.asarray(ufunc.reduceat(across, np.arange(0, values.shape[0], side), axis=0))
