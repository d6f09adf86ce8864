"""Kernels of a convolved search image in the parts of its stack, within tiles that were whitened for one of them.

The search image is convolved to the PSF of the stack, which jumps where a template ends. A tile is whitened for the
part at its centre; in another part of the tile a source has another image and blank sky another noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imaging.difference.tiles import Tiling
from imaging.image import FloatImage

if TYPE_CHECKING:
    from imaging.difference.coverage import StackParts

FloatArray = NDArray[np.float64]


BLOCK = 32
"""Side of the blocks in which fluxes are compared where the stack is the same everywhere, pixels."""


@dataclass(frozen=True, eq=False)
class PartKernels:
    """Kernels with which the search image was convolved, and what they change within the tiles.

    Attributes
    ----------
    number
        (b, d) part of the stack in every block of pixels, one of c.
    block
        Side of the blocks, pixels.
    main
        (n, m, k, k) kernel of the largest part at the tiles' centres.
    changes
        (c, k, k) by how much the kernel of each part differs from it.
    own
        (n, m) part at the tiles' centres, for which they were whitened.
    variance
        (n, m, c) variance of the search image's noise in each part of a tile over that in the tile's own part.
    scale
        (b, d) factor by which the difference was multiplied in each block so that fluxes by its PSF model are right.
    psf_error
        (b, d) rms of the difference of a point source's image and the PSF model, relative to the rms of the model.
    """

    number: NDArray[np.int64]
    block: int
    main: FloatArray
    changes: FloatArray
    own: NDArray[np.int64]
    variance: FloatArray
    scale: FloatArray
    psf_error: FloatArray

    @classmethod
    def of(cls, coverage: "StackParts | None", main: FloatArray, changes: FloatArray, tiling: Tiling) -> "PartKernels":
        """Return kernels whose noise and images have not been computed yet; ``coverage`` None is one part."""
        block = BLOCK if coverage is None else coverage.makeup.block
        shape = (-(-tiling.shape[0] // block), -(-tiling.shape[1] // block))
        number = np.zeros(shape, dtype=np.int64) if coverage is None else coverage.number
        x, y = tiling.centres()
        own = number[y.astype(int) // block, x.astype(int) // block]
        variance = np.ones((*tiling.grid, len(changes)))
        return cls(number, block, main, changes, own, variance, np.ones(number.shape), np.zeros(number.shape))

    @property
    def of_tiles(self) -> FloatArray:
        """(n, m, k, k) kernels for which the tiles were whitened."""
        return np.asarray(self.main + self.changes[self.own])

    def at(self, values: NDArray[Any], x: Any, y: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return what is known per block, (b, d), at positions of any shape, pixels."""
        rows, columns = (
            np.clip(np.rint(p).astype(int) // self.block, 0, n - 1) for p, n in zip((y, x), values.shape, strict=True)
        )
        return np.asarray(values[rows, columns])

    def pixels(self, values: FloatArray, shape: tuple[int, ...]) -> FloatImage:
        """Return (ny, nx) float32 of what is known per block."""
        rows = np.repeat(values.astype(np.float32), self.block, axis=0)[: shape[0]]
        return np.repeat(rows, self.block, axis=1)[:, : shape[1]]


def blocks_of(parts: PartKernels, y: slice, x: slice) -> tuple[slice, slice]:
    """Return the rows and columns of the blocks that cover a rectangle of pixels."""
    size = parts.block
    return slice(y.start // size, -(-y.stop // size)), slice(x.start // size, -(-x.stop // size))


def pieces(tiling: Tiling, parts: PartKernels | None) -> Iterator[tuple[int, int, int, slice, slice]]:
    """Yield (row, column, part, slice in y, slice in x) of the rectangles of one part that each tile consists of."""
    for row, column, y, x in tiling:
        if parts is None:
            yield row, column, 0, y, x
            continue
        rows, columns = blocks_of(parts, y, x)
        number = parts.number[rows, columns]
        if (number == number[0, 0]).all():
            yield row, column, int(number[0, 0]), y, x
            continue
        for j, line in enumerate(number, rows.start):
            height = slice(max(j * parts.block, y.start), min((j + 1) * parts.block, y.stop))
            ends = [*(np.flatnonzero(np.diff(line)) + 1), line.size]
            for first, end in zip([0, *ends[:-1]], ends, strict=True):
                left, right = ((columns.start + i) * parts.block for i in (first, end))
                yield row, column, int(line[first]), height, slice(max(left, x.start), min(right, x.stop))
