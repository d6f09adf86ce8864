"""Fill saturated star cores by a PSF fit to the wings, before resampling or convolution.

A convolution spreads the missing light of a saturated core over the size of the kernel, which causes rings of false
positives around bright stars. The wings give the star's flux and thereby its core.
"""

from itertools import pairwise

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.image import CcdImage, FloatImage, MaskImage
from imaging.psf.draw import draw_stamp_and_slopes, local_samples, position_terms
from imaging.psf.model import PsfModel
from imaging.templates.pixels import repair_rows

FloatArray = NDArray[np.float64]

MIN_CORE = 3
"""Fewest saturated pixels of a star's core."""

REACH = 20
"""Radius of the fitted wings, pixels."""

ITERATIONS = 5
"""Largest number of iterations of flux and position."""

ENOUGH = 0.03
"""Change of the position below which the fit has converged, pixels."""

MAX_TRAIL = 80
"""Widest bleed trail that is interpolated along the rows, pixels."""

MAX_SHIFT = 4.0
"""Largest shift of the position from the core's central pixel."""

MAX_RESIDUAL = 0.3
"""Largest relative residual of the wings; cores beyond it are not filled (a blend or a galaxy)."""


def repair_pixels(pixels: CcdImage, psf: PsfModel, max_gap: int = 12) -> FloatImage:
    """Return an image's pixels with saturated cores filled, and narrow defects and bleed trails interpolated.

    Parameters
    ----------
    pixels
        The image.
    psf
        Its PSF.
    max_gap
        Widest defect interpolated along the row, pixels.
    """
    science = repair_rows(pixels.science, pixels.mask, max_gap)
    fill_saturated_cores(science, pixels.mask, pixels.weight, psf)
    return science


def fill_saturated_cores(science: FloatImage, mask: MaskImage, weight: FloatImage, psf: PsfModel) -> int:
    """Replace saturated cores by the PSF that fits the star's wings, and interpolate their bleed trails, in place.

    A trail holds charge of the full well over hundreds of rows, of which the kernel would bring a part in a thousand to
    the sky beside it.

    Parameters
    ----------
    science
        (ny, nx) float32, changed where cores are filled.
    mask
        (ny, nx) int16; not changed.
    weight
        (ny, nx) float32, inverse variance.
    psf
        PSF of the image.

    Returns
    -------
    n_filled
        Number of cores.
    """
    places, first = _connected(mask, np.int16(MaskBit.SATURATE))
    filled = 0
    for start, end in pairwise(first):
        if end - start >= MIN_CORE:
            rows, columns = np.divmod(places[start:end], mask.shape[1])
            x, y = _middle(rows, columns)
            filled += _fill_one(science, mask, weight, psf, x, y)
            trail = np.abs(rows - y) > REACH
            _interpolate_trail(science, mask, rows[trail], columns[trail], np.int16(int(NO_WEIGHT)))
    return filled


@numba.njit(cache=True)
def _interpolate_trail(
    science: FloatImage, mask: MaskImage, rows: NDArray[np.int64], columns: NDArray[np.int64], bad: np.int16
) -> None:
    """Interpolate the bad pixels on both sides of places along their rows, unless they are wider than a trail."""
    nx = mask.shape[1]
    for k in range(rows.size):
        values, bits = science[rows[k]], mask[rows[k]]
        left = right = columns[k]
        while left >= 0 and (bits[left] & bad) != 0:
            left -= 1
        while right < nx and (bits[right] & bad) != 0:
            right += 1
        if right - left - 1 > MAX_TRAIL or (left < 0 and right == nx):
            continue
        last = values[right] if right < nx else values[left]
        first = values[left] if left >= 0 else last
        for i in range(left + 1, right):
            values[i] = first + (last - first) * np.float32((i - left) / (right - left))


def _middle(y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[float, float]:
    """Return x and y of a core's centre, from its widest rows, so that a bleed trail does not shift it."""
    rows, widths = np.unique(y, return_counts=True)
    widest = rows[int(np.argmax(widths))]
    return float(x[y == widest].mean()), float(rows[widths >= 0.8 * widths.max()].mean())


@numba.njit(cache=True)
def _connected(mask: MaskImage, bit: np.int16) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the flat indices of pixels with a bit, and the start of each group of neighbours."""
    ny, nx = mask.shape
    flat = mask.ravel()
    total = 0
    for k in range(flat.size):
        total += (flat[k] & bit) != 0
    places, first = np.empty(total, dtype=np.int64), [0]
    seen = np.zeros(flat.size if total else 0, dtype=np.bool_)
    top = 0
    for seed in range(flat.size if total else 0):
        if (flat[seed] & bit) == 0 or seen[seed]:
            continue
        places[top], seen[seed], done = seed, True, top
        top += 1
        while done < top:
            j, i = places[done] // nx, places[done] % nx
            done += 1
            for b in range(max(j - 1, 0), min(j + 2, ny)):
                for a in range(max(i - 1, 0), min(i + 2, nx)):
                    k = b * nx + a
                    if (flat[k] & bit) != 0 and not seen[k]:
                        places[top], seen[k] = k, True
                        top += 1
        first.append(top)
    return places, np.array(first)


def _fill_one(science: FloatImage, mask: MaskImage, weight: FloatImage, psf: PsfModel, x: float, y: float) -> bool:
    """Fit the wings about a position and fill the core; return whether that was possible."""
    cx, cy = round(x), round(y)
    ny, nx = science.shape
    if not (REACH <= cx < nx - REACH and REACH <= cy < ny - REACH):
        return False
    window = (slice(cy - REACH, cy + REACH + 1), slice(cx - REACH, cx + REACH + 1))
    data, bits = science[window].astype(float), mask[window]
    good = (bits & np.int16(int(NO_WEIGHT))) == 0
    axis = np.arange(-REACH, REACH + 1)
    good &= np.hypot(axis[:, None], axis[None, :]) <= REACH
    if good.sum() < 200:
        return False
    terms = position_terms(x, y, psf.degree, psf.origin, psf.scale)
    samples = local_samples(psf.coefficients, terms, psf.coefficients.shape[1])
    dx, dy = x - cx, y - cy
    noise = 1.0 / np.maximum(weight[window][good], 1e-12)
    solution = np.zeros(4)
    for _ in range(ITERATIONS):
        stamp, slope_x, slope_y = draw_stamp_and_slopes(samples, psf.step, dx, dy, REACH)
        columns = np.stack([stamp[good], slope_x[good], slope_y[good], np.ones(good.sum())], axis=1)
        w = 1.0 / (noise + np.maximum(data[good], 0.0) + (0.05 * data[good]) ** 2)
        weighted = (columns * w[:, None]).T
        solution = np.linalg.lstsq(weighted @ columns, weighted @ data[good], rcond=1e-10)[0]
        if solution[0] <= 0:
            return False
        step_x, step_y = np.clip(solution[1:3] / solution[0], -1.0, 1.0)
        dx, dy = float(np.clip(dx + step_x, -MAX_SHIFT, MAX_SHIFT)), float(np.clip(dy + step_y, -MAX_SHIFT, MAX_SHIFT))
        if max(abs(step_x), abs(step_y)) < ENOUGH:
            break
    model = solution[0] * stamp + solution[3]
    bright = good & (model > 10.0 * np.sqrt(np.median(noise)))
    if not bright.any() or np.median(np.abs(data[bright] / model[bright] - 1.0)) > MAX_RESIDUAL:
        return False
    lost = (bits & np.int16(MaskBit.SATURATE | MaskBit.TRAIL)) != 0
    lost &= np.hypot(axis[:, None], axis[None, :]) <= REACH
    science[window][lost] = model[lost].astype(np.float32)
    return True
