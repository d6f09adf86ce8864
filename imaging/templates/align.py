"""Measure the astrometric offset between a template and the search image from common sources."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from imaging.numerics.robust import clipped
from imaging.templates.grid import PixelMap
from imaging.templates.settings import StackSettings
from imaging.templates.transform import search_transform

FloatArray = NDArray[np.float64]

BIN = 0.5
"""Bin width of the histogram of offsets, pixels."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A correction of the mapping from search pixels to template pixels.

    Attributes
    ----------
    x, y
        Constant, slope along x and slope along y of the correction in template pixels; positions are in thousands of
        search pixels.
    n_sources
        Number of common sources used; zero if there were too few and there is no correction.
    rms_pixels
        Scatter of the sources about the correction, per axis.
    """

    x: tuple[float, float, float] = (0.0, 0.0, 0.0)
    y: tuple[float, float, float] = (0.0, 0.0, 0.0)
    n_sources: int = 0
    rms_pixels: float = float("nan")

    def apply(self, grid: PixelMap) -> PixelMap:
        """Return a map with the correction applied."""
        rows, columns = grid.x.shape
        x, y = np.meshgrid(np.arange(columns) * grid.step / 1000.0, np.arange(rows) * grid.step / 1000.0)
        return replace(
            grid,
            x=grid.x + self.x[0] + self.x[1] * x + self.x[2] * y,
            y=grid.y + self.y[0] + self.y[1] * x + self.y[2] * y,
        )


def measure_alignment(
    search: FloatArray, template: FloatArray, grid: PixelMap, settings: StackSettings, pixel_arcsec: float = 0.2637
) -> Alignment:
    """Compare centroids of bright sources of search and template.

    The most common offset of pairs is found first, then the clipped mean of the pairs around it; with enough sources a
    linear variation over the image is fitted. Where few sources agree, or badly, larger shifts and rotations are tried.

    Parameters
    ----------
    search, template
        (n, 2) and (m, 2) x and y of bright sources of the two images, each on its own pixels.
    grid
        Map from search pixels to template pixels by the WCS of both.
    settings
        Largest offset, fewest sources.
    pixel_arcsec
        Size of a template pixel.
    """
    (sx, sy), (tx, ty) = search.T, template.T
    px, py = grid.at(sx, sy)
    if sx.size < settings.align_min_sources or tx.size < settings.align_min_sources:
        return Alignment()
    near = _near_alignment(search, template, px, py, settings)
    margin = settings.align_max_pixels
    inside = (px > tx.min() - margin) & (px < tx.max() + margin) & (py > ty.min() - margin) & (py < ty.max() + margin)
    expected = min(int(inside.sum()), tx.size)
    if near.n_sources >= settings.align_min_share * expected and not near.rms_pixels > settings.align_max_rms_pixels:
        return near
    wide = search_transform(np.stack([px, py], axis=1), template, settings, pixel_arcsec)
    if wide is None or wide.n_sources <= near.n_sources:
        return near
    corners = np.array([[0.0, 0.0], [grid.shape[1] - 1.0, 0.0], [0.0, grid.shape[0] - 1.0]])
    at = np.stack(grid.at(corners[:, 0], corners[:, 1]), axis=1)
    solution = np.linalg.solve(np.hstack([np.ones((3, 1)), corners / 1000.0]), wide.apply(at) - at)
    x, y = ((float(c[0]), float(c[1]), float(c[2])) for c in solution.T)
    return Alignment(x, y, wide.n_sources, wide.rms_pixels)


def _near_alignment(
    search: FloatArray, template: FloatArray, px: FloatArray, py: FloatArray, settings: StackSettings
) -> Alignment:
    """Find the common offset of the predicted places (n,) and the template's sources, and fit it."""
    (sx, sy), (tx, ty) = search.T, template.T
    reach = settings.align_max_pixels
    neighbours = KDTree(template).query_ball_point(np.stack([px, py], axis=1), reach)
    first = np.repeat(np.arange(sx.size), [len(n) for n in neighbours])
    second = np.array([k for n in neighbours for k in n], dtype=int)
    if first.size < settings.align_min_sources:
        return Alignment()
    dx, dy = tx[second] - px[first], ty[second] - py[first]
    edges = np.arange(-reach, reach + BIN, BIN)
    counts, _, _ = np.histogram2d(dx, dy, bins=(edges, edges))
    smooth = sum(np.roll(counts, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    peak_x, peak_y = np.unravel_index(int(np.argmax(smooth)), counts.shape)
    if smooth[peak_x, peak_y] < settings.align_min_sources:
        return Alignment()
    near = np.hypot(dx - edges[peak_x] - BIN / 2, dy - edges[peak_y] - BIN / 2) < 3 * BIN
    return _fit(sx[first[near]], sy[first[near]], dx[near], dy[near], settings)


def _fit(x: FloatArray, y: FloatArray, dx: FloatArray, dy: FloatArray, settings: StackSettings) -> Alignment:
    keep = clipped(dx) & clipped(dy)
    linear = keep.sum() >= settings.align_linear_sources
    design = np.stack([np.ones_like(x), x / 1000.0, y / 1000.0], axis=1)[:, : 3 if linear else 1]
    for _ in range(3):
        if keep.sum() < settings.align_min_sources:
            return Alignment()
        solution = np.linalg.lstsq(design[keep], np.stack([dx, dy], axis=1)[keep], rcond=None)[0]
        residual = np.stack([dx, dy], axis=1) - design @ solution
        keep = clipped(residual[:, 0]) & clipped(residual[:, 1])
    full = np.zeros((3, 2))
    full[: design.shape[1]] = solution
    rms = float(np.sqrt(np.mean(residual[keep] ** 2)))
    ax, ay = (tuple(float(v) for v in full[:, k]) for k in (0, 1))
    return Alignment((ax[0], ax[1], ax[2]), (ay[0], ay[1], ay[2]), int(keep.sum()), rms)
