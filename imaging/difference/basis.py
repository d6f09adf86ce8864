"""Basis functions of the PSF-matching kernel: Gaussians times polynomials, or delta functions.

Every function is separable in x and y, so that stamps are convolved along rows and columns.
All but the first have zero sum: the first one's coefficient is the kernel's sum, the photometric scale (Alard 2000).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

N_CORE = 3
"""Number of Gaussians that describe the kernel's core."""


@dataclass(frozen=True, eq=False)
class KernelBasis:
    """A set of kernel functions.

    Attributes
    ----------
    factors
        (n, 2 half_width + 1) functions of one coordinate.
    pairs
        (m, 2) int64, factor in x and factor in y of each raw function.
    transform
        (m, m) from raw functions to functions of unit or zero sum.
    levels
        (m,) int, complexity level of each function; models use all functions up to a level.
    penalty
        (m, m) smoothness penalty, zero for bases without one.
    """

    factors: FloatArray
    pairs: NDArray[np.int64]
    transform: FloatArray
    levels: NDArray[np.int64]
    penalty: FloatArray

    @property
    def half_width(self) -> int:
        """Half width of the kernel, pixels."""
        return self.factors.shape[1] // 2

    @cached_property
    def raw_images(self) -> FloatArray:
        """(m, n, n) raw functions."""
        return self.factors[self.pairs[:, 1]][:, :, None] * self.factors[self.pairs[:, 0]][:, None, :]

    @cached_property
    def images(self) -> FloatArray:
        """(m, n, n) functions; the first has unit sum, all others zero sum."""
        return np.tensordot(self.transform, self.raw_images, axes=1)


def gaussian_basis(sigmas: tuple[float, ...], degrees: tuple[int, ...], half_width: int) -> KernelBasis:
    """Build Gaussians times polynomials (Alard and Lupton 1998).

    A function's level is the degree of its polynomial; the Gaussians beyond the third, which model the wings and are
    nearly degenerate with the background if there are few sources, have the highest level.

    Parameters
    ----------
    sigmas
        Widths in pixels.
    degrees
        Highest total degree of the polynomial of each Gaussian.
    half_width
        Half width of the kernel, pixels.
    """
    axis = np.arange(-half_width, half_width + 1)
    factors: list[FloatArray] = []
    pairs: list[tuple[int, int]] = []
    levels: list[int] = []
    beyond = max(degrees) + 1
    for number, (sigma, degree) in enumerate(zip(sigmas, degrees, strict=True)):
        first = len(factors)
        window = np.exp(-0.5 * (axis / sigma) ** 2)
        factors += [(axis / sigma) ** i * window for i in range(degree + 1)]
        for total in range(degree + 1):
            for i in range(total + 1):
                pairs.append((first + total - i, first + i))
                levels.append(beyond if number >= N_CORE else total)
    return _finish(np.array(factors), np.array(pairs), np.array(levels))


def delta_basis(half_width: int) -> KernelBasis:
    """Build one function per pixel, with a penalty on the kernel's second differences (Becker et al. 2012)."""
    n = 2 * half_width + 1
    middle = n * half_width + half_width
    order = [middle] + [k for k in range(n * n) if k != middle]
    pairs = np.array([(k % n, k // n) for k in order])
    basis = _finish(np.eye(n), pairs, np.zeros(n * n, dtype=np.int64))
    second = -np.diff(np.pad(np.eye(n), ((1, 1), (0, 0))), n=2, axis=0)
    roughness = np.kron(np.eye(n), second.T @ second) + np.kron(second.T @ second, np.eye(n))
    flat = basis.images.reshape(n * n, n * n)
    return KernelBasis(basis.factors, basis.pairs, basis.transform, basis.levels, flat @ roughness @ flat.T)


def _finish(factors: FloatArray, pairs: NDArray[np.int64], levels: NDArray[np.int64]) -> KernelBasis:
    """Normalise: functions with a sum to unit sum and, but for the first, minus the first; the others to unit norm."""
    sums = factors.sum(axis=1)
    norms = np.sqrt((factors**2).sum(axis=1))
    total = sums[pairs[:, 0]] * sums[pairs[:, 1]]
    norm = norms[pairs[:, 0]] * norms[pairs[:, 1]]
    has_sum = np.abs(total) > 1e-9 * norm
    transform = np.diag(1.0 / np.where(has_sum, total, norm))
    transform[1:, 0] -= np.where(has_sum[1:], transform[0, 0], 0.0)
    return KernelBasis(factors, pairs.astype(np.int64), transform, levels.astype(np.int64), np.zeros(transform.shape))
