"""Merge HEALPix pixels of one order into fewer cells of several orders."""

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def merged_cells(pixel: IntArray, order: int, values: NDArray[np.float64] | None = None) -> tuple[IntArray, IntArray]:
    """Merge four siblings into their parent wherever all are present and have equal values, up to the base pixels.

    Parameters
    ----------
    pixel
        (p,) numbers of distinct pixels, nested, in ascending order.
    order
        Order of the pixels: 12 * 4**order cover the sphere.
    values
        (p, k) values of each pixel; NaN equals NaN. None merges all siblings.

    Returns
    -------
    uniq
        (c,) cells in the NUNIQ scheme of the IVOA's MOC standard, 4 * 4**order + number, ascending.
    index
        (c,) index of a pixel inside each cell.
    """
    pixel = np.asarray(pixel, dtype=np.int64)
    index = np.arange(len(pixel))
    values = np.zeros((len(pixel), 0)) if values is None else values
    uniq: list[IntArray] = []
    kept: list[IntArray] = []
    for level in range(order, 0, -1):
        first = np.flatnonzero(pixel % 4 == 0)
        first = first[first + 3 < len(pixel)]
        first = first[pixel[first + 3] == pixel[first] + 3]
        group = values[index[first[:, None] + np.arange(4)]]
        same = (group == group[:, :1]) | (np.isnan(group) & np.isnan(group[:, :1]))
        first = first[same.all(axis=(1, 2))]
        left = np.ones(len(pixel), dtype=bool)
        left[(first[:, None] + np.arange(4)).ravel()] = False
        uniq.append(4 * 4**level + pixel[left])
        kept.append(index[left])
        pixel, index = pixel[first] // 4, index[first]
    cells, places = np.concatenate([*uniq, 4 + pixel]), np.concatenate([*kept, index])
    by_number = np.argsort(cells, kind="stable")
    return cells[by_number], places[by_number]
