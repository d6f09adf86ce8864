"""Follow the tracks of cosmic rays from their steep pixels, and the level and the masks beside a pixel.

A track that is two pixels wide, in seeing of less than four, is hardly steeper than a star in a single pixel. Lines of
five pixels along it are, with less noise.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

MARGIN = 2
"""Largest distance of compared pixels."""

LINE = 2
"""Half length of the compared lines, pixels; scattered electrons turn within a few."""

LEVELS = ((3, 0.5), (7, 0.25))
"""Half size of the windows around added and followed pixels, and the quantile that is their level: a line is compared
with less than the light of its own star or spike."""


@njit(cache=True)
def _is_sharp_line(
    science: FloatImage, weight: FloatImage, y: int, x: int, level: float, drops: NDArray[np.float32], threshold: float
) -> bool:
    """Whether a line of pixels through one exceeds the lines on both sides by too much, in any of four directions.

    The profile of a line through a Gaussian source drops like that of the source. A pixel counts at most as the middle
    one, so that bright ones do not make their neighbours a line.
    """
    ny, nx = science.shape
    most = science[y, x] - level
    for direction in range(4):
        ly, lx = (0, 1, 1, 1)[direction], (1, 0, 1, -1)[direction]
        cy, cx = (1, 0, 1, 1)[direction], (0, 1, -1, 1)[direction]
        for step in range(1, MARGIN + 1):
            drop = drops[2 * (step - 1) + (1 if direction >= 2 else 0)]
            excess, variance = 0.0, 0.0
            for along in range(-LINE, LINE + 1):
                v, u = y + along * ly, x + along * lx
                dy, dx = step * cy, step * cx
                reach_y, reach_x = abs(dy), abs(dx)
                if v < reach_y or v >= ny - reach_y or u < reach_x or u >= nx - reach_x:
                    continue
                w, w1, w2 = weight[v, u], weight[v + dy, u + dx], weight[v - dy, u - dx]
                if w <= 0 or w1 <= 0 or w2 <= 0:
                    continue
                v1, v2 = science[v + dy, u + dx], science[v - dy, u - dx]
                excess += drop * min(science[v, u] - level, most) - 0.5 * (v1 + v2 - 2.0 * level)
                variance += drop * drop * (1.0 / w + max(science[v, u], np.float32(0)))
                variance += 0.25 * (1.0 / w1 + 1.0 / w2 + max(v1, np.float32(0)) + max(v2, np.float32(0)))
            if excess > threshold * np.sqrt(variance):
                return True
    return False


@njit(cache=True)
def follow(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    bits: int,
    avoid: int,
    seeds: NDArray[np.int32],
    drops: NDArray[np.float32],
    minimum_sigma: float,
    line_sigma: float,
    state: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Mark the neighbours of steep pixels on a sharp line, and theirs; return all of them, steep ones first."""
    ny, nx = science.shape
    values = np.empty((2 * LEVELS[1][0] + 1) ** 2, dtype=np.float32)
    front, marked = seeds, seeds
    while front.shape[0] > 0:
        added = np.empty((8 * front.shape[0], 2), dtype=np.int32)
        n = 0
        for i in range(front.shape[0]):
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    y, x = front[i, 0] + dy, front[i, 1] + dx
                    if y < 0 or y >= ny or x < 0 or x >= nx or state[y, x] != 0 or weight[y, x] <= 0:
                        continue
                    if (mask[y, x] & bits) != 0 or science[y, x] <= minimum_sigma / np.sqrt(weight[y, x]):
                        continue
                    level = max(local_level(science, weight, state, y, x, 1, values), 0.0)
                    sigma = np.sqrt(np.float32(1.0) / weight[y, x] + level)
                    if science[y, x] - level <= minimum_sigma * sigma or touches(mask, avoid, y, x):
                        continue
                    if _is_sharp_line(science, weight, y, x, level, drops, line_sigma):
                        state[y, x] = 1
                        added[n, 0], added[n, 1] = y, x
                        n += 1
        front = added[:n].copy()
        marked = np.concatenate((marked, front))
    return marked


@njit(cache=True)
def touches(mask: NDArray[np.int16], avoid: int, y: int, x: int) -> bool:
    """Whether a pixel within the margin has one of the bits."""
    ny, nx = mask.shape
    for v in range(max(y - MARGIN, 0), min(y + MARGIN + 1, ny)):
        for u in range(max(x - MARGIN, 0), min(x + MARGIN + 1, nx)):
            if (mask[v, u] & avoid) != 0:
                return True
    return False


@njit(cache=True)
def local_level(
    science: FloatImage,
    weight: FloatImage,
    state: NDArray[np.uint8],
    y: int,
    x: int,
    kind: int,
    values: NDArray[np.float32],
) -> float:
    """Level under an added (kind 0) or followed pixel (1), by the good pixels without cosmic rays; 0 without any."""
    ny, nx = science.shape
    reach, share = LEVELS[kind]
    n = 0
    for v in range(max(y - reach, 0), min(y + reach + 1, ny)):
        for u in range(max(x - reach, 0), min(x + reach + 1, nx)):
            if state[v, u] == 0 and weight[v, u] > 0:
                values[n] = science[v, u]
                n += 1
    return float(np.quantile(values[:n], share)) if n > 0 else 0.0
