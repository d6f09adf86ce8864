"""Build the bad-pixel map of a CCD from its master bias and flat."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label, median_filter, uniform_filter, zoom

from imaging.bits import BpmBit
from imaging.masters.settings import MasterSettings

FloatImage = NDArray[np.float32]

BLOCK = 64
"""Side of the blocks whose medians define the surroundings of a pixel in the flat."""

NEIGHBOURS = 31
"""Width in columns of the median filter with which column segments are compared."""

BUMP_BLOCK, BUMP_SURROUNDINGS = 8, 25
"""Side of the blocks in which tape bumps are sought; side in blocks of the median that gives their surroundings."""

BUMP_AREA, BUMP_SIDE = 8, 24
"""Least area and largest side of a tape bump, blocks."""

BUMP_MARGIN = 1.3
"""Radius that is marked, in units of that in which the response differs by the limit."""

WHOLE_COLUMN = 0.9
"""Fraction of bad segments above which a column is bad entirely rather than from a pixel on."""


def find_bad_pixels(bias: FloatImage, flat: FloatImage, settings: MasterSettings) -> NDArray[np.int16]:
    """Build a bad-pixel map.

    Parameters
    ----------
    bias
        (ny, nx) float32, ADU.
    flat
        (ny, nx) float32, any scale.
    settings
        Limits.

    Returns
    -------
    bad_pixels
        (ny, nx) int16, bits of :class:`imaging.bits.BpmBit`. Columns with an offset over their whole length are
        FUNKY_COL, others BIAS_COL with a BIAS_HOT pixel where the offset begins.
    """
    bad = np.zeros(bias.shape, dtype=np.int16)
    response = flat / _surroundings(flat)
    bad[response < settings.flat_minimum] |= np.int16(BpmBit.FLAT_MIN)
    bad[response > settings.flat_maximum] |= np.int16(BpmBit.FLAT_MAX)
    bad[_bumps(flat, settings)] |= np.int16(BpmBit.TAPEBUMP)
    blocks = _stretches(bias, settings.column_rows)
    _mark_columns(bad, bias, blocks, settings)
    in_column = (bad & int(BpmBit.BIAS_COL | BpmBit.FUNKY_COL)) != 0
    excess = bias - np.repeat(median_filter(blocks, (1, NEIGHBOURS)), settings.column_rows, axis=0)[: bias.shape[0]]
    hot, warm = excess > settings.hot_adu, excess > settings.warm_adu
    bad[hot & ~in_column] |= np.int16(BpmBit.BIAS_HOT)
    bad[warm & ~hot & ~in_column] |= np.int16(BpmBit.BIAS_WARM)
    for bit, width in ((BpmBit.NEAREDGE, settings.near_edge_columns), (BpmBit.EDGE, settings.edge_columns)):
        bad[:, :width] |= np.int16(bit)
        bad[:, bias.shape[1] - width :] |= np.int16(bit)
    return bad


def _bumps(flat: FloatImage, settings: MasterSettings) -> NDArray[np.bool_]:
    """Return the pixels of round regions of some tens of pixels whose response differs from their surroundings.

    Tape below the silicon makes them (Flaugher et al. 2015). Edges, columns and the borders of amplifiers are longer.
    """
    ny, nx = flat.shape
    blocks = np.median(flat.reshape(ny // BUMP_BLOCK, BUMP_BLOCK, nx // BUMP_BLOCK, BUMP_BLOCK), axis=(1, 3))
    wide = median_filter(blocks, BUMP_SURROUNDINGS)
    wide = median_filter(blocks / np.median(blocks / wide, axis=0), BUMP_SURROUNDINGS)
    response = blocks / wide
    response /= np.median(response, axis=0)
    bumps = np.zeros((ny, nx), dtype=bool)
    found, _ = label(uniform_filter(response, 3) < 1.0 - settings.bump_depth)
    rows, columns = np.ogrid[:ny, :nx]
    for number, part in enumerate(find_objects(found), start=1):
        inside = found[part] == number
        high, wide_by = inside.shape
        if inside.sum() < BUMP_AREA or max(high, wide_by) > 2.0 * min(high, wide_by) or max(high, wide_by) > BUMP_SIDE:
            continue
        y, x = ((np.nonzero(inside)[k].mean() + part[k].start + 0.5) * BUMP_BLOCK - 0.5 for k in range(2))
        radius = BUMP_MARGIN * BUMP_BLOCK * np.sqrt(inside.sum() / np.pi)
        near = slice(max(int(y - radius), 0), int(y + radius) + 2), slice(max(int(x - radius), 0), int(x + radius) + 2)
        bumps[near] |= np.hypot(rows[near[0]] - y, columns[:, near[1]] - x) < radius
    return bumps


def _surroundings(flat: FloatImage) -> FloatImage:
    """Return the response of each pixel's surroundings: block medians, interpolated."""
    ny, nx = flat.shape
    blocks = np.median(flat.reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK), axis=(1, 3))
    return np.maximum(zoom(blocks, BLOCK, order=1, mode="nearest", grid_mode=True), np.float32(1e-3))


def _stretches(bias: FloatImage, rows: int) -> FloatImage:
    """Return medians of column segments: (ny / rows, nx)."""
    ny, nx = bias.shape
    return np.median(bias[: ny // rows * rows].reshape(ny // rows, rows, nx), axis=1).astype(np.float32)


def _mark_columns(bad: NDArray[np.int16], bias: FloatImage, blocks: FloatImage, settings: MasterSettings) -> None:
    off = np.abs(blocks - median_filter(blocks, (1, NEIGHBOURS))) > settings.column_adu
    off[:, : settings.near_edge_columns] = off[:, bias.shape[1] - settings.near_edge_columns :] = False
    rows = settings.column_rows
    for x in np.flatnonzero(off.any(axis=0)):
        if off[:, x].mean() > WHOLE_COLUMN:
            bad[:, x] |= np.int16(BpmBit.FUNKY_COL)
            continue
        stretches = np.flatnonzero(off[:, x])
        low, high = max(stretches[0] - 1, 0) * rows, min(stretches[-1] + 2, off.shape[0]) * rows
        hottest = low + int(np.argmax(bias[low:high, x]))
        first, last = (hottest, high) if hottest - low < high - hottest else (low, hottest + 1)
        bad[first:last, x] |= np.int16(BpmBit.BIAS_COL)
        if bias[hottest, x] > settings.hot_adu:
            bad[hottest, x] |= np.int16(BpmBit.BIAS_HOT)
