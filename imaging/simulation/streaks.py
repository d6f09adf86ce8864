"""Simulated satellite trails."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.simulation.cosmic_rays import SparsePixels
from imaging.simulation.exposures import SimulatedExposure, StreakTruth
from imaging.simulation.optics import TrueGeometry

FloatImage = NDArray[np.float32]

REACH = 4.5
"""Radius to which a trail is drawn, in units of its width."""

FIELD_DEG = 1.6
"""Half length of a trail, larger than the field's radius."""


@njit(cache=True)
def _draw(
    image: FloatImage, x0: float, y0: float, x1: float, y1: float, peak: FloatImage, sigma: float, reach: float
) -> None:
    """Add a Gaussian ridge between two points, with the brightness along it tabulated in ``peak``."""
    ny, nx = image.shape
    length = np.hypot(x1 - x0, y1 - y0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    half = reach * sigma
    for row in range(ny):
        if abs(ux) > 1e-9 and abs(uy) / abs(ux) < 1e4:
            # columns where the distance to the line is within reach
            if abs(uy) < 1e-9:
                if abs(row - y0) > half:
                    continue
                first, last = 0, nx - 1
            else:
                middle = x0 + (row - y0) * ux / uy
                width = half / abs(uy)
                first, last = max(int(np.ceil(middle - width)), 0), min(int(np.floor(middle + width)), nx - 1)
        else:
            first, last = max(int(np.ceil(x0 - half)), 0), min(int(np.floor(x0 + half)), nx - 1)
        for column in range(first, last + 1):
            dx, dy = column - x0, row - y0
            across = dx * uy - dy * ux
            along = (dx * ux + dy * uy) / length
            if 0.0 <= along < 1.0 and abs(across) <= half:
                image[row, column] += peak[int(along * len(peak))] * np.exp(-0.5 * (across / sigma) ** 2)


def add_streaks(image: FloatImage, exposure: SimulatedExposure, geometry: TrueGeometry) -> SparsePixels:
    """Add the light of the exposure's satellites to one CCD, in place.

    Parameters
    ----------
    image
        (ny, nx) float32, electrons.
    exposure
        The exposure.
    geometry
        Geometry of the CCD; trails are straight on the sky and nearly straight on the CCD.

    Returns
    -------
    pixels
        Every pixel that received at least one electron; the label is the streak's number from 1.
    """
    index, electrons, label = [], [], []
    for number, streak in enumerate(exposure.streaks, start=1):
        ends = streak_ends(streak, geometry, image.shape)
        if ends is None:
            continue
        light = np.zeros_like(image)
        along = np.linspace(-FIELD_DEG, FIELD_DEG, 4096)
        wave = 1.0 + streak.tumbling_amplitude * np.cos(2 * np.pi * along / streak.tumbling_period_deg)
        position = (along - ends[4]) / (ends[5] - ends[4])
        peak = np.interp(np.linspace(0, 1, 1024), position, streak.peak_electrons * wave).astype(np.float32)
        _draw(light, *ends[:4], peak, streak.sigma_pixels, REACH)
        found = np.flatnonzero(light.ravel() >= 1.0)
        image += light
        index.append(found)
        electrons.append(light.ravel()[found])
        label.append(np.full(len(found), number))
    return SparsePixels(
        np.concatenate([*index, []]).astype(np.int32),
        np.concatenate([*electrons, []]).astype(np.float32),
        np.concatenate([*label, []]).astype(np.int16),
    )


def streak_ends(
    streak: StreakTruth, geometry: TrueGeometry, shape: tuple[int, ...]
) -> tuple[float, float, float, float, float, float] | None:
    """Return the crossing of a trail and a CCD, or None.

    Returns
    -------
    ends
        x, y of two points outside the CCD's borders (pixels), and their distances along the trail (degrees).
    """
    along = np.linspace(-FIELD_DEG, FIELD_DEG, 4097)
    angle = np.radians(streak.angle_deg)
    x, y = geometry.wcs.plane_to_pixel(streak.xi_deg + along * np.cos(angle), streak.eta_deg + along * np.sin(angle))
    margin = max(30.0, REACH * streak.sigma_pixels)
    inside = (x > -margin) & (x < shape[1] + margin) & (y > -margin) & (y < shape[0] + margin)
    if not inside.any():
        return None
    first, last = np.flatnonzero(inside)[[0, -1]]
    first, last = max(first - 1, 0), min(last + 1, len(along) - 1)
    return float(x[first]), float(y[first]), float(x[last]), float(y[last]), float(along[first]), float(along[last])
