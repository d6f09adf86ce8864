"""Resample an image with mask and weight to another pixel grid with a Lanczos-3 kernel.

Lanczos resampling: Duchon (1979), as in SWarp (Bertin et al. 2002). The coordinates come from a coarse grid, the
weights from a table of sub-pixel phases. Flux is conserved: each value is multiplied by the ratio of the pixels' areas.
"""

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.bits import NOT_SEARCHED, MaskBit
from imaging.image import CalibratedImage, FloatImage, MaskImage
from imaging.templates.align import Alignment, measure_alignment
from imaging.templates.grid import PixelMap, pixel_map
from imaging.templates.noise import PHASES, TAPS, is_parallel, lanczos_table, resampled_noise
from imaging.templates.resampling_inputs import resampling_inputs_of
from imaging.templates.settings import StackSettings

FloatArray = NDArray[np.float64]

BLOCK = 32
"""Side of the blocks in which the weights of the images of a stack are compared, pixels."""

DEPTH_POINTS, DEPTH_STEP = 4, 0.1
"""Points per side of a block at which the weight is read, and width of the bins of its logarithm."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """One image on another's grid.

    Attributes
    ----------
    science
        (ny, nx) float32, electrons; zero outside the input image.
    mask
        (ny, nx) int16; EDGE outside the input image.
    weight
        (ny, nx) float32, inverse variance of the single pixel from sky and readout; zero where masked or outside.
    correlation
        (n, m, k, k) float32, mean autocorrelation of the noise in tiles, lags 0 to k - 1 in y and x, in units of the
        variance of an input pixel (lag zero is the factor by which the interpolation reduces the variance).
    grid
        Map from output to input pixels.
    alignment
        Correction of the coordinates included in the map.
    depth
        (n, m) weight of the image in blocks of :data:`BLOCK` pixels, in units of its most frequent one; None for a
        single exposure, which has the same everywhere.
    """

    science: FloatImage
    mask: MaskImage
    weight: FloatImage
    correlation: NDArray[np.float32]
    grid: PixelMap
    alignment: Alignment
    depth: FloatArray | None = None


def resample(image: CalibratedImage, search: CalibratedImage, settings: StackSettings) -> Resampled:
    """Resample an image to the pixel grid of another, aligned by common sources.

    Parameters
    ----------
    image
        Image to resample. Bad columns, cosmic rays and trails are interpolated before and masked after.
    search
        Image that defines the grid.
    settings
        Accuracy of the map; settings of the resampling inputs, if the image has none.

    Raises
    ------
    CcdError
        ``resample_map`` if the coordinate systems cannot be mapped on each other.
    """
    pixels, shape = image.pixels, search.pixels.shape
    laid = resampling_inputs_of(image, settings.resampling_inputs)
    grid, alignment = aligned_map(replace(image, resampling_inputs=laid), search, settings)
    science, mask = laid.repair(pixels.science), laid.grow(pixels.mask)
    table = lanczos_table()
    squares = (table.astype(float) ** 2).sum(axis=1).astype(np.float32)
    no_weight, outside = np.int16(int(NOT_SEARCHED)), np.int16(int(MaskBit.EDGE))
    # pixels that a template does not cover are never written, so that they use no memory
    out, out_weight = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    out_mask = np.full(shape, outside, dtype=np.int16)
    _resample(
        *(out, out_mask, out_weight, science, mask, pixels.weight, grid.x, grid.y, grid.area_ratio(), grid.step),
        *(table, squares, no_weight),
    )
    tile, own = settings.correlation_tile(shape), image.noise_correlation
    if own is None and is_parallel(grid):
        correlation = noise_correlation(grid, pixels.shape, tile)
    else:
        correlation = resampled_noise(grid, pixels.shape, tile, own)
    if own is not None:
        white = resampled_noise(grid, pixels.shape, tile, lags=1)
        out_weight *= np.float32(np.mean(white[..., 0, 0] / correlation[..., 0, 0]))
    depth = None if own is None else relative_depth(pixels.weight, grid)
    return Resampled(out, out_mask, out_weight, correlation, grid, alignment, depth)


def relative_depth(weight: FloatImage, grid: PixelMap) -> FloatArray:
    """Return the weight of an image in blocks of output pixels, in units of its most frequent one.

    Parameters
    ----------
    weight
        (ny, nx) inverse variance of the input image; zero without data.
    grid
        Map from output to input pixels.

    Returns
    -------
    depth
        (n, m), medians over the good pixels among 16 of each block of :data:`BLOCK` pixels; one without any.
    """
    ny, nx = weight.shape
    steps = (np.arange(DEPTH_POINTS) + 0.5) * BLOCK / DEPTH_POINTS
    y, x = ((np.arange(-(-size // BLOCK))[:, None] * BLOCK + steps).ravel() for size in grid.shape)
    xs, ys = (np.rint(a).astype(int) for a in grid.at(*np.meshgrid(x, y)))
    inside = (xs >= 0) & (ys >= 0) & (xs < nx) & (ys < ny)
    found = np.where(inside, weight[np.clip(ys, 0, ny - 1), np.clip(xs, 0, nx - 1)], 0.0)
    blocks = found.reshape(-1, DEPTH_POINTS, x.size // DEPTH_POINTS, DEPTH_POINTS).swapaxes(1, 2)
    points = blocks.reshape(*blocks.shape[:2], -1)
    level: FloatArray = np.ma.median(np.ma.masked_less_equal(points, 0.0), axis=2).filled(0.0)
    seen = level > 0
    if not seen.any():
        return np.ones(level.shape)
    steps, counts = np.unique(np.rint(np.log(level[seen]) / DEPTH_STEP), return_counts=True)
    usual = np.exp(steps[counts.argmax()] * DEPTH_STEP)
    near = np.abs(np.log(level[seen] / usual)) < DEPTH_STEP
    return np.where(seen, level / float(np.median(level[seen][near])), 1.0)


def aligned_map(image: CalibratedImage, search: CalibratedImage, settings: StackSettings) -> tuple[PixelMap, Alignment]:
    """Map the pixels of a search image to another image, aligned by common sources.

    Parameters
    ----------
    image, search
        The two images.
    settings
        Accuracy of the map, alignment.

    Raises
    ------
    CcdError
        ``resample_map`` if the coordinate systems cannot be mapped on each other.
    """
    grid = pixel_map(
        *(search.wcs, search.pixels.shape, image.wcs),
        step=settings.map_step_pixels,
        max_error_pixels=settings.map_error_pixels,
    )
    own, other = (resampling_inputs_of(i, settings.resampling_inputs).stars for i in (search, image))
    ny, nx = image.pixels.shape
    pixel_arcsec = float(np.sqrt(image.wcs.pixel_area_arcsec2(nx / 2, ny / 2)))
    alignment = measure_alignment(own, other, grid, settings, pixel_arcsec)
    return alignment.apply(grid), alignment


def noise_correlation(grid: PixelMap, source_shape: tuple[int, int], tile: int) -> NDArray[np.float32]:
    """Compute the noise correlation by the interpolation of white noise, in tiles.

    Neighbouring output pixels share input pixels; with the weights w of the taps at a sub-pixel phase the covariance
    at lag k is the sum of w[i] w[i + k], a product of both axes. The phases vary slowly over an image, so that the mean
    over a few positions of a tile is sufficient.

    Parameters
    ----------
    grid
        Map of the pixels.
    source_shape
        (ny, nx) of the input image.
    tile
        Side of a tile in output pixels.

    Returns
    -------
    correlation
        (n, m, 6, 6) float32, lags in y and x; see :class:`Resampled`.
    """
    ny, nx = grid.shape
    n, m = -(-ny // tile), -(-nx // tile)
    inner = (np.arange(4) + 0.5) * tile / 4
    y = (np.arange(n)[:, None, None, None] * tile + inner[None, None, :, None]) + np.zeros((n, m, 4, 4))
    x = (np.arange(m)[None, :, None, None] * tile + inner[None, None, None, :]) + np.zeros((n, m, 4, 4))
    xs, ys = grid.at(np.minimum(x, nx - 1.0), np.minimum(y, ny - 1.0))
    inside = (xs > 0) & (ys > 0) & (xs < source_shape[1] - 1) & (ys < source_shape[0] - 1)
    n_inside = inside.sum(axis=(2, 3))
    weight = np.where(inside, 1.0 / np.maximum(n_inside, 1)[:, :, None, None], 0.0)
    correlation = np.einsum("nmab,nmabk,nmabl->nmkl", weight, _lags(ys), _lags(xs))
    correlation[n_inside == 0, 0, 0] = 1.0
    return correlation.astype(np.float32)


def _lags(position: FloatArray) -> FloatArray:
    """Return (..., 6) autocorrelations of the taps' weights at positions' sub-pixel phases."""
    table = lanczos_table().astype(float)
    per_phase = np.stack([(table[:, : TAPS - k] * table[:, k:]).sum(axis=1) for k in range(TAPS)], axis=1)
    phase = position - np.floor(position)
    return per_phase[np.rint(phase * PHASES).astype(int)]


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
def _resample(
    out: FloatImage,
    out_mask: MaskImage,
    out_weight: FloatImage,
    science: FloatImage,
    mask: MaskImage,
    weight: FloatImage,
    grid_x: FloatArray,
    grid_y: FloatArray,
    area: FloatArray,
    step: int,
    table: NDArray[np.float32],
    squares: NDArray[np.float32],
    no_weight: np.int16,
) -> None:
    """Fill the output pixels covered by the input."""
    ny, nx = out.shape
    my, mx = science.shape
    for y in range(ny):
        cy = min(y // step, area.shape[0] - 1)
        fy = (y - cy * step) / step
        for cx in range(area.shape[1]):
            xa = grid_x[cy, cx] + fy * (grid_x[cy + 1, cx] - grid_x[cy, cx])
            xb = grid_x[cy, cx + 1] + fy * (grid_x[cy + 1, cx + 1] - grid_x[cy, cx + 1])
            ya = grid_y[cy, cx] + fy * (grid_y[cy + 1, cx] - grid_y[cy, cx])
            yb = grid_y[cy, cx + 1] + fy * (grid_y[cy + 1, cx + 1] - grid_y[cy, cx + 1])
            ratio = np.float32(area[cy, cx])
            last = nx if cx == area.shape[1] - 1 else (cx + 1) * step
            for x in range(cx * step, min(last, nx)):
                t = (x - cx * step) / step
                xs, ys = xa + t * (xb - xa), ya + t * (yb - ya)
                ix, iy = int(np.floor(xs)), int(np.floor(ys))
                if ix < 2 or iy < 2 or ix > mx - 4 or iy > my - 4:
                    continue
                px, py = int((xs - ix) * PHASES + 0.5), int((ys - iy) * PHASES + 0.5)
                wx = table[px]
                total = np.float32(0.0)
                for j in range(TAPS):
                    row = science[iy - 2 + j, ix - 2 : ix + 4]
                    part = (row[0] * wx[0] + row[1] * wx[1] + row[2] * wx[2] + row[3] * wx[3] + row[4] * wx[4]) + row[
                        5
                    ] * wx[5]
                    total += part * table[py, j]
                out[y, x] = total * ratio
                near_x, near_y = ix + (px > PHASES // 2), iy + (py > PHASES // 2)
                bits = mask[near_y, near_x]
                out_mask[y, x] = bits
                if (bits & no_weight) == 0:
                    out_weight[y, x] = weight[near_y, near_x] / (squares[px] * squares[py] * ratio * ratio)
