"""Repair bad columns that have a constant offset, and keep their pixels.

A hot pixel adds charge to all pixels that are read through it, a constant offset of the rest of its column. Photometry
on such columns is good after correction (the column repair of the Dark Energy Survey's pixcorrect, Bernstein et al.
2017, PASP 129, 114502).
"""

import numpy as np
from numpy.typing import NDArray

from imaging.bits import BpmBit, MaskBit
from imaging.detrend.settings import ColumnSettings
from imaging.numerics.robust import clipped

_SPILL, _FUNKY, _HOT = int(BpmBit.BIAS_COL), int(BpmBit.FUNKY_COL), int(BpmBit.BIAS_HOT)
_KEEP_BAD = int(
    BpmBit.FLAT_MIN
    | BpmBit.FLAT_MAX
    | BpmBit.FLAT_MASK
    | BpmBit.BIAS_HOT
    | BpmBit.BIAS_MASK
    | BpmBit.WACKY_PIX
    | BpmBit.BADAMP
    | BpmBit.EDGE
)
"""Calibration bits of pixels that cannot be repaired by a constant."""
_BAD = int(MaskBit.BPM | MaskBit.SATURATE | MaskBit.BADAMP | MaskBit.EDGE | MaskBit.SSXTALK)


def repair_columns(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    bad_pixels: NDArray[np.int16],
    settings: ColumnSettings,
) -> int:
    """Correct the offset of every repairable bad column, and set FIXED on its pixels.

    Candidates are columns flagged FUNKY_COL, and those flagged BIAS_COL with exactly one hot pixel. A candidate is
    compared, row by row, with the mean of its nearest good neighbours; it is repaired if enough rows survive the
    clipping and its variance agrees with its neighbours'.

    Parameters
    ----------
    science, mask
        (ny, nx) float32 and int16; changed. BPM is cleared and FIXED set where a column is repaired.
    bad_pixels
        (ny, nx) int16, calibration bits.
    settings
        Neighbours and tolerances.

    Returns
    -------
    n_repaired
        Columns repaired.
    """
    flags = np.bitwise_or.reduce(bad_pixels, axis=0)
    candidates = np.flatnonzero(flags & (_SPILL | _FUNKY))
    bad_columns = frozenset(np.flatnonzero(flags & (_SPILL | _FUNKY | _HOT)).tolist())
    n_repaired = 0
    for column in candidates:
        codes = bad_pixels[:, column]
        repairable = (codes & _FUNKY) != 0
        if np.count_nonzero(codes & _HOT) == 1:
            repairable |= (codes & _SPILL) != 0
        repairable &= (codes & _KEEP_BAD) == 0
        if repairable.sum() >= settings.minimum_rows:
            n_repaired += _repair(science, mask, int(column), repairable, bad_columns, settings)
    return n_repaired


def _repair(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    column: int,
    repairable: NDArray[np.bool_],
    bad_columns: frozenset[int],
    settings: ColumnSettings,
) -> bool:
    """Compare one column with its neighbours and repair it if a constant suffices."""
    near = sorted(
        (c for c in range(column - settings.reach, column + settings.reach + 1) if c not in bad_columns),
        key=lambda c: abs(c - column),
    )
    half = science.shape[1] // 2
    near = [c for c in near if 0 <= c < science.shape[1] and (c < half) == (column < half)][: settings.neighbours]
    rows = np.flatnonzero(repairable & ((mask[:, column] & (_BAD & ~int(MaskBit.BPM))) == 0))
    if len(near) < 2 or rows.size < settings.minimum_rows:
        return False
    place = np.ix_(rows, np.array(near))
    block = science[place].astype(float)
    good = (mask[place] & _BAD) == 0
    count = good.sum(axis=1)
    usable = count >= 2
    block, good, count, rows = block[usable], good[usable], count[usable], rows[usable]
    if rows.size < settings.minimum_rows:
        return False
    mean = np.where(good, block, 0.0).sum(axis=1) / count
    difference = science[rows, column] - mean
    kept = clipped(difference, settings.clip_sigma)
    scatter = np.where(good, block - mean[:, None], 0.0) ** 2
    pixel_variance = scatter[kept].sum() / max((count[kept] - 1).sum(), 1)
    expected = pixel_variance * (1.0 + np.mean(1.0 / count[kept]))
    if kept.sum() < max(settings.minimum_rows, settings.count_tolerance * rows.size):
        return False
    if difference[kept].var() > (1.0 + settings.variance_tolerance) * expected:
        return False
    fixed = np.flatnonzero(repairable)
    science[fixed, column] -= np.float32(difference[kept].mean())
    mask[fixed, column] = (mask[fixed, column] & ~np.int16(MaskBit.BPM)) | np.int16(MaskBit.FIXED)
    return True
