"""Charge that is not where the light fell: deferred, afterglows, glow, columns that switch, losses at low light."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.detector.ccds import NX, Ccd
from imaging.simulation.camera import register_below, tape_bumps
from imaging.simulation.streams import random_stream

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

RELEASED = 0.4
"""Share of the held charge that is released into each following row."""

LOW_LIGHT_ADU = 300.0
"""Signal at which a loss at low light has fallen to 1/e."""


@njit(cache=True)
def _defer(electrons: FloatImage, share: float, released: float, register_below: bool) -> None:
    ny, nx = electrons.shape
    held = np.zeros(nx)
    for transfers in range(1, ny + 1):
        row = electrons[transfers - 1 if register_below else ny - transfers]
        for column in range(nx):
            freed = released * held[column]
            caught = share * transfers * max(row[column], np.float32(0.0))
            held[column] += caught - freed
            row[column] += np.float32(freed - caught)


def defer_charge(electrons: FloatImage, ccd: Ccd, share_per_transfer: float) -> None:
    """Leave a share of the charge behind at each transfer towards the register, in place.

    Traps catch charge in proportion to the signal and to the number of transfers, and release it into the rows that
    follow: a tail of :data:`RELEASED` per row (charge-transfer inefficiency; Janesick 2001, chapter 5).

    Parameters
    ----------
    electrons
        (ny, nx) float32.
    ccd
        The CCD, which says where the register is.
    share_per_transfer
        Charge-transfer inefficiency, per row.
    """
    _defer(electrons, share_per_transfer, RELEASED, register_below(ccd))


def add_bump_glow(electrons: FloatImage, camera_seed: int, ccd: Ccd, share: float, random: np.random.Generator) -> None:
    """Make the tape bumps of a CCD glow, in place: each by its own amount in every exposure, with its noise.

    Parameters
    ----------
    electrons
        (ny, nx) float32, with the sky.
    camera_seed, ccd
        Seed of the camera and CCD, which say where the bumps are.
    share
        Rms glow in the middle of a bump, as a share of the sky.
    random
        Generator.
    """
    ny, nx = electrons.shape
    sky = float(np.median(electrons[::16, ::16]))
    for x, y, size in zip(*tape_bumps(camera_seed, ccd), strict=True):
        level = share * sky * abs(random.normal())
        rows = slice(max(int(y - 2.0 * size), 0), min(int(y + 2.0 * size), ny))
        columns = slice(max(int(x - 2.0 * size), 0), min(int(x + 2.0 * size), nx))
        dy, dx = np.ogrid[rows, columns]
        glow = level * np.exp(-0.5 * ((dx - x) ** 2 + (dy - y) ** 2) / (size / 2.0) ** 2)
        electrons[rows, columns] += (glow + np.sqrt(glow) * random.standard_normal(glow.shape)).astype(np.float32)


def add_afterglows(electrons: FloatImage, mean_number: float, random: np.random.Generator) -> None:
    """Add what stars that saturated in a preceding exposure of another field left in the silicon, in place.

    Each is a disc of 3 to 12 pixels with the bleed trail of its column, both of the same few to tens of electrons per
    pixel, with their noise: traps that a full well has filled empty over minutes (persistence).

    Parameters
    ----------
    electrons
        (ny, nx) float32.
    mean_number
        Mean number on the CCD.
    random
        Generator.
    """
    ny, nx = electrons.shape
    for _ in range(random.poisson(mean_number)):
        x, y = random.uniform(0, nx), random.uniform(0, ny)
        radius, level = random.uniform(3.0, 12.0), 10.0 ** random.uniform(0.7, 1.8)
        rows = np.arange(max(int(y - 9.0 * radius), 0), min(int(y + 9.0 * radius) + 1, ny))[:, None] - y
        columns = np.arange(max(int(x - 1.5 * radius), 0), min(int(x + 1.5 * radius) + 2, nx)) - x
        trail2 = (rows / (6.0 * radius)) ** 2 + columns**2
        glow = level * np.exp(-(np.minimum((rows**2 + columns**2) / radius**2, trail2) ** 4))
        noise = np.sqrt(glow) * random.standard_normal(glow.shape)
        top, left = round(rows[0, 0] + y), round(columns[0] + x)
        electrons[top : top + len(rows), left : left + len(columns)] += (glow + noise).astype(np.float32)


@dataclass(frozen=True, eq=False)
class SwitchingColumns:
    """Columns that no map of bad pixels has, since they are hot in some exposures only.

    Attributes
    ----------
    column, first_row, last_row
        (n,) affected pixels, rows inclusive, away from the register.
    level_adu
        (n,) offset while it is on.
    """

    column: NDArray[np.intp]
    first_row: NDArray[np.intp]
    last_row: NDArray[np.intp]
    level_adu: FloatArray


def switching_columns(camera_seed: int, ccd: Ccd, mean_number: float) -> SwitchingColumns:
    """Draw the columns of a CCD that switch; they are the same in every exposure."""
    random = random_stream(camera_seed, "switching columns", ccd.ccdnum)
    n = random.poisson(mean_number)
    column, start = random.integers(60, NX - 60, n), random.integers(0, ccd.ny - 200, n)
    level = 10.0 ** random.uniform(0.5, 1.5, n)
    first, last = (start, np.full(n, ccd.ny - 1)) if register_below(ccd) else (np.zeros_like(start), ccd.ny - 1 - start)
    return SwitchingColumns(column, first, last, level)


def switch_columns(bias: FloatImage, columns: SwitchingColumns, random: np.random.Generator) -> FloatImage:
    """Return the bias of one exposure, with each switching column on or off by chance, ADU."""
    changed = bias.copy()
    on = random.random(len(columns.column)) < 0.5
    for x, y0, y1, level in zip(
        columns.column[on], columns.first_row[on], columns.last_row[on], columns.level_adu[on], strict=True
    ):
        changed[y0 : y1 + 1, x] += np.float32(level)
    return changed


def low_light_loss(measured_adu: FloatArray, share: float) -> FloatArray:
    """Return the linear ADU that are lost at low light beyond the linearity table: (n,), for measured ones."""
    return share * measured_adu * np.exp(-measured_adu / LOW_LIGHT_ADU)
