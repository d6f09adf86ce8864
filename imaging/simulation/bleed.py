"""Simulated saturation: bleed trails along the columns, and edge bleeds at the readout register."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

EDGE_BLEED_ROWS = 12
"""Rows next to the register over which spilt charge is spread."""


@njit(cache=True)
def bleed_columns(electrons: FloatImage, full_well: FloatArray, register_below: bool) -> FloatArray:
    """Redistribute charge above the full well along the columns, half to either side, conserving the total.

    Charge is reflected at the far end; once a trail reaches the register, half a well per step flows into it.

    Parameters
    ----------
    electrons
        (ny, nx) float32, changed in place.
    full_well
        (nx,) full well of each column, electrons.
    register_below
        Whether the register is below row 0 or above the last row.

    Returns
    -------
    spilt
        (nx,) charge from each column into the register, electrons.
    """
    ny, nx = electrons.shape
    overflows = np.zeros(nx, dtype=np.bool_)
    for row in range(ny):
        for column in range(nx):
            if electrons[row, column] > full_well[column]:
                overflows[column] = True
    spilt = np.zeros(nx)
    for column in range(nx):
        if overflows[column]:
            line = electrons[:, column].copy()
            spilt[column] = _bleed_column(line, full_well[column], register_below)
            electrons[:, column] = line
    return spilt


@njit(cache=True)
def _bleed_column(line: FloatImage, well: float, register_below: bool) -> float:
    """Level one column in place, and return the charge that left it."""
    ny = len(line)
    spilt = 0.0
    row = 0
    while row < ny:
        if line[row] <= well:
            row += 1
            continue
        low, excess = row - 1, 0.0
        while row < ny and line[row] > well:
            excess += line[row] - well
            line[row] = well
            row += 1
        high = row
        while excess > 0.0 and (low >= 0 or high < ny):
            for k in (low, high):
                if 0 <= k < ny:
                    moved = min(well - line[k], excess)  # negative where the next pixel overflows too
                    line[k] += moved
                    excess -= moved
            low, high = low - 1, high + 1
            if low < 0 if register_below else high >= ny:
                leaving = min(excess, 0.5 * well)
                excess -= leaving
                spilt += leaving
        spilt += excess
        row = max(row, high)
    return spilt


def spread_at_register(
    electrons: FloatImage, spilt: FloatArray, full_well: FloatArray, register_below: bool, halves: tuple[slice, slice]
) -> None:
    """Simulate an edge bleed: spread spilt charge along the rows at the register, within its amplifier.

    Parameters
    ----------
    electrons
        (ny, nx) float32, changed in place; increased to at most the full well.
    spilt
        (nx,) charge in the register by column, electrons.
    full_well
        (nx,) electrons.
    register_below
        Whether the register is below row 0.
    halves
        Columns of the two amplifiers.
    """
    ny = electrons.shape[0]
    for half in halves:
        total = float(spilt[half].sum())
        if total <= 0.0:
            continue
        columns = np.arange(half.start, half.stop)
        centre = float(np.average(columns, weights=spilt[half]))
        well = float(full_well[half].mean())
        reach = min(max(total / (well * EDGE_BLEED_ROWS), 5.0), 600.0)
        for row in range(EDGE_BLEED_ROWS):
            level = 1.6 * well * np.exp(-row / 4.0) * np.exp(-np.abs(columns - centre) / reach)
            y = row if register_below else ny - 1 - row
            line = electrons[y, half]
            electrons[y, half] = np.minimum(line + level, np.maximum(line, full_well[half])).astype(np.float32)
