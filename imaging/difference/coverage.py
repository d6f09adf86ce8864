"""Adapt the matching kernel to the parts of a stack that have other inputs than most of it.

At the border of an input the stack's PSF is discontinuous, which a smooth kernel cannot model. The inputs' PSF models
and their fractions of the weight tell the PSF of every part, and by how much its kernel differs from the usual one.
A stack of another survey has such parts too, which its weights show. Their PSFs are not known: the change of the kernel
is measured with the stars there (:mod:`imaging.difference.unknown_parts`).
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, label

from imaging.difference.kernel import MatchingKernel
from imaging.image import FloatImage
from imaging.numerics.blocks import reduce_blocks
from imaging.numerics.convolution import convolve
from imaging.psf.model import PsfModel
from imaging.templates.stack import StackMakeup

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MIN_CHANGE = 0.05
"""Smaller differences of an input's fraction of the weight do not make another part."""

DEPTH_CHANGE = 0.15
"""Smaller relative differences of the weight of a stack that another survey has made do not make another part."""

MIN_BLOCKS = 4
"""Fewest blocks of a part; others are on borders and belong to the part they resemble most."""

MAX_PARTS = 16
"""Largest number of parts."""

MIN_DEFICIT = 0.12
"""Smaller relative deficits of weight are due to interpolation and amplifiers, not to a missing input."""

OTHER_DIFFERENCES = 0.05
"""Relative difference of two inputs at a source, from turbulence and noise of the PSFs."""

HALF_WIDTH = 12
"""Half width of the compared PSF stamps, pixels."""

RIDGE = 1e-5
"""Relative increase of the normal matrix's diagonal where the kernels of two parts are compared."""


@dataclass(frozen=True, eq=False)
class StackParts:
    """The parts of a stack, each with the same inputs.

    Attributes
    ----------
    makeup
        Inputs of the stack.
    number
        (n, m) int64, part of every block of pixels; zero is the largest part.
    shares
        (c, k) fractions of the inputs in the weight of each part.
    search
        PSF of the search image if it is convolved; None if the template is.
    unknown
        (c,) whether an input of the part is a stack with another weight than usual, hence another PSF than its model.
    """

    makeup: StackMakeup
    number: NDArray[np.int64]
    shares: FloatArray
    search: PsfModel | None
    unknown: BoolArray

    def part_at(self, x: FloatArray, y: FloatArray) -> NDArray[np.int64]:
        """Return (n,) the parts at positions, pixels."""
        rows = np.minimum(np.asarray(y, dtype=int) // self.makeup.block, self.number.shape[0] - 1)
        columns = np.minimum(np.asarray(x, dtype=int) // self.makeup.block, self.number.shape[1] - 1)
        return self.number[rows, columns]

    def planes(self) -> FloatArray:
        """Return (n, m, c - 1) one in the blocks of each part but the largest, zero elsewhere."""
        return (self.number[:, :, None] == np.arange(1, len(self.shares))).astype(float)


def coverage_of(makeup: StackMakeup, search: PsfModel | None) -> StackParts | None:
    """Divide a stack into parts of the same inputs.

    Parameters
    ----------
    makeup
        Inputs of the stack.
    search
        PSF of the search image if it is convolved; None if the template is.

    Returns
    -------
    coverage
        None if the inputs are the same everywhere.
    """
    shares = makeup.shares.reshape(-1, makeup.shares.shape[2])
    if makeup.depth is not None:
        depth = np.log(makeup.depth) * (MIN_CHANGE / DEPTH_CHANGE)
        shares = np.column_stack([shares, depth.ravel()])
    left = np.ones(len(shares), dtype=bool)
    centres: list[FloatArray] = []
    while len(centres) < MAX_PARTS:
        bins, counts = np.unique(np.rint(shares[left] / MIN_CHANGE), axis=0, return_counts=True)
        if not counts.size or (counts.max() < MIN_BLOCKS and centres):
            break
        centre = bins[counts.argmax()] * MIN_CHANGE
        centre = np.median(shares[left & (_distance(shares, centre) < MIN_CHANGE)], axis=0)
        left &= _distance(shares, centre) >= MIN_CHANGE
        centres.append(centre)
    parts = np.array(centres)
    number = np.argmin([_distance(shares, centre) for centre in parts], axis=0)
    if not number.any():
        return None
    own = parts[:, : makeup.shares.shape[2]]
    unknown: BoolArray = np.any(np.abs(parts[:, own.shape[1] :]) >= MIN_CHANGE, axis=1)
    own, grid = own / own.sum(axis=1, keepdims=True), number.reshape(makeup.shares.shape[:2])
    for part in np.flatnonzero(unknown):
        own = _separate(grid, int(part), own)
    return StackParts(makeup, grid, own, search, np.append(unknown, np.ones(len(own) - len(unknown), dtype=bool)))


def _separate(grid: NDArray[np.int64], part: int, shares: FloatArray) -> FloatArray:
    """Make parts of the regions of a part that hardly touch its largest one; return the shares with theirs.

    The weight tells how many exposures a stack has somewhere, not which: one at the left border may be another one than
    at the top. Contacts of two blocks do not join regions; those of few blocks stay as they are.
    """
    inside = grid == part
    cores, n = label(binary_erosion(inside, np.ones((3, 3)), border_value=1))
    if n < 2:
        return shares
    nearest = distance_transform_edt(cores == 0, return_distances=False, return_indices=True)
    regions = np.where(inside, cores[tuple(nearest)], 0)
    sizes = np.bincount(regions.ravel())[1:]
    for region in np.argsort(-sizes)[1:]:
        if sizes[region] >= MIN_BLOCKS and len(shares) < MAX_PARTS:
            grid[regions == region + 1] = len(shares)
            shares = np.vstack([shares, shares[part]])
    return shares


def _distance(shares: FloatArray, centre: FloatArray) -> FloatArray:
    return np.abs(shares - centre).max(axis=1)


def missing_input_error(makeup: StackMakeup, weight: FloatImage, radius: int) -> FloatImage:
    """Estimate the relative error of the matched stack around pixels that lack an input.

    A bad column or a cosmic ray of one input changes the stack's PSF in a few pixels, by the missing fraction of the
    weight times the difference of the inputs' PSFs.

    Parameters
    ----------
    makeup
        Inputs of the stack.
    weight
        (ny, nx) float32, inverse variance of the stack.
    radius
        Radius of the kernel, pixels.

    Returns
    -------
    error
        (ny, nx) float32, zero if no input is missing.
    """
    peaks = makeup.psf_stamps[:, makeup.psf_stamps.shape[1] // 2, makeup.psf_stamps.shape[2] // 2]
    difference = OTHER_DIFFERENCES + float(np.max(np.abs(peaks / np.sum(makeup.mean_shares * peaks) - 1.0)))
    usual = reduce_blocks(np.maximum, weight, makeup.block)
    return _deficit(weight, usual, makeup.block, radius, np.float32(difference))


@numba.njit(cache=True)
def _deficit(weight: FloatImage, usual: FloatImage, block: int, radius: int, difference: np.float32) -> FloatImage:
    ny, nx = weight.shape
    out = np.zeros((ny, nx), dtype=np.float32)
    for j in range(ny):
        for x0 in range(0, nx, block):
            typical = usual[j // block, x0 // block]
            enough = np.float32(1.0 - MIN_DEFICIT) * typical
            values = weight[j, x0 : x0 + block]
            for k in range(values.size):
                if 0 < values[k] < enough:
                    value = (np.float32(1.0) - values[k] / typical) * difference
                    i = x0 + k
                    for b in range(max(0, j - radius), min(ny, j + radius + 1)):
                        for a in range(max(0, i - radius), min(nx, i + radius + 1)):
                            out[b, a] = max(out[b, a], value)
    return out


def kernel_changes(kernel: MatchingKernel, coverage: StackParts) -> FloatArray:
    """Compute by how much the kernel of every part differs from that of the largest part.

    With the PSF R of the largest part, r of another one and the kernel K, the change C solves r * (K + C) = R * K
    if the template is convolved, and S * C = r - R if the search image is, whose PSF is S.

    Parameters
    ----------
    kernel
        Kernel of the largest part.
    coverage
        The parts.

    Returns
    -------
    images
        (c, n, n), zero for the largest part, all of zero sum.
    """
    x, y = kernel.origin
    main = kernel.images(np.array([x]), np.array([y]))[0]
    wide = HALF_WIDTH + kernel.basis.half_width
    inputs = np.array([_crop(stamp, wide) for stamp in coverage.makeup.psf_stamps])
    parts = np.tensordot(coverage.shares, inputs, axes=1)
    changes = np.zeros((len(parts), *main.shape))
    seen_of = inputs if coverage.search is None else [coverage.search.stamp(x, y, wide)]
    columns = np.array([_columns(psf, kernel) for psf in seen_of]) if len(parts) > 1 else np.zeros(0)
    for number, part in enumerate(parts[1:], start=1):
        if coverage.search is None:
            goal = convolve(parts[0] - part, main, "valid")
            seen = np.tensordot(coverage.shares[number], columns, axes=1)  # a part is a mean of the inputs
        else:
            goal, seen = float(main.sum()) * _crop(part - parts[0], HALF_WIDTH), columns[0]
        changes[number] = _solve(seen, goal, kernel)
    return changes


def _columns(psf: FloatArray, kernel: MatchingKernel) -> FloatArray:
    """Return (m, p) a PSF seen through every kernel function."""
    return np.array([convolve(psf, image, "valid").ravel() for image in kernel.basis.images])


def _solve(columns: FloatArray, goal: FloatArray, kernel: MatchingKernel) -> FloatArray:
    """Return the (n, n) kernel of zero sum whose image is nearest to the goal."""
    weight = 1.0 / (np.abs(columns[0]) + 0.01 * columns[0].max())
    others = columns[1:]
    normal = (others * weight) @ others.T
    normal += RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    coefficients = np.linalg.solve(normal, (others * weight) @ goal.ravel())
    return np.tensordot(coefficients, kernel.basis.images[1:], axes=1)


def _crop(stamp: FloatArray, half_width: int) -> FloatArray:
    half = stamp.shape[0] // 2
    if half < half_width:
        return np.pad(stamp, half_width - half)
    return stamp[half - half_width : half + half_width + 1, half - half_width : half + half_width + 1]
