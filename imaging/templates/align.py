"""Measure how far a template's coordinates are off the search image's, from the sources that both show."""

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from imaging.image import CalibratedImage, FloatImage
from imaging.numerics.robust import clipped
from imaging.templates.grid import PixelMap
from imaging.templates.relative import find_bright_sources
from imaging.templates.settings import StackSettings

FloatArray = NDArray[np.float64]

MAX_SOURCES = 400
BIN = 0.5
"""Bin of the histogram of offsets, pixels."""


@dataclass(frozen=True, eq=False)
class Sources:
    """Centroids of bright sources: (n,) pixels."""

    x: FloatArray
    y: FloatArray


@dataclass(frozen=True, slots=True)
class Alignment:
    """A correction of where search pixels lie in a template.

    Attributes
    ----------
    x, y
        Constant, slope along x and slope along y of the correction in template pixels; positions are in thousands of
        search pixels.
    n_sources
        Common sources behind it; zero if there were too few and the correction is none.
    rms_pixels
        Scatter of the sources about it, per axis.
    """

    x: tuple[float, float, float] = (0.0, 0.0, 0.0)
    y: tuple[float, float, float] = (0.0, 0.0, 0.0)
    n_sources: int = 0
    rms_pixels: float = float("nan")

    def apply(self, grid: PixelMap) -> PixelMap:
        """Return a map that contains the correction."""
        rows, columns = grid.x.shape
        x, y = np.meshgrid(np.arange(columns) * grid.step / 1000.0, np.arange(rows) * grid.step / 1000.0)
        return replace(
            grid,
            x=grid.x + self.x[0] + self.x[1] * x + self.x[2] * y,
            y=grid.y + self.y[0] + self.y[1] * x + self.y[2] * y,
        )


def measure_alignment(search: Sources, template: CalibratedImage, grid: PixelMap, settings: StackSettings) -> Alignment:
    """Compare centroids of bright sources of search and template.

    The most common offset of pairs is found first, then the mean of the pairs around it, clipped; with enough sources
    it may change linearly over the image.

    Parameters
    ----------
    search
        Bright sources of the search image.
    template
        The template, on its own pixels.
    grid
        Where search pixels lie in the template, according to the coordinates of both.
    settings
        Largest offset, fewest sources.
    """
    sx, sy = search.x, search.y
    others = find_sources(template)
    tx, ty = others.x, others.y
    px, py = grid.at(sx, sy)
    if sx.size < settings.align_min_sources or tx.size < settings.align_min_sources:
        return Alignment()
    reach = settings.align_max_pixels
    neighbours = KDTree(np.stack([tx, ty], axis=1)).query_ball_point(np.stack([px, py], axis=1), reach)
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


def find_sources(image: CalibratedImage) -> Sources:
    """Find the brightest unsaturated sources of an image and measure their centroids."""
    pixels = image.pixels
    x, y, _ = find_bright_sources(pixels.science, pixels.weight, min_snr=15.0, maximum=0.8 * image.saturation_electrons)
    centre = _window(pixels.science, x[:MAX_SOURCES], y[:MAX_SOURCES], image.psf.fwhm_pixels / 2.3548)
    good = np.isfinite(centre[:, 0])
    return Sources(centre[good, 0], centre[good, 1])


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


@numba.njit(cache=True)
def _window(science: FloatImage, x: FloatArray, y: FloatArray, sigma: float) -> FloatArray:
    """Return (n, 2) Gaussian-windowed centroids, NaN where the iteration leaves the source or the image."""
    ny, nx = science.shape
    reach = int(np.ceil(3.0 * sigma))
    out = np.full((x.size, 2), np.nan)
    for k in range(x.size):
        cx, cy = x[k], y[k]
        for _ in range(20):
            i0, j0 = int(np.rint(cx)) - reach, int(np.rint(cy)) - reach
            if i0 < 0 or j0 < 0 or i0 + 2 * reach >= nx or j0 + 2 * reach >= ny:
                break
            total = mx = my = 0.0
            for j in range(j0, j0 + 2 * reach + 1):
                for i in range(i0, i0 + 2 * reach + 1):
                    dx, dy = i - cx, j - cy
                    value = science[j, i] * np.exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma))
                    total += value
                    mx += value * dx
                    my += value * dy
            if total <= 0.0:
                break
            cx += 2.0 * mx / total
            cy += 2.0 * my / total
            if (cx - x[k]) ** 2 + (cy - y[k]) ** 2 > 9.0:
                break
            if mx * mx + my * my < (1e-3 * total) ** 2:
                out[k, 0], out[k, 1] = cx, cy
                break
    return out
