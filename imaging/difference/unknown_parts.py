"""Measure the change of the matching kernel in parts of a foreign stack whose PSF is not known.

Where not all exposures of a stack have data, its PSF is another one than the model, which is fitted to most of the
stars. The change of the kernel is fitted to the stars of the part, whose brightness is free, because some of them vary.
Its complexity is chosen by predicting every star from the others; what these predictions miss is an error of the model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from imaging.difference.coverage import OTHER_DIFFERENCES, StackParts
from imaging.difference.design import Stamps
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

PRIOR = 0.5
"""Expected coefficients of the kernel functions in the change of a kernel of unit sum."""

MIN_STARS = 3
"""With fewer stars no change is fitted."""

CLIP = 5.0
"""Largest chi-square of a star in the choice of the complexity, in units of their median."""


@dataclass(frozen=True, eq=False)
class PartChanges:
    """Measured changes of the kernel.

    Attributes
    ----------
    images
        (c, k, k) change in each part, of zero sum; zero where the PSF is known.
    errors
        (c,) relative error of the matched model that is left; zero where the PSF is known.
    """

    images: FloatArray
    errors: FloatArray

    def model_error(self, parts: StackParts, shape: tuple[int, int]) -> FloatImage:
        """Return (ny, nx) float32, the relative error of the model, also in the blocks beside a part."""
        blocks = maximum_filter(self.errors[parts.number], size=3).astype(np.float32)
        size = parts.makeup.block
        return np.repeat(np.repeat(blocks, size, axis=0), size, axis=1)[: shape[0], : shape[1]]


def measure_changes(residuals: Stamps, signal: FloatArray, usual_chi2: float, parts: StackParts) -> PartChanges:
    """Fit the change of the kernel in every part whose PSF is not known.

    Parameters
    ----------
    residuals
        Stamps whose data are what the known kernel leaves of the target.
    signal
        (n,) weighted square of the matched reference in each stamp.
    usual_chi2
        Reduced chi-square of a stamp where the kernel is known.
    parts
        Parts of the stack.
    """
    basis = residuals.basis
    images = np.zeros((len(parts.shares), *basis.images.shape[1:]))
    errors = np.where(parts.unknown, OTHER_DIFFERENCES, 0.0)
    part = parts.part_at(residuals.x, residuals.y)
    sound = (residuals.n_pixels > 0.5 * residuals.data.shape[1]) & (signal > 0)
    for number in np.flatnonzero(parts.unknown):
        chosen = sound & (part == number)
        if np.count_nonzero(chosen) < MIN_STARS:
            continue
        stars = residuals.take(chosen)
        problem = _Problem.of(stars)
        coefficients, missed = problem.best(basis.levels[1:])
        images[number] = np.tensordot(coefficients, basis.images[1:], axes=1)
        excess = missed / max(usual_chi2, 1.0) - stars.n_pixels
        errors[number] = np.sqrt(max(float(np.median(excess / signal[chosen])), 0.0))
    return PartChanges(images, errors)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Normal equations of stars in the kernel functions of zero sum; brightness and background of each are free."""

    normal: FloatArray
    right: FloatArray
    square: FloatArray
    n_pixels: FloatArray

    @classmethod
    def of(cls, stars: Stamps) -> "_Problem":
        m = len(stars.basis.pairs)
        free, kept = np.array([0, m]), np.arange(1, m)
        cross = stars.normal[:, kept[:, None], free]
        inverse = np.linalg.inv(stars.normal[:, free[:, None], free])
        solved = np.einsum("nka,nab->nkb", cross, inverse)
        own = stars.right[:, free]
        return cls(
            stars.normal[:, kept[:, None], kept] - np.einsum("nkb,nlb->nkl", solved, cross),
            stars.right[:, kept] - np.einsum("nkb,nb->nk", solved, own),
            stars.square - np.einsum("na,nab,nb->n", own, inverse, own),
            stars.n_pixels,
        )

    def best(self, levels: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """Return (m - 1,) the coefficients, and (n,) the chi-square of each star as the others predict it."""
        n, m = self.right.shape
        best, missed = np.zeros(m), self.square
        for level in np.unique(levels):
            functions = np.flatnonzero(levels <= level)
            predicted = np.array([self._solve(functions, np.arange(n) != k) for k in range(n)])
            chi2 = self._chi2(predicted)
            if self._loss(chi2) < self._loss(missed):
                best, missed = self._solve(functions, np.ones(n, dtype=bool)), chi2
        return best, missed

    def _solve(self, functions: NDArray[np.int64], use: NDArray[np.bool_]) -> FloatArray:
        """Return (m - 1,) coefficients, with a prior."""
        normal = self.normal[use][:, functions[:, None], functions].sum(axis=0)
        out = np.zeros(self.right.shape[1])
        prior = np.eye(functions.size) / PRIOR**2
        out[functions] = np.linalg.solve(normal + prior, self.right[use][:, functions].sum(axis=0))
        return out

    def _chi2(self, coefficients: FloatArray) -> FloatArray:
        """Return (n,) chi-squares with the coefficients (n, m - 1) of each star."""
        quadratic = np.einsum("nk,nkl,nl->n", coefficients, self.normal, coefficients)
        return np.maximum(self.square - 2.0 * np.einsum("nk,nk->n", coefficients, self.right) + quadratic, 0.0)

    def _loss(self, chi2: FloatArray) -> float:
        reduced = chi2 / self.n_pixels
        return float(np.minimum(reduced, CLIP * np.median(reduced)).mean())
