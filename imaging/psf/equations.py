"""Linear least squares of the PSF's coefficients against the pixels of its stars.

Flux and position of every star are eliminated from its normal equations. Were they those of an earlier model, its error
would remain in the core, with wings that make up for it, and coma would be taken for a shift. One more unknown is the
error that the backgrounds of all stars have in common: in a crowded field a ring around a star holds other light than
its surroundings.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from imaging.psf.model import polynomial_terms
from imaging.psf.profile import ProfileBasis
from imaging.psf.settings import PsfSettings
from imaging.psf.stars import StarStamps

FloatArray = NDArray[np.float64]

STEP = 0.05
"""Shift in pixels of the numerical derivatives."""

LARGEST_SHIFT = 0.3
"""Largest change in pixels of a centroid in one iteration."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Freedom of the PSF: deviation from the Moffat profile, degree of the polynomial, relative change over the CCD."""

    deviation: float
    degree: int = 0
    variation: float = 0.0


@dataclass(frozen=True, eq=False)
class Solution:
    """Free coefficients, (n_terms, n_free), and the common error of the backgrounds, electrons per pixel."""

    free: FloatArray
    background: float = 0.0

    @property
    def degree(self) -> int:
        """Degree of the polynomial."""
        return int(np.sqrt(2 * len(self.free) + 0.25) - 1.5 + 1e-9)


@dataclass(frozen=True, eq=False)
class Problem:
    """Fixed quantities of the fit: basis, constraints, and geometry of the CCD."""

    basis: ProfileBasis
    base: FloatArray
    free: FloatArray
    prior_scale: FloatArray
    origin: tuple[float, float]
    scale: tuple[float, float]
    settings: PsfSettings

    def position_terms(self, x: FloatArray, y: FloatArray, degree: int) -> FloatArray:
        """Return the (n, n_terms) monomials of positions."""
        u, v = (x - self.origin[0]) / self.scale[0], (y - self.origin[1]) / self.scale[1]
        return np.stack([u**i * v**j for i, j in polynomial_terms(degree)], axis=-1)

    def coefficients(self, solution: Solution) -> FloatArray:
        """Return the (n_terms, n_basis) coefficients of a solution."""
        full = solution.free @ self.free.T
        full[0] += self.base
        return full

    def local_profile(self, solution: Solution, stamps: StarStamps) -> FloatArray:
        """Return the (n, n_basis) coefficients of the PSF at each star."""
        return self.position_terms(stamps.x, stamps.y, solution.degree) @ self.coefficients(solution)


@dataclass(frozen=True, eq=False)
class Normals:
    """Normal equations of every star: in the n_free directions, then the residual of the Moffat profile, then the sky.

    Attributes
    ----------
    gram
        (n, n_free + 2, n_free + 2).
    pixels
        (n,) number of pixels.
    """

    gram: FloatArray
    pixels: NDArray[np.int64]

    @property
    def matrix(self) -> FloatArray:
        """(n, n_free, n_free) matrix."""
        return self.gram[:, :-2, :-2]

    def vector(self, background: float) -> FloatArray:
        """Return the (n, n_free) right-hand sides for a common error of the backgrounds."""
        return self.gram[:, :-2, -2] - background * self.gram[:, :-2, -1]


def refine_stars(stamps: StarStamps, problem: Problem, solution: Solution) -> tuple[StarStamps, FloatArray]:
    """Fit flux and centroid of every star with the current model fixed.

    Returns
    -------
    stamps
        The stars with new fluxes and centroids.
    images
        (n, 3, size, size) model of each star in electrons and its derivatives with respect to x and y; zero where its
        pixels are not usable.
    """
    profile = problem.local_profile(solution, stamps)
    flux, shift = stamps.flux.copy(), np.zeros((len(stamps), 2))
    images = np.zeros((len(stamps), 3, *stamps.data.shape[1:]))
    for k in range(len(stamps)):
        use = _usable(stamps, k, problem)
        dx, dy, variance = stamps.dx[k][use], stamps.dy[k][use], stamps.variance[k][use]
        here, along_x, along_y = (
            problem.basis.evaluate(dx + a, dy + b) @ profile[k] for a, b in ((0.0, 0.0), (STEP, 0.0), (0.0, STEP))
        )
        design = np.stack([here, (here - along_x) / STEP, (here - along_y) / STEP], axis=-1)
        total = variance + flux[k] * np.maximum(here, 0.0) + (problem.settings.error_floor * flux[k] * here) ** 2
        weighted = design / total[:, None]
        normal = weighted.T @ design
        if np.linalg.cond(normal) <= 1e14:
            amplitude, *moments = np.linalg.solve(normal, weighted.T @ (stamps.data[k][use] - solution.background))
            if amplitude > 0:
                flux[k] = amplitude
                shift[k] = np.clip(np.array(moments) / amplitude, -LARGEST_SHIFT, LARGEST_SHIFT)
        images[k][:, use] = flux[k] * design.T
        images[k, 0] += np.tensordot(shift[k], images[k, 1:], 1)
    dx, dy = (stamps.dx - shift[:, 0, None, None], stamps.dy - shift[:, 1, None, None])
    return replace(stamps, flux=flux, x=stamps.x + shift[:, 0], y=stamps.y + shift[:, 1], dx=dx, dy=dy), images


def normal_equations(
    stamps: StarStamps, images: FloatArray, problem: Problem, solution: Solution, *, clip: bool
) -> Normals:
    """Set up the normal equations of every star.

    Parameters
    ----------
    stamps, images
        From :func:`refine_stars`.
    problem, solution
        The problem and the solution of ``images``.
    clip
        Leave out the pixels far from the model.
    """
    n_basis, n_free = problem.free.shape
    settings, n = problem.settings, len(stamps)
    products, pixels = np.empty((n, n_basis + 5, n_basis + 5)), np.empty(n, np.int64)
    for k in range(n):
        use = _usable(stamps, k, problem)
        data, (model, *slopes) = stamps.data[k][use], images[k][:, use]
        total = stamps.variance[k][use] + np.maximum(model, 0.0) + (settings.error_floor * model) ** 2
        weight = 1.0 / total
        if clip:
            far = (data - solution.background - model) ** 2 > settings.pixel_clip_sigma**2 * total
            weight[far] = 0.0
        basis = problem.basis.evaluate(stamps.dx[k][use], stamps.dy[k][use]) * stamps.flux[k]
        columns = np.concatenate([basis, np.stack([data, np.ones_like(data), model, *slopes], axis=-1)], axis=1)
        columns *= np.sqrt(weight)[:, None]
        products[k], pixels[k] = columns.T @ columns, int((weight > 0).sum())
    turn = np.zeros((n_basis + 5, n_free + 5))
    turn[:n_basis, :n_free], turn[:n_basis, n_free], turn[n_basis:, n_free:] = problem.free, -problem.base, np.eye(5)
    return Normals(_eliminated(turn.T @ products @ turn, 3), pixels)


def _eliminated(gram: FloatArray, n: int) -> FloatArray:
    """Eliminate the last n unknowns of (..., m, m) normal equations; those without information stay zero."""
    known, unknown = slice(None, -n), slice(-n, None)
    block = gram[..., unknown, unknown]
    size = np.einsum("...ii->...", block)[..., None, None]
    block = block + (1e-13 * size + 1e-30) * np.eye(n)
    across = gram[..., unknown, known]
    return gram[..., known, known] - across.swapaxes(-1, -2) @ np.linalg.solve(block, across)


def _usable(stamps: StarStamps, k: int, problem: Problem) -> NDArray[np.bool_]:
    """Return the (size, size) usable pixels of a star."""
    return np.isfinite(stamps.variance[k]) & (np.hypot(stamps.dx[k], stamps.dy[k]) < problem.basis.radius)


def prior(problem: Problem, choice: Choice) -> FloatArray:
    """Return the (n_terms, n_free, n_free) inverse covariance of the prior."""
    widths = [choice.deviation if i + j == 0 else choice.variation for i, j in polynomial_terms(choice.degree)]
    unit = (problem.free / problem.prior_scale[:, None] ** 2).T @ problem.free
    return np.stack([unit / width**2 for width in widths])


def solve(normals: Normals, stamps: StarStamps, problem: Problem, used: NDArray[np.bool_], choice: Choice) -> Solution:
    """Solve for the free coefficients and the common error of the backgrounds from the stars used."""
    terms = problem.position_terms(stamps.x[used], stamps.y[used], choice.degree)
    matrix = whole_matrix(normals, terms, used, prior(problem, choice))
    gram = normals.gram[used]
    across = (terms.T @ gram[:, :-2, -1]).ravel()
    sides = np.stack([(terms.T @ gram[:, :-2, -2]).ravel(), across], axis=-1)
    solved, response = cho_solve(cho_factor(matrix, lower=True), sides).T
    background = 0.0
    if stamps.background_error > 0.0:
        information = float(gram[:, -1, -1].sum()) + stamps.background_error**-2
        background = float((gram[:, -2, -1].sum() - across @ solved) / (information - across @ response))
    return Solution((solved - background * response).reshape(terms.shape[1], -1), background)


def whole_matrix(normals: Normals, terms: FloatArray, used: NDArray[np.bool_], inverse: FloatArray) -> FloatArray:
    """Return the matrix of the normal equations of all free coefficients.

    Parameters
    ----------
    normals, used
        Equations of all stars, and which to use.
    terms
        (n_used, n_terms) monomials of their positions.
    inverse
        From :func:`prior`.
    """
    n_terms, n_free = inverse.shape[:2]
    outer = (terms[:, :, None] * terms[:, None, :]).reshape(len(terms), -1)
    blocks = outer.T @ normals.matrix[used].reshape(len(terms), -1)
    matrix = blocks.reshape(n_terms, n_terms, n_free, n_free).transpose(0, 2, 1, 3).reshape(n_terms * n_free, -1)
    for k, block in enumerate(inverse):
        matrix[k * n_free : (k + 1) * n_free, k * n_free : (k + 1) * n_free] += block
    return matrix


def star_chi2(normals: Normals, problem: Problem, solution: Solution, stamps: StarStamps) -> FloatArray:
    """Return the reduced chi-square of every star under a solution."""
    local = problem.position_terms(stamps.x, stamps.y, solution.degree) @ solution.free
    n = len(stamps)
    unknowns = np.concatenate([-local, np.ones((n, 1)), np.full((n, 1), -solution.background)], axis=1)
    chi2 = np.einsum("nij,ni,nj->n", normals.gram, unknowns, unknowns)
    return chi2 / np.maximum(normals.pixels, 1)
