"""Fit the PSF-matching kernel: clipped linear least squares on stamps, complexity chosen by cross-validation.

Alard and Lupton (1998), Alard (2000) for the spatial variation and the constant sum. The noise of the convolved image
biases plain least squares towards small kernels; the bias is computed and removed to first order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from imaging.difference.basis import KernelBasis
from imaging.difference.design import Stamps
from imaging.difference.noise import correlation_power
from imaging.difference.settings import KernelSettings
from imaging.numerics.robust import mad_sigma

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RIDGE = 3e-6
"""Relative increase of the normal matrix's diagonal, which regularises poorly constrained functions."""


@dataclass(frozen=True, eq=False)
class MatchingKernel:
    """A spatially varying kernel and differential background.

    Attributes
    ----------
    basis
        Kernel functions.
    coefficients
        (m, t) coefficient of each function for each term in position.
    background
        (q,) coefficients of the differential background.
    origin, scale
        Position and lengths, pixels, that normalise the polynomials: u = (x - origin) / scale.
    order
        Spatial order of the kernel shape.
    level
        Highest level of the basis functions used.
    n_stamps, n_rejected
        Stamps used and clipped.
    chi2
        Median reduced chi-square of the stamps used.
    sum_error
        Standard error of the kernel's sum.
    """

    basis: KernelBasis
    coefficients: FloatArray
    background: FloatArray
    origin: tuple[float, float]
    scale: tuple[float, float]
    order: int
    level: int
    n_stamps: int
    n_rejected: int
    chi2: float
    sum_error: float

    def terms(self, x: FloatArray, y: FloatArray, n: int) -> FloatArray:
        """Return (..., n) the first n monomials of the normalised position, lowest degree first."""
        return position_terms(x, y, self.origin, self.scale, n)

    def images(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return (n, k, k) kernels at n positions."""
        weights = self.terms(x, y, self.coefficients.shape[1]) @ self.coefficients.T
        size = self.basis.images.shape[1]
        return (weights @ self.basis.images.reshape(len(self.coefficients), -1)).reshape(-1, size, size)

    def sums(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return (n,) sums of the kernel at n positions."""
        return self.terms(x, y, self.coefficients.shape[1]) @ self.coefficients[0]

    def background_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the differential background at positions of any shape."""
        return self.terms(x, y, self.background.size) @ self.background


def position_terms(
    x: ArrayLike, y: ArrayLike, origin: tuple[float, float], scale: tuple[float, float], n: int
) -> FloatArray:
    """Return (..., n) monomials of the normalised position, sorted by degree."""
    u = (np.asarray(x, dtype=float) - origin[0]) / scale[0]
    v = (np.asarray(y, dtype=float) - origin[1]) / scale[1]
    return np.stack([u**i * v**j for i, j in term_powers(n)], axis=-1)


def term_powers(n: int) -> list[tuple[int, int]]:
    """Return the exponents of u and v in the first n monomials, sorted by degree."""
    powers: list[tuple[int, int]] = []
    degree = 0
    while len(powers) < n:
        powers += [(degree - j, j) for j in range(degree + 1)]
        degree += 1
    return powers[:n]


def n_terms(order: int) -> int:
    """Return the number of monomials up to a degree."""
    return (order + 1) * (order + 2) // 2


def noise_products(basis: KernelBasis, correlation: FloatArray) -> FloatArray:
    """Return (m, m) expected products of the basis functions convolved with noise of unit variance.

    Parameters
    ----------
    basis
        Kernel functions.
    correlation
        (k, k) autocorrelation of the noise at lags 0 to k - 1 in y and x, one at lag zero.
    """
    flat = _noise_spectra(basis.images, correlation)
    return (flat @ flat.conj().T).real


def noise_remaining(kernels: FloatArray, correlation: FloatArray) -> FloatArray:
    """Return (n,) variance of noise of unit variance after a convolution with each kernel (n, k, k)."""
    return np.asarray(np.sum(np.abs(_noise_spectra(kernels, correlation)) ** 2, axis=1))


def _noise_spectra(images: FloatArray, correlation: FloatArray) -> NDArray[np.complex128]:
    """Return (n, p) transforms of images times the root of the noise's power, whose products are those of the noise."""
    size = 2 * max(images.shape[1], len(correlation))
    spectrum = np.fft.rfft2(images, s=(size, size))
    power = correlation_power(correlation, size)
    half = np.full(power.shape[1], 2.0)
    half[0] = half[-1] = 1.0
    return (spectrum * np.sqrt(power * half)).reshape(len(images), -1) / size


def _expand(products: FloatArray, k: int, width: int) -> FloatArray:
    """Turn (k k, width width) products of functions and of monomials into a (k width, k width) matrix."""
    return products.reshape(k, k, width, width).transpose(0, 2, 1, 3).reshape(k * width, k * width)


def _factor(matrix: FloatArray) -> tuple[FloatArray, bool]:
    """Factor a normal matrix with the least sufficient regularisation; few stamps do not constrain all functions."""
    diagonal = np.diag_indices_from(matrix)
    ridge = RIDGE
    while True:
        regular = matrix.copy()
        regular[diagonal] *= 1.0 + ridge
        try:
            return cho_factor(regular)
        except np.linalg.LinAlgError:
            ridge *= 10.0
            if ridge > 1.0:
                raise


@dataclass(frozen=True, eq=False)
class _Problem:
    """Quantities of the fit that do not change with clipping and order."""

    stamps: Stamps
    basis: KernelBasis
    settings: KernelSettings
    products: FloatArray
    origin: tuple[float, float]
    scale: tuple[float, float]

    def solve(self, use: BoolArray, functions: NDArray[np.int64], order: int) -> tuple[FloatArray, FloatArray, float]:
        """Return per-function coefficients (m, t), background (q,) and the variance of the kernel's sum."""
        stamps, m = self.stamps, self.basis.pairs.shape[0]
        t = max(n_terms(order), n_terms(self.settings.scale_order))
        q = n_terms(min(self.settings.background_order, _affordable_order(int(use.sum()))))
        width = max(t, q)
        terms = position_terms(stamps.x[use], stamps.y[use], self.origin, self.scale, width)
        rows = np.append(functions, m)
        normal = stamps.normal[use][:, rows[:, None], rows[None, :]]
        products = np.zeros((rows.size, rows.size))
        products[:-1, :-1] = self.products[np.ix_(functions, functions)]
        spread = terms[:, :, None] * terms[:, None, :]
        matrix = _expand(normal.reshape(len(terms), -1).T @ spread.reshape(len(terms), -1), rows.size, width)
        noise = np.einsum("n,npq->pq", stamps.noise_bias[use], spread)
        bias = _expand(products.reshape(-1, 1) * noise.reshape(1, -1), rows.size, width)
        right = (stamps.right[use][:, rows].T @ terms).ravel()
        n_of = np.full(rows.size, n_terms(order))
        n_of[:-1][functions == 0] = n_terms(min(self.settings.scale_order, order))
        n_of[-1] = q
        free = (np.arange(width)[None, :] < n_of[:, None]).ravel()
        matrix, bias, right = matrix[np.ix_(free, free)], bias[np.ix_(free, free)], right[free]
        matrix += self._penalty(matrix, functions, n_of)
        factor = _factor(matrix)
        first = cho_solve(factor, right)
        solution = np.zeros(rows.size * width)
        solution[free] = first + cho_solve(factor, bias @ first)
        table = solution.reshape(rows.size, width)
        coefficients = np.zeros((m, n_terms(max(order, self.settings.scale_order))))
        coefficients[functions] = table[:-1, : coefficients.shape[1]]
        unit = np.zeros_like(right)
        unit[0] = 1.0
        return coefficients, table[-1, :q], float(cho_solve(factor, unit)[0])

    def _penalty(self, matrix: FloatArray, functions: NDArray[np.int64], n_of: NDArray[np.int64]) -> FloatArray:
        penalty = np.zeros(matrix.shape)
        if not self.basis.penalty.any():
            return penalty
        first = np.concatenate([[0], np.cumsum(n_of)])
        roughness = self.basis.penalty[np.ix_(functions, functions)]
        typical = np.trace(matrix) / len(matrix) / (np.trace(roughness) / len(roughness))
        for term in range(n_of.max()):
            members = np.flatnonzero(n_of[:-1] > term)
            places = first[members] + term
            penalty[np.ix_(places, places)] += (
                self.settings.delta_penalty * typical * roughness[np.ix_(members, members)]
            )
        return penalty

    def stamp_chi2(self, coefficients: FloatArray, background: FloatArray) -> FloatArray:
        """Return (n,) chi-squares of all stamps."""
        stamps = self.stamps
        local = np.concatenate(
            [
                position_terms(stamps.x, stamps.y, self.origin, self.scale, coefficients.shape[1]) @ coefficients.T,
                (position_terms(stamps.x, stamps.y, self.origin, self.scale, background.size) @ background)[:, None],
            ],
            axis=1,
        )
        quadratic = np.einsum("nm,nmk,nk->n", local, stamps.normal, local)
        return np.maximum(stamps.square - 2 * np.einsum("nm,nm->n", local, stamps.right) + quadratic, 0.0)


def fit_kernel(
    stamps: Stamps,
    basis: KernelBasis,
    correlation: FloatArray,
    shape: tuple[int, int],
    settings: KernelSettings,
    *,
    choose: bool = True,
) -> tuple[MatchingKernel, BoolArray]:
    """Fit the kernel with clipping of deviating stamps.

    Parameters
    ----------
    stamps
        Stamps of the reference, which is convolved, and of the target.
    basis
        Kernel functions.
    correlation
        (k, k) mean autocorrelation of the reference's noise.
    shape
        (ny, nx) of the images.
    settings
        Orders to try, clipping, penalty.
    choose
        Whether to choose the complexity by cross-validation; otherwise the highest that the stamps allow is used.

    Returns
    -------
    kernel
        The kernel with the complexity that best predicts held-out stamps.
    used
        (n,) whether each stamp was used.
    """
    ny, nx = shape
    problem = _Problem(stamps, basis, settings, noise_products(basis, correlation), (nx / 2, ny / 2), (nx / 2, ny / 2))
    use = stamps.n_pixels > 0.5 * stamps.data.shape[1]
    level, order = int(basis.levels.max()), min(settings.max_order, _affordable_order(int(use.sum())))
    for iteration in range(settings.max_iterations):
        if iteration == 0 and choose:
            level, order = _choose_complexity(problem, use)
        coefficients, background, variance = problem.solve(use, _functions(basis, level), order)
        new = _clip(problem, coefficients, background, use)
        if np.array_equal(new, use) or new.sum() < settings.min_stamps:
            break
        use = new
    chi2 = problem.stamp_chi2(coefficients, background) / np.maximum(stamps.n_pixels, 1.0)
    median = float(np.median(chi2[use])) if use.any() else float("nan")
    error = float(np.sqrt(max(variance, 0.0) * max(median, 1.0)))
    counts = (int(use.sum()), int((~use).sum()))
    place = (problem.origin, problem.scale)
    return MatchingKernel(basis, coefficients, background, *place, order, level, *counts, median, error), use


def _functions(basis: KernelBasis, level: int) -> NDArray[np.int64]:
    return np.flatnonzero(basis.levels <= level)


def _affordable_order(n_stamps: int) -> int:
    """Return the highest spatial order for a number of stamps."""
    return 2 if n_stamps >= 18 else 1 if n_stamps >= 9 else 0


def _clip(problem: _Problem, coefficients: FloatArray, background: FloatArray, use: BoolArray) -> BoolArray:
    """Return which stamps agree with the model, relative to the scatter of the stamps used."""
    chi2 = problem.stamp_chi2(coefficients, background) / np.maximum(problem.stamps.n_pixels, 1.0)
    centre = float(np.median(chi2[use]))
    width = max(mad_sigma(chi2[use]), 0.05 * centre)
    enough = problem.stamps.n_pixels > 0.5 * problem.stamps.data.shape[1]
    return enough & (chi2 < centre + problem.settings.clip_sigma * width)


def _choose_complexity(problem: _Problem, use: BoolArray) -> tuple[int, int]:
    """Return the basis level and spatial order that best predict held-out stamps."""
    levels = np.unique(problem.basis.levels)
    simple = sorted({int(levels[k]) for k in (min(2, levels.size - 1), max(levels.size - 2, 0), levels.size - 1)})
    candidates = [(level, 0) for level in simple]
    candidates += [(int(levels[-1]), k) for k in range(1, problem.settings.max_order + 1)]
    members = np.flatnonzero(use)
    affordable = _affordable_order(members.size)
    candidates = [c for k, c in enumerate(candidates) if c[1] <= affordable and c not in candidates[:k]]
    if members.size < max(problem.settings.min_stamps, 2):  # nothing is left when one of one is held out
        return candidates[0]
    folds = min(problem.settings.cross_validation_folds, members.size)
    best, best_loss = candidates[0], _held_out_loss(problem, use, members, folds, candidates[0])
    for candidate in candidates[1:]:
        loss = _held_out_loss(problem, use, members, folds, candidate)
        if loss < best_loss:
            best, best_loss = candidate, loss
    return best


def _held_out_loss(
    problem: _Problem, use: BoolArray, members: NDArray[np.int64], folds: int, candidate: tuple[int, int]
) -> float:
    """Return the mean reduced chi-square of stamps, each predicted without its fold and clipped."""
    level, order = candidate
    loss = np.empty(members.size)
    for fold in range(folds):
        held = np.arange(members.size) % folds == fold
        train = use.copy()
        train[members[held]] = False
        coefficients, background, _ = problem.solve(train, _functions(problem.basis, level), order)
        chi2 = problem.stamp_chi2(coefficients, background)[members[held]]
        loss[held] = chi2 / problem.stamps.n_pixels[members[held]]
    return float(np.minimum(loss, 5.0 * np.median(loss)).mean())
