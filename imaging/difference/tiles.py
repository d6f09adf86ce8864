"""Divide an image into tiles with borders for processing in Fourier space."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.image import FloatImage

Pixels = Callable[[slice, slice], FloatImage]


@dataclass(frozen=True, slots=True)
class Tiling:
    """A division of an image into square tiles.

    Attributes
    ----------
    shape
        (ny, nx) of the image.
    tile
        Side of a tile, pixels; tiles at the upper borders may be smaller.
    border
        Margin around a tile in the transform, pixels.
    """

    shape: tuple[int, int]
    tile: int
    border: int

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along y and x."""
        return -(-self.shape[0] // self.tile), -(-self.shape[1] // self.tile)

    @property
    def fft_shape(self) -> tuple[int, int]:
        """Shape of the transforms."""
        ny, nx = (min(self.tile, side) + 2 * self.border for side in self.shape)
        return fft.next_fast_len(ny, real=True), fft.next_fast_len(nx, real=True)

    def __iter__(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield (row, column, slice in y, slice in x) of the tiles."""
        rows, columns = self.grid
        for j in range(rows):
            for i in range(columns):
                y = slice(j * self.tile, min((j + 1) * self.tile, self.shape[0]))
                yield j, i, y, slice(i * self.tile, min((i + 1) * self.tile, self.shape[1]))

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (rows, columns) x and y of the tiles' centres, pixels."""
        rows, columns = self.grid
        edge_y = np.minimum(np.arange(rows + 1) * self.tile, self.shape[0])
        edge_x = np.minimum(np.arange(columns + 1) * self.tile, self.shape[1])
        y, x = np.meshgrid(0.5 * (edge_y[1:] + edge_y[:-1] - 1), 0.5 * (edge_x[1:] + edge_x[:-1] - 1), indexing="ij")
        return x, y

    def index(self, x: float, y: float) -> tuple[int, int]:
        """Return (row, column) of the tile that contains a position."""
        rows, columns = self.grid
        return (
            int(np.clip(np.floor(y + 0.5) // self.tile, 0, rows - 1)),
            int(np.clip(np.floor(x + 0.5) // self.tile, 0, columns - 1)),
        )

    def cut(self, row: int, column: int, pixels: Pixels) -> FloatImage:
        """Return a tile with its border in the shape of the transforms, zero outside the image."""
        height, width = self.fft_shape
        y0, x0 = row * self.tile - self.border, column * self.tile - self.border
        ys = slice(max(y0, 0), min(y0 + height, self.shape[0]))
        xs = slice(max(x0, 0), min(x0 + width, self.shape[1]))
        plane = np.zeros((height, width), dtype=np.float32)
        plane[ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = pixels(ys, xs)
        return plane


def tiling_of(shape: tuple[int, ...], tile: int, border: int) -> Tiling:
    """Divide an image into tiles of a given side, or smaller ones for an image of less than two tiles."""
    ny, nx = shape
    return Tiling((ny, nx), min(tile, max(-(-min(ny, nx) // 2), 64)), border)


def bands(ny: int, rows: int = 256) -> Iterator[slice]:
    """Yield groups of rows of an image, so that intermediate images need not be in memory entirely."""
    for first in range(0, ny, rows):
        yield slice(first, min(first + rows, ny))


def pixels_of(image: FloatImage) -> Pixels:
    """Return a function that cuts rectangles out of an image."""
    return lambda y, x: image[y, x]


def filter_tiles(
    tiling: Tiling, images: tuple[Pixels, ...], kernel_at: Callable[[int, int], tuple[NDArray[np.floating], ...]]
) -> tuple[FloatImage, ...]:
    """Convolve images, each with its own kernel per tile.

    Parameters
    ----------
    tiling
        Division of the images; its border is at least the kernels' half width.
    images
        Functions of a slice in y and one in x that return these pixels, float32, so that a computed image need not be
        in memory entirely.
    kernel_at
        Function of a tile's row and column that returns one kernel (odd sides) per image.

    Returns
    -------
    filtered
        (ny, nx) float32 each.
    """
    outputs = tuple(np.empty(tiling.shape, dtype=np.float32) for _ in images)
    for row, column, y, x in tiling:
        for pixels, kernel, output in zip(images, kernel_at(row, column), outputs, strict=True):
            spectrum = fft.rfft2(tiling.cut(row, column, pixels))
            spectrum *= fft.rfft2(kernel.astype(np.float32, copy=False), s=tiling.fft_shape)
            filtered = fft.irfft2(spectrum, s=tiling.fft_shape, overwrite_x=True)
            # the kernel's first pixel was its origin, which moves the image by half a kernel
            first_y, first_x = (tiling.border + side // 2 for side in kernel.shape)
            output[y, x] = filtered[first_y : first_y + y.stop - y.start, first_x : first_x + x.stop - x.start]
    return outputs
