"""Detect cosmic rays: pixels sharper than the point-spread function.

An astronomical source cannot be sharper than the point-spread function: the mean of two pixels on opposite sides of a
third is at least its value times the profile's drop at their distance. Pixels that violate this significantly are seeds
of a cosmic ray (the test of the SDSS photometric pipeline, Lupton et al. 2001, ASP Conf. Ser. 238, 269, and of Rubin).
From there a track is followed over neighbours that violate it less significantly, as where its charge is shared by two
rows or lies on a star; other bright neighbours are added at last.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.errors import CcdError
from imaging.masks.settings import CosmicRaySettings
from imaging.numerics.runs import find_runs

FloatImage = NDArray[np.float32]

MOFFAT_BETA = 3.0
"""Moffat index of the profile of the sharpest source that must not be masked."""
SHARES = (0.7, 0.35, 0.2)
"""Largest signal of added neighbours, by step from the seed pixels, relative to the brightest seed nearby: charge
diffuses no farther. Brighter pixels belong to a source under the cosmic ray."""
_MARGIN = 2
"""Largest distance of the compared pixels."""


@dataclass(frozen=True, eq=False)
class CosmicRays:
    """The cosmic rays of one image.

    Attributes
    ----------
    pixels
        (ny, nx) bool, True on cosmic rays.
    x, y
        (n,) float64, flux-weighted centres, pixels, 0-based.
    n_pixels
        (n,) int32, size.
    flux
        (n,) float64, electrons.
    """

    pixels: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    n_pixels: NDArray[np.int32]
    flux: NDArray[np.float64]


def find_cosmic_rays(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    fwhm_pixels: float,
    settings: CosmicRaySettings,
) -> CosmicRays:
    """Detect the cosmic rays of a sky-subtracted image.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons, sky subtracted.
    weight
        (ny, nx) float32, inverse variance without the sources' shot noise.
    mask
        (ny, nx) int16; pixels with a bit of ``NO_WEIGHT``, and those beside saturated ones, are ignored.
    fwhm_pixels
        Seeing on this CCD, along the short axis if the stars are elongated.
    settings
        Thresholds.

    Returns
    -------
    rays
        Pixels and a list of the rays.

    Raises
    ------
    CcdError
        If the seeing is unknown or too sharp to separate stars from cosmic rays (``cosmic_rays_seeing``), or if
        implausibly many pixels are found (``cosmic_rays_failed``).
    """
    _require_seeing(fwhm_pixels, settings)
    drops = sharpest_drops(settings.sharpness * fwhm_pixels)
    state = np.zeros(science.shape, dtype=np.uint8)
    bits, avoid = np.int16(NO_WEIGHT), np.int16(MaskBit.SATURATE | MaskBit.TRAIL | MaskBit.EDGEBLEED)
    limits = (np.float32(settings.minimum_sigma), np.float32(settings.gradient_sigma))
    seeds = _find_steep(science, weight, mask, bits, avoid, drops, *limits, state)
    _require_few(seeds.shape[0] / science.size, settings)
    lower = np.float32(settings.grow_sigma)
    seeds = _follow(science, weight, mask, bits, avoid, drops, lower, seeds, state)
    thresholds = np.array([settings.grow_sigma, settings.grow_sigma, settings.skirt_sigma], dtype=np.float32)
    _grow(science, weight, mask, bits, seeds, thresholds, np.array(SHARES, dtype=np.float32), state)
    return _collect(science, state)


def _require_seeing(fwhm_pixels: float, settings: CosmicRaySettings) -> None:
    if not fwhm_pixels >= settings.minimum_fwhm_pixels:
        raise CcdError(
            "seeing too sharp to separate stars from cosmic rays, or unknown",
            reason="cosmic_rays_seeing",
            step="cosmic rays",
            value=f"{fwhm_pixels:.2f} pixels",
            limit=f"{settings.minimum_fwhm_pixels} pixels or more",
        )


def _require_few(share: float, settings: CosmicRaySettings) -> None:
    if share > settings.maximum_fraction:
        raise CcdError(
            "too many pixels look like cosmic rays",
            reason="cosmic_rays_failed",
            step="cosmic rays",
            value=f"{share:.2%} of the pixels",
            limit=f"{settings.maximum_fraction:.0%}",
            remedy="check the seeing and the weights of this CCD",
        )


def sharpest_drops(fwhm_pixels: float) -> NDArray[np.float32]:
    """Return the drop of the profile of a source of this width over the compared distances.

    Returns
    -------
    drops
        (4,) float32, value over central value at 1, sqrt(2), 2 and sqrt(8) pixels: the pairs along the axes and along
        the diagonals, at one and at two steps.
    """
    alpha = fwhm_pixels / (2.0 * np.sqrt(2.0 ** (1.0 / MOFFAT_BETA) - 1.0))
    squared = np.array([1.0, 2.0, 4.0, 8.0])
    return ((1.0 + squared / alpha**2) ** -MOFFAT_BETA).astype(np.float32)


@njit(cache=True)
def _is_steep(
    science: FloatImage,
    weight: FloatImage,
    y: int,
    x: int,
    drops: NDArray[np.float32],
    threshold: float,
) -> bool:
    """Whether a pixel exceeds one of the eight pairs of pixels on opposite sides of it by too much."""
    value = science[y, x]
    variance = np.float32(1.0) / weight[y, x] + value
    for step in range(1, _MARGIN + 1):
        for direction in range(4):
            dy = (0, step, step, step)[direction]
            dx = (step, 0, step, -step)[direction]
            w1, w2 = weight[y + dy, x + dx], weight[y - dy, x - dx]
            if w1 <= 0 or w2 <= 0:
                continue
            v1, v2 = science[y + dy, x + dx], science[y - dy, x - dx]
            drop = drops[2 * (step - 1) + (1 if direction >= 2 else 0)]
            excess = drop * value - np.float32(0.5) * (v1 + v2)
            if excess <= 0:
                continue
            pair = np.float32(1.0) / w1 + np.float32(1.0) / w2 + max(v1, np.float32(0)) + max(v2, np.float32(0))
            if excess * excess > threshold * threshold * (drop * drop * variance + np.float32(0.25) * pair):
                return True
    return False


@njit(cache=True)
def _is_seed(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    bits: int,
    avoid: int,
    drops: NDArray[np.float32],
    minimum_sigma: float,
    gradient_sigma: float,
    y: int,
    x: int,
) -> bool:
    """Whether a pixel is good, bright, steep, and not beside a saturated one."""
    value, square = science[y, x], minimum_sigma * minimum_sigma
    if value <= 0 or weight[y, x] <= 0 or (mask[y, x] & bits) != 0:
        return False
    if value * value <= square * (np.float32(1.0) / weight[y, x] + value):
        return False
    if not _is_steep(science, weight, y, x, drops, gradient_sigma):
        return False
    for dy in range(-_MARGIN, _MARGIN + 1):
        for dx in range(-_MARGIN, _MARGIN + 1):
            if (mask[y + dy, x + dx] & avoid) != 0:
                return False
    return True


@njit(cache=True)
def _find_steep(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    bits: int,
    avoid: int,
    drops: NDArray[np.float32],
    minimum_sigma: float,
    gradient_sigma: float,
    state: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Mark the seeds with 1 in ``state`` and return their (y, x)."""
    ny, nx = science.shape
    found = np.empty((1024, 2), dtype=np.int32)
    n = 0
    square = minimum_sigma * minimum_sigma
    for y in range(_MARGIN, ny - _MARGIN):
        row, weights = science[y], weight[y]
        for x in range(_MARGIN, nx - _MARGIN):
            value = row[x]
            if value <= 0 or value * value * weights[x] <= square:  # most pixels, so that the search is short
                continue
            if _is_seed(science, weight, mask, bits, avoid, drops, minimum_sigma, gradient_sigma, y, x):
                found = _with_room(found, n)
                found[n, 0], found[n, 1] = y, x
                state[y, x] = 1
                n += 1
    return found[:n].copy()


@njit(cache=True)
def _with_room(found: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Return a list of n places that has room for one more."""
    if n < found.shape[0]:
        return found
    larger = np.empty((2 * n, 2), dtype=np.int32)
    larger[:n] = found
    return larger


@njit(cache=True)
def _follow(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    bits: int,
    avoid: int,
    drops: NDArray[np.float32],
    sigma: float,
    seeds: NDArray[np.int32],
    state: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Add to the seeds their neighbours, and those of these, that are seeds at a lower significance."""
    ny, nx = science.shape
    n, done = seeds.shape[0], 0
    found = np.empty((max(2 * n, 1), 2), dtype=np.int32)
    found[:n] = seeds
    while done < n:
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                y, x = found[done, 0] + dy, found[done, 1] + dx
                inside = _MARGIN <= y < ny - _MARGIN and _MARGIN <= x < nx - _MARGIN
                if not inside or state[y, x] != 0:
                    continue
                if _is_seed(science, weight, mask, bits, avoid, drops, sigma, sigma, y, x):
                    found = _with_room(found, n)
                    found[n, 0], found[n, 1] = y, x
                    state[y, x] = 1
                    n += 1
        done += 1
    return found[:n].copy()


@njit(cache=True)
def _local_level(
    science: FloatImage, weight: FloatImage, state: NDArray[np.uint8], y: int, x: int, values: NDArray[np.float32]
) -> float:
    """Median of the good pixels without cosmic rays, 7 x 7 around a pixel; 0 if there are none."""
    ny, nx = science.shape
    n = 0
    for v in range(max(y - 3, 0), min(y + 4, ny)):
        for u in range(max(x - 3, 0), min(x + 4, nx)):
            if state[v, u] == 0 and weight[v, u] > 0:
                values[n] = science[v, u]
                n += 1
    return float(np.median(values[:n])) if n > 0 else 0.0


@njit(cache=True)
def _brightest(science: FloatImage, state: NDArray[np.uint8], y: int, x: int) -> float:
    """Return the signal of the brightest steep pixel within two pixels; 0 if there is none."""
    ny, nx = science.shape
    value = 0.0
    for v in range(max(y - 2, 0), min(y + 3, ny)):
        for u in range(max(x - 2, 0), min(x + 3, nx)):
            if state[v, u] == 1 and science[v, u] > value:
                value = science[v, u]
    return value


@njit(cache=True)
def _grow(
    science: FloatImage,
    weight: FloatImage,
    mask: NDArray[np.int16],
    bits: int,
    seeds: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    shares: NDArray[np.float32],
    state: NDArray[np.uint8],
) -> None:
    """Add neighbours brighter than their surroundings, step by step outwards; the last step starts from all."""
    ny, nx = science.shape
    values = np.empty(49, dtype=np.float32)
    front, ray = seeds, seeds
    for step in range(thresholds.size):
        front = ray if step == thresholds.size - 1 else front
        added = np.empty((8 * front.shape[0], 2), dtype=np.int32)
        n = 0
        for i in range(front.shape[0]):
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    y, x = front[i, 0] + dy, front[i, 1] + dx
                    if y < 0 or y >= ny or x < 0 or x >= nx or state[y, x] != 0:
                        continue
                    if weight[y, x] <= 0 or (mask[y, x] & bits) != 0:
                        continue
                    level = max(_local_level(science, weight, state, y, x, values), 0.0)
                    sigma = np.sqrt(np.float32(1.0) / weight[y, x] + level)
                    excess = science[y, x] - level
                    limit = shares[step] * (_brightest(science, state, y, x) - level) + thresholds[step] * sigma
                    if thresholds[step] * sigma < excess < limit:
                        state[y, x] = 2
                        added[n, 0], added[n, 1] = y, x
                        n += 1
        front = added[:n].copy()
        ray = np.concatenate((ray, front))


def _collect(science: FloatImage, state: NDArray[np.uint8]) -> CosmicRays:
    """Group the marked pixels and measure the groups."""
    runs = find_runs(state.view(np.int8).astype(np.int16), 3, reach=1)
    x, y, flux = (np.zeros(runs.n_groups) for _ in range(3))
    n_pixels = np.zeros(runs.n_groups, dtype=np.int32)
    _measure(science, runs.y, runs.x0, runs.x1, runs.group, x, y, flux, n_pixels)
    return CosmicRays(state != 0, x, y, n_pixels, flux)


@njit(cache=True)
def _measure(
    science: FloatImage,
    rows: NDArray[np.int32],
    x0: NDArray[np.int32],
    x1: NDArray[np.int32],
    group: NDArray[np.int32],
    x: Any,  # noqa: ANN401
    y: Any,  # noqa: ANN401
    flux: Any,  # noqa: ANN401
    n_pixels: NDArray[np.int32],
) -> None:
    """Sum positions and signal over the pixels of each group, with positive weights."""
    weights = np.zeros(x.size)
    for i in range(rows.size):
        g = group[i]
        for column in range(x0[i], x1[i]):
            value = science[rows[i], column]
            weight = max(value, np.float32(1.0))
            flux[g] += value
            x[g] += weight * column
            y[g] += weight * rows[i]
            weights[g] += weight
            n_pixels[g] += 1
    for g in range(x.size):
        x[g] /= weights[g]
        y[g] /= weights[g]
