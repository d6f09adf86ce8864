"""Label connected groups of flagged pixels by run-length encoding of the rows.

Flagged pixels are rare, so that runs are far cheaper than a label image: a CCD is scanned once, and the remaining cost
is proportional to the number of flagged pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of flagged pixels along the rows, and the group of each.

    Attributes
    ----------
    y, x0, x1
        (n,) int32, row and half-open columns, in the order of the rows.
    group
        (n,) int32, from 0 in the order of first appearance.
    n_groups
        Number of groups.
    """

    y: NDArray[np.int32]
    x0: NDArray[np.int32]
    x1: NDArray[np.int32]
    group: NDArray[np.int32]
    n_groups: int

    def members(self) -> list[NDArray[np.intp]]:
        """Return the indices of the runs of each group."""
        order = np.argsort(self.group, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.group, minlength=self.n_groups))[:-1])


def find_runs(mask: NDArray[np.int16], bits: int, reach: int = 1) -> Runs:
    """Find the connected groups of pixels with any of some bits.

    Parameters
    ----------
    mask
        (ny, nx) int16.
    bits
        Mask bits.
    reach
        Largest distance of connected pixels along x and y; 1 is eight-connectivity.

    Returns
    -------
    runs
        The groups.
    """
    y, x0, x1 = _scan(mask, np.int16(bits))
    group = _connect(y, x0, x1, reach)
    return Runs(y, x0, x1, group, int(group.max()) + 1 if group.size else 0)


@njit(cache=True)
def _scan(mask: NDArray[np.int16], bits: int) -> Any:  # noqa: ANN401
    ny, nx = mask.shape
    n = 0
    for y in range(ny):
        row = mask[y]
        inside = False
        for x in range(nx):
            flagged = (row[x] & bits) != 0
            if flagged and not inside:
                n += 1
            inside = flagged
    ys, starts, stops = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32)
    i = 0
    for y in range(ny):
        row = mask[y]
        inside = False
        for x in range(nx):
            flagged = (row[x] & bits) != 0
            if flagged and not inside:
                ys[i], starts[i] = y, x
            if inside and not flagged:
                stops[i] = x
                i += 1
            inside = flagged
        if inside:
            stops[i] = nx
            i += 1
    return ys, starts, stops


@njit(cache=True)
def _root(parent: NDArray[np.int32], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True)
def _connect(y: NDArray[np.int32], x0: NDArray[np.int32], x1: NDArray[np.int32], reach: int) -> NDArray[np.int32]:
    """Join runs at most ``reach`` pixels apart along both axes, and number the groups."""
    n = y.size
    parent = np.arange(n, dtype=np.int32)
    first = 0
    for i in range(n):
        while y[first] < y[i] - reach:
            first += 1
        for j in range(first, i):
            if x0[j] < x1[i] + reach and x0[i] < x1[j] + reach:
                a, b = _root(parent, i), _root(parent, j)
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
    group = np.empty(n, dtype=np.int32)
    number = np.full(n, -1, dtype=np.int32)
    n_groups = 0
    for i in range(n):
        root = _root(parent, i)
        if number[root] < 0:
            number[root] = n_groups
            n_groups += 1
        group[i] = number[root]
    return group
