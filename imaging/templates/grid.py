"""Map pixels of one image to those of another by interpolating a coarse grid of exact coordinates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imaging.errors import CcdError

if TYPE_CHECKING:
    from imaging.wcs.foreign import ImageWcs

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelMap:
    """Map from pixels of an output image to an input image, exact at every ``step``-th pixel.

    Attributes
    ----------
    x, y
        (n, m) input pixels, 0-based, of the output pixels (i step, j step); the last node is on or beyond the output's
        last pixel.
    step
        Spacing of the nodes in output pixels.
    shape
        (ny, nx) of the output image.
    error_pixels
        Largest error of the bilinear interpolation at the centres of the cells.
    """

    x: FloatArray
    y: FloatArray
    step: int
    shape: tuple[int, int]
    error_pixels: float

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the input pixels of output pixels (any shape), bilinearly interpolated."""
        u, v = np.asarray(x, dtype=float) / self.step, np.asarray(y, dtype=float) / self.step
        i = np.clip(np.floor(u).astype(int), 0, self.x.shape[1] - 2)
        j = np.clip(np.floor(v).astype(int), 0, self.x.shape[0] - 2)
        fu, fv = u - i, v - j
        return _bilinear(self.x, i, j, fu, fv), _bilinear(self.y, i, j, fu, fv)

    def area_ratio(self) -> FloatArray:
        """Return (n - 1, m - 1) input pixels per output pixel in each cell, the factor of flux conservation."""
        ax, ay = np.diff(self.x, axis=1)[:-1], np.diff(self.y, axis=1)[:-1]
        bx, by = np.diff(self.x, axis=0)[:, :-1], np.diff(self.y, axis=0)[:, :-1]
        return np.abs(ax * by - ay * bx) / self.step**2


def pixel_map(
    output: "ImageWcs", shape: tuple[int, int], source: "ImageWcs", *, step: int = 32, max_error_pixels: float = 1e-3
) -> PixelMap:
    """Build the map from output to input pixels, with the spacing required for a given accuracy.

    Parameters
    ----------
    output
        World coordinates of the output image.
    shape
        (ny, nx) of the output image.
    source
        World coordinates of the input image.
    step
        Initial spacing of the nodes, pixels; halved until the interpolation is accurate.
    max_error_pixels
        Largest error allowed at the centres of the cells.

    Raises
    ------
    CcdError
        ``resample_map`` if a spacing of two pixels is not enough or the images are on opposite sides of the sky.
    """
    spacing = step
    while spacing >= 2:
        result = _tabulate(output, shape, source, spacing)
        if result.error_pixels <= max_error_pixels:
            return result
        spacing //= 2
    raise CcdError(
        "the two coordinate systems cannot be mapped on each other",
        reason="resample_map",
        step="resample",
        value=f"{result.error_pixels:.3g} pixel",
        limit=f"{max_error_pixels:g} pixel",
        remedy="check the astrometric solutions of search and template",
    )


def _tabulate(output: "ImageWcs", shape: tuple[int, int], source: "ImageWcs", step: int) -> PixelMap:
    ny, nx = shape
    cells_x, cells_y = -(-(nx - 1) // step) or 1, -(-(ny - 1) // step) or 1
    gx, gy = np.meshgrid(np.arange(cells_x + 1) * step, np.arange(cells_y + 1) * step)
    x, y = source.sky_to_pixel(*output.pixel_to_sky(gx, gy))
    coarse = PixelMap(x, y, step, shape, 0.0)
    mid_x, mid_y = gx[:-1, :-1] + step / 2, gy[:-1, :-1] + step / 2
    exact_x, exact_y = source.sky_to_pixel(*output.pixel_to_sky(mid_x, mid_y))
    near_x, near_y = coarse.at(mid_x, mid_y)
    error = float(np.max(np.hypot(exact_x - near_x, exact_y - near_y)))
    return PixelMap(x, y, step, shape, error if np.isfinite(error) else float("inf"))


@numba.njit(cache=True)
def _bilinear(
    grid: FloatArray, i: NDArray[np.int64], j: NDArray[np.int64], fu: FloatArray, fv: FloatArray
) -> FloatArray:
    out = np.empty(i.shape)
    flat, fi, fj, ffu, ffv = out.ravel(), i.ravel(), j.ravel(), fu.ravel(), fv.ravel()
    for k in range(flat.size):
        a, b = fj[k], fi[k]
        low = grid[a, b] + ffu[k] * (grid[a, b + 1] - grid[a, b])
        high = grid[a + 1, b] + ffu[k] * (grid[a + 1, b + 1] - grid[a + 1, b])
        flat[k] = low + ffv[k] * (high - low)
    return out
