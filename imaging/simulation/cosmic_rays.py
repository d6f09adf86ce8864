"""Simulated cosmic rays: muons, scattered electrons and compact hits in 250 micrometres of silicon."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

THICKNESS_PIXELS = 250.0 / 15.0
"""Thickness of the CCDs in pixels: 250 micrometres, pixels of 15."""

ELECTRONS_PER_PIXEL_LENGTH = 75.0 * 15.0
"""Charge of a minimum-ionising particle: about 75 electrons per micrometre."""

DIFFUSION_PIXELS = 0.45
"""Diffusion over the whole thickness, Gaussian sigma."""

MUON_SHARE, WORM_SHARE = 0.6, 0.2
"""Fractions of muons and of low-energy electrons (worms); the rest are compact hits."""

STEP_PIXELS = 0.25


@dataclass(frozen=True, eq=False)
class SparsePixels:
    """Charge in some pixels.

    Attributes
    ----------
    index
        (n,) int32, flat index into the trimmed CCD.
    electrons
        (n,) float32.
    label
        (n,) int16, number of the track or streak.
    """

    index: NDArray[np.int32]
    electrons: FloatImage
    label: NDArray[np.int16]


@njit(cache=True)
def _deposit(image: FloatImage, x: float, y: float, electrons: float, sigma: float) -> None:
    """Add a small Gaussian cloud, normalised on its 5 x 5 pixels."""
    ny, nx = image.shape
    column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    wx, wy = np.empty(5), np.empty(5)
    for k in range(5):
        wx[k] = np.exp(-0.5 * ((column + k - 2 - x) / sigma) ** 2)
        wy[k] = np.exp(-0.5 * ((row + k - 2 - y) / sigma) ** 2)
    total = wx.sum() * wy.sum()
    for i in range(5):
        for j in range(5):
            a, b = row + i - 2, column + j - 2
            if 0 <= a < ny and 0 <= b < nx:
                image[a, b] += electrons * wy[i] * wx[j] / total


@njit(cache=True)
def _deposit_track(image: FloatImage, x: FloatArray, y: FloatArray, electrons: FloatArray, sigma: FloatArray) -> None:
    for k in range(len(x)):
        _deposit(image, x[k], y[k], electrons[k], sigma[k])


def add_cosmic_rays(image: FloatImage, mean_number: float, random: np.random.Generator) -> SparsePixels:
    """Add cosmic rays to an image of electrons, in place.

    Parameters
    ----------
    image
        (ny, nx) float32, electrons.
    mean_number
        Mean number of tracks.
    random
        Generator.

    Returns
    -------
    pixels
        Every pixel that received at least one electron, with its track (a pixel of two tracks belongs to both).
    """
    ny, nx = image.shape
    index, electrons, label = [], [], []
    for track in range(random.poisson(mean_number)):
        x, y, charge, sigma = _draw_track(random, nx, ny)
        x0, y0 = int(np.floor(x.min())) - 3, int(np.floor(y.min())) - 3
        patch = np.zeros((int(y.max()) - y0 + 4, int(x.max()) - x0 + 4), dtype=np.float32)
        _deposit_track(patch, x - x0, y - y0, charge, sigma)
        rows, columns = np.nonzero(patch >= 1.0)
        value = patch[rows, columns]
        rows, columns = rows + y0, columns + x0
        inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
        rows, columns, value = rows[inside], columns[inside], value[inside]
        image[rows, columns] += value
        index.append(rows * nx + columns)
        electrons.append(value)
        label.append(np.full(len(value), track + 1))
    return SparsePixels(
        np.concatenate([*index, []]).astype(np.int32),
        np.concatenate([*electrons, []]).astype(np.float32),
        np.concatenate([*label, []]).astype(np.int16),
    )


def _draw_track(random: np.random.Generator, nx: int, ny: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw one track: positions of its steps, their electrons and diffusion."""
    x0, y0 = random.uniform(-20, nx + 20), random.uniform(-20, ny + 20)
    kind = random.random()
    if kind < MUON_SHARE:
        return _muon(random, x0, y0)
    if kind < MUON_SHARE + WORM_SHARE:
        return _worm(random, x0, y0)
    sigma = DIFFUSION_PIXELS * np.sqrt(random.random())
    charge = 10.0 ** random.uniform(2.8, 4.2)
    return np.array([x0]), np.array([y0]), np.array([charge]), np.array([max(sigma, 0.12)])


def _muon(random: np.random.Generator, x0: float, y0: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw a straight line through the thickness, with a cos^2 zenith-angle distribution for a tilted camera."""
    tangent = min(np.tan(np.arccos(max(random.random() ** (1.0 / 3.0), 0.05))) * random.uniform(0.5, 3.0), 15.0)
    azimuth = random.uniform(0.0, 2 * np.pi)
    length = THICKNESS_PIXELS * np.hypot(1.0, tangent)
    n = max(int(length / STEP_PIXELS), 4)
    depth = (np.arange(n) + 0.5) / n
    x = x0 + depth * THICKNESS_PIXELS * tangent * np.cos(azimuth)
    y = y0 + depth * THICKNESS_PIXELS * tangent * np.sin(azimuth)
    fluctuation = 1.0 + 0.15 * np.log1p(random.pareto(1.8, n))
    charge = ELECTRONS_PER_PIXEL_LENGTH * length / n * fluctuation * random.uniform(0.9, 1.3)
    return x, y, charge, np.maximum(DIFFUSION_PIXELS * np.sqrt(depth), 0.12)


def _worm(random: np.random.Generator, x0: float, y0: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw a scattered slow electron: a random walk in direction that increases towards the end."""
    n = int(random.uniform(8.0, 60.0) / STEP_PIXELS)
    turn = np.cumsum(random.normal(0.0, 1.0, n) * np.linspace(0.06, 0.30, n)) + random.uniform(0.0, 2 * np.pi)
    x, y = x0 + np.cumsum(np.cos(turn)) * STEP_PIXELS, y0 + np.cumsum(np.sin(turn)) * STEP_PIXELS
    charge = ELECTRONS_PER_PIXEL_LENGTH * STEP_PIXELS * np.linspace(0.9, 2.2, n) * random.uniform(0.8, 1.2, n)
    sigma = max(DIFFUSION_PIXELS * np.sqrt(random.random()), 0.12)
    return x, y, charge, np.full(n, sigma)
