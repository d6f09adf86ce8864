"""Mask bleed trails of saturated stars, edge bleeds and halos.

After the algorithm of the Dark Energy Survey's mkbleedmask: saturated pixels are grouped into stars; columns that
bleed are followed until they fade into the adjacent columns; at trails that reach the readout edge, charge spread along
the edge is searched for; the halo is a circle proportional to the star's size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_propagation

from imaging.bits import NOT_SKY, MaskBit
from imaging.detector.ccds import Ccd
from imaging.masks.settings import BleedSettings
from imaging.numerics.blocks import block_cells
from imaging.numerics.runs import Runs, find_runs

FloatImage = NDArray[np.float32]
MaskImage = NDArray[np.int16]

BLOCK_ROWS = 8
"""Rows averaged when following a trail."""
SPILL_ROWS = 24
"""Rows at the readout edge in which spilt charge saturates and resembles the core of a star."""
CELL = (8, 16)
"""(rows, columns) of the cells in which spilt charge is searched for."""
LOOK_AHEAD_ROWS = 512
MEDIAN_NOISE = 1.2533
"""Ratio of the noise of a median to that of a mean."""
RAY_ANGLES = np.radians([d + q for q in (0, 180) for d in (-60, -45, -30, -15, 0, 15, 30, 45, 60)])
"""Directions in which a star's profile is measured, without those of its trail."""


@dataclass(frozen=True, slots=True)
class _Star:
    """A group of saturated pixels: its box, pixels, centre and bleeding columns (half-open, empty if none)."""

    x0: int
    x1: int
    y0: int
    y1: int
    n_pixels: int
    x: float
    y: float
    trail_x0: int
    trail_x1: int


def mask_bleeds(
    science: FloatImage, mask: MaskImage, ccd: Ccd, read_noise_electrons: float, settings: BleedSettings
) -> dict[str, float]:
    """Set TRAIL, EDGEBLEED and STAR around saturated stars.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons, not sky-subtracted.
    mask
        (ny, nx) int16 with SATURATE set; changed.
    ccd
        The CCD, for the side of its readout edge.
    read_noise_electrons
        Read noise.
    settings
        Thresholds.

    Returns
    -------
    quality
        ``n_saturated_stars``, ``n_bleed_trails``, ``n_edge_bleeds``.
    """
    sky = sample_sky(science, mask)
    sigma = float(np.sqrt(max(sky, 0.0) + read_noise_electrons**2))
    runs = find_runs(mask, int(MaskBit.SATURATE), reach=3)
    for y, x0, x1 in zip(runs.y, runs.x0, runs.x1, strict=True):
        mask[max(y - settings.spill_rows, 0) : y + settings.spill_rows + 1, x0:x1] |= np.int16(MaskBit.TRAIL)
    stars = _saturated_stars(runs, ccd, settings)
    trails, spills = 0, 0
    for star in stars:
        if star.trail_x1 > star.trail_x0:
            trails += 1
            low, high = _mask_trail(science, mask, star, sigma, settings)
            spills += _mask_spill(science, mask, star, (low, high), ccd, sigma, settings)
    for star in stars:
        if mask[round(star.y), round(star.x)] & int(MaskBit.BADAMP):
            continue  # the surrounding level is undefined
        _mask_halo(mask, star, _star_radius(science, mask, star, sky, sigma, settings), settings)
    return {
        "n_saturated_stars": float(len(stars)),
        "n_bleed_trails": float(trails),
        "n_edge_bleeds": float(spills),
    }


def readout_at_bottom(ccd: Ccd) -> bool:
    """Whether a CCD is read through its first row: those whose post-scan rows lie above the data."""
    return ccd.a_is_left


def sample_sky(science: FloatImage, mask: MaskImage) -> float:
    """Return the median of the unmasked pixels on every 16th row and column, electrons; 0 if there are none."""
    bits = mask[8::16, 8::16] & np.int16(NOT_SKY)
    good = science[8::16, 8::16][bits == 0]
    return float(np.median(good)) if good.size else 0.0


def _saturated_stars(runs: Runs, ccd: Ccd, settings: BleedSettings) -> list[_Star]:
    """Describe the groups of saturated pixels that are large enough."""
    stars = []
    for members in runs.members() if runs.n_groups else []:
        y, x0, x1 = runs.y[members], runs.x0[members], runs.x1[members]
        n_pixels = int((x1 - x0).sum())
        if n_pixels >= settings.minimum_pixels:
            from_edge = y if readout_at_bottom(ccd) else ccd.ny - 1 - y
            stars.append(_describe(y, x0, x1, from_edge, settings.trail_rows))
    return stars


def _describe(
    y: NDArray[np.int32], x0: NDArray[np.int32], x1: NDArray[np.int32], from_edge: NDArray[np.int32], trail_rows: int
) -> _Star:
    """Find the bleeding columns of a star, and its centre at its widest row, ignoring spills at the readout edge."""
    left, right = int(x0.min()), int(x1.max())
    heights = np.zeros(right - left + 1, dtype=np.int64)
    np.add.at(heights, x0 - left, 1)
    np.add.at(heights, x1 - left, -1)
    heights = np.cumsum(heights)[:-1]
    tall = np.flatnonzero(heights >= trail_rows)
    trail = (left + int(tall[0]), left + int(tall[-1]) + 1) if tall.size else (0, 0)
    widths = x1 - x0
    inner = from_edge >= SPILL_ROWS
    if not inner.any() or widths[inner].max() < 3 * np.median(widths[inner]):
        inner = np.ones_like(inner)
    core = inner & (widths >= 0.7 * widths[inner].max())
    weight = widths[core].astype(float)
    centre_x = float(np.average(0.5 * (x0[core] + x1[core] - 1), weights=weight))
    centre_y = float(np.average(y[core], weights=weight))
    return _Star(left, right, int(y.min()), int(y.max()) + 1, int(widths.sum()), centre_x, centre_y, *trail)


def _mask_trail(
    science: FloatImage, mask: MaskImage, star: _Star, sigma: float, settings: BleedSettings
) -> tuple[int, int]:
    """Follow a trail up and down from the saturated pixels; return the rows it covers."""
    nx = science.shape[1]
    grow = settings.trail_grow_pixels
    x0, x1 = max(star.trail_x0 - grow, 0), min(star.trail_x1 + grow, nx)
    limit = settings.trail_sigma * sigma
    high = star.y1 + _trail_length(science[star.y1 :], star, limit)
    low = star.y0 - _trail_length(science[: star.y0][::-1], star, limit)
    mask[low:high, x0:x1] |= np.int16(MaskBit.TRAIL)
    return low, high


def _trail_length(rows: FloatImage, star: _Star, limit: float) -> int:
    """Count the rows outwards from the saturated pixels in which the bleeding columns exceed the adjacent ones.

    None if there are no adjacent columns: rows saturated over the whole width are not a star's trail.
    """
    nx = rows.shape[1]
    beside = [
        slice(max(star.trail_x0 - 10, 0), max(star.trail_x0 - 4, 0)),
        slice(star.trail_x1 + 4, star.trail_x1 + 10),
    ]
    columns = [c for s in beside for c in range(*s.indices(nx))]
    if not columns:
        return 0
    length = 0
    while length < rows.shape[0]:
        part = rows[length : length + LOOK_AHEAD_ROWS]
        n_blocks = -(-part.shape[0] // BLOCK_ROWS)
        edges = np.arange(n_blocks) * BLOCK_ROWS
        excess = part[:, star.trail_x0 : star.trail_x1].mean(axis=1) - np.median(part[:, columns], axis=1)
        counts = np.diff(np.append(edges, part.shape[0]))
        blocks = np.add.reduceat(excess, edges) / counts
        faded = blocks < limit
        ends = np.flatnonzero(faded & np.append(faded[1:], faded[-1:]))
        if ends.size:
            return length + int(edges[ends[0]]) + (BLOCK_ROWS if ends[0] > 0 else 0)
        length += part.shape[0]
    return rows.shape[0]


def _mask_spill(
    science: FloatImage,
    mask: MaskImage,
    star: _Star,
    rows: tuple[int, int],
    ccd: Ccd,
    sigma: float,
    settings: BleedSettings,
) -> bool:
    """Mask charge spilt along the readout edge by a trail; return whether the trail reaches the edge."""
    ny, nx = science.shape
    bottom = readout_at_bottom(ccd)
    if (rows[0] if bottom else ny - rows[1]) > settings.edge_reach_rows:
        return False
    depth = settings.edge_rows // CELL[0] * CELL[0]
    near = slice(0, depth) if bottom else slice(ny - depth, ny)
    beyond = slice(depth, 2 * depth) if bottom else slice(ny - 2 * depth, ny - depth)
    x0, x1 = max(star.trail_x0 - CELL[1], 0), min(star.trail_x1 + CELL[1], nx)
    reference = _column_levels(_cells(science[beyond], mask[beyond]))
    deviation = np.abs(_cells(science[near], mask[near]) - reference[None, :])
    noise = MEDIAN_NOISE * sigma / np.sqrt(CELL[0] * CELL[1])
    limit = max(settings.edge_sigma * noise, settings.edge_fraction * float(np.median(reference)))
    seeds = slice(max(star.trail_x0 // CELL[1] - 1, 0), star.trail_x1 // CELL[1] + 2)
    joined = _grow_from(~(deviation <= limit), seeds, at_end=not bottom)
    full = np.kron(joined, np.ones(CELL, dtype=bool))
    mask[near, : full.shape[1]][full] |= np.int16(MaskBit.EDGEBLEED)
    mask[near, x0:x1] |= np.int16(MaskBit.EDGEBLEED)
    return True


def _column_levels(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each column of cells; columns without data get the median of all, or 0."""
    known = np.isfinite(cells)
    levels = np.full(cells.shape[1], float(np.median(cells[known])) if known.any() else 0.0)
    some = known.any(axis=0)
    levels[some] = np.nanmedian(cells[:, some], axis=0)
    return levels


def _cells(science: FloatImage, mask: MaskImage) -> NDArray[np.float64]:
    """Median of every cell over pixels that are not bad by calibration; NaN where there is none."""
    ny, nx = science.shape[0] // CELL[0], science.shape[1] // CELL[1]
    bad = (mask & np.int16(MaskBit.BPM | MaskBit.BADAMP | MaskBit.EDGE)) != 0
    values = np.where(bad, np.nan, science)[: ny * CELL[0], : nx * CELL[1]]
    blocks = block_cells(values, *CELL)
    known = np.isfinite(blocks).any(axis=2)
    result = np.full((ny, nx), np.nan)
    result[known] = np.nanmedian(blocks[known], axis=1)
    return result


def _grow_from(flagged: NDArray[np.bool_], seeds: slice, *, at_end: bool) -> NDArray[np.bool_]:
    """Keep the flagged cells connected to flagged cells in some columns of the row at the edge."""
    start = np.zeros_like(flagged)
    start[-1 if at_end else 0, seeds] = True
    start[:, seeds] |= flagged[:, seeds]
    return binary_propagation(start & flagged, structure=np.ones((3, 3)), mask=flagged)


def _star_radius(
    science: FloatImage, mask: MaskImage, star: _Star, sky: float, sigma: float, settings: BleedSettings
) -> float:
    """Return the radius in pixels at which the profile of a star falls to the threshold."""
    ny, nx = science.shape
    radii = np.arange(1, int(settings.star_limit_pixels / settings.star_factor) + 1)
    x = np.rint(star.x + radii[:, None] * np.cos(RAY_ANGLES)).astype(int)
    y = np.rint(star.y + radii[:, None] * np.sin(RAY_ANGLES)).astype(int)
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    x, y = np.clip(x, 0, nx - 1), np.clip(y, 0, ny - 1)
    bad = mask[y, x] & np.int16(MaskBit.BPM | MaskBit.BADAMP | MaskBit.EDGE | MaskBit.TRAIL | MaskBit.EDGEBLEED)
    values = np.where(inside & (bad == 0), science[y, x], np.nan)
    known = np.isfinite(values).sum(axis=1) >= 3
    if not known.any():
        return 0.0
    profile = np.nanmedian(values[known], axis=1) - sky
    below = np.flatnonzero(profile < settings.star_sigma * sigma)
    return float(radii[known][below[0] if below.size else -1])


def _mask_halo(mask: MaskImage, star: _Star, radius: float, settings: BleedSettings) -> None:
    ny, nx = mask.shape
    reach = settings.star_factor * radius
    y0, y1 = max(int(star.y - reach), 0), min(int(star.y + reach) + 2, ny)
    x0, x1 = max(int(star.x - reach), 0), min(int(star.x + reach) + 2, nx)
    if y1 > y0 and x1 > x0:
        dy, dx = np.arange(y0, y1)[:, None] - star.y, np.arange(x0, x1)[None, :] - star.x
        mask[y0:y1, x0:x1][dx**2 + dy**2 <= reach**2] |= np.int16(MaskBit.STAR)
