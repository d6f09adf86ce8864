"""Interpolate astrometric residuals of atmospheric turbulence with a Gaussian process.

The displacement is the gradient of a random potential, as DES measured: the two axes are one field without curl
(Bernstein et al. 2017, PASP 129, 074503; Fortino et al. 2021, AJ 162, 106). Its covariance is elongated along the wind
(Léget et al. 2021, A&A 650, A81). Amplitude, length, elongation and the share without curl are those of largest
likelihood for the stars of the exposure, whatever the polynomial of each CCD.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dtrtri
from scipy.optimize import minimize
from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]

EXPONENT = 5.0 / 3.0
"""Power of the separation: that of the structure function of turbulence below its outer scale."""

MAXIMUM_CELLS = 600
"""Largest number of cells in one interpolation; with more stars each cell has the mean of its stars."""

OUTLYING = 3.0
"""Deviation of a star from the prediction by the others, in units of its error, beyond which the error grows with the
deviation: neighbours in the image move its centroid."""

MEDIAN_CHI2 = 2.0 * np.log(2.0)
"""Median of a chi-square of two degrees of freedom."""

BLOCKS, BLOCK_STARS = 6, 110
"""Largest number of CCDs that give the statistics, and of stars of each."""

EXPECTED = np.array([np.log(8.0), np.log(4.0), 0.0, 0.0, 0.8, np.log(1.5)])
SPREAD = np.array([0.8, 0.6, 0.3, 0.3, 0.5, 0.8])
"""Prior of the logarithms of amplitude (mas) and length (arcmin), the stretch, the share without curl, and the
logarithm of the noise beyond the stated errors (mas): DES has 5 to 15 mas and 5 to 10 arcmin in 90 s."""

LOWEST = EXPECTED - 4.0 * SPREAD
HIGHEST = EXPECTED + 4.0 * SPREAD
LOWEST[4], HIGHEST[4] = 0.0, 1.0
"""Range of the fit."""


@dataclass(frozen=True, slots=True)
class Turbulence:
    """Statistics of the field.

    Attributes
    ----------
    amplitude_mas
        Standard deviation per axis of the isotropic field.
    length_arcmin
        Correlation length: geometric mean of those along and across the wind.
    stretch
        Elongation: ``log(ratio of lengths) / 2`` times cosine and sine of twice the angle of the longer axis from xi
        towards eta.
    gradient
        Share without curl, 0 to 1; the rest has independent axes.
    noise_mas
        Standard deviation per axis of what is neither correlated nor in the stated errors of stars.
    """

    amplitude_mas: float
    length_arcmin: float
    stretch: tuple[float, float] = (0.0, 0.0)
    gradient: float = 1.0
    noise_mas: float = 0.0

    def covariance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Return the covariance of the displacements at positions, mas^2.

        The field across the separation has ``a^2 exp(-(r/l)^(5/3) / 2)``; that along it follows, because a gradient
        has no curl. With elongation the potential is a function of the stretched separation.

        Parameters
        ----------
        first, second
            (n, 2) and (m, 2) positions, arcminutes.

        Returns
        -------
        covariance
            (2n, 2m): the displacements along xi of all positions, then those along eta.
        """
        stretch = self._matrix()
        apart = ((first @ stretch).T[:, :, None] - (second @ stretch).T[:, None]) / self.length_arcmin
        squared = np.maximum(apart[0] ** 2 + apart[1] ** 2, 1e-12)
        scaled = np.exp(0.5 * EXPONENT * np.log(squared))
        across = self.amplitude_mas**2 * np.exp(-0.5 * scaled)
        fall = across * scaled
        fall *= (0.5 * EXPONENT * self.gradient) / squared
        along = np.einsum("ij,jmn->imn", stretch, apart)
        shape = (1.0 - self.gradient) * np.eye(2) + self.gradient * stretch @ stretch
        found = np.empty((2, len(first), 2, len(second)))
        found[0, :, 0] = shape[0, 0] * across - fall * along[0] ** 2
        found[1, :, 1] = shape[1, 1] * across - fall * along[1] ** 2
        found[0, :, 1] = found[1, :, 0] = shape[0, 1] * across - fall * along[0] * along[1]
        return found.reshape(2 * len(first), 2 * len(second))

    def _matrix(self) -> FloatArray:
        """Return the (2, 2) matrix of determinant one that makes separations isotropic."""
        size = float(np.hypot(*self.stretch))
        turned = np.array([[self.stretch[0], self.stretch[1]], [self.stretch[1], -self.stretch[0]]])
        return np.cosh(size) * np.eye(2) - np.sinh(size) / max(size, 1e-12) * turned


@dataclass(frozen=True, eq=False)
class FieldStars:
    """Stars whose residuals are turbulence, noise, and a polynomial of their CCD.

    Attributes
    ----------
    place
        (n, 2) positions, arcminutes.
    residual, error_mas
        (n, 2) residuals along xi and eta and their errors, mas.
    polynomial
        (n, k) terms of the polynomials that are free, each times its prior, mas.
    """

    place: FloatArray
    residual: FloatArray
    error_mas: FloatArray
    polynomial: FloatArray

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "FieldStars":
        """Return the selected stars."""
        return FieldStars(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))  # fields in order

    def best(self, most: int) -> NDArray[np.int64]:
        """Return the numbers of the stars of smallest error."""
        return np.sort(np.argsort(self.error_mas.sum(axis=1), kind="stable")[:most])

    def in_cells(self, most: int) -> tuple["FieldStars", NDArray[np.int64], FloatArray]:
        """Join stars in the cells of a square grid to weighted means of place, residual and polynomial.

        Parameters
        ----------
        most
            Largest number of cells. Up to as many stars remain as they are.

        Returns
        -------
        cells
            The means.
        cell, share
            (n,) cell of each star, and its weight in the mean.
        """
        n = len(self.place)
        cell, side = np.arange(n), max(np.sqrt(np.ptp(self.place, axis=0).prod() / most), 0.01)
        while cell.max(initial=0) >= most:
            _, cell = np.unique(np.floor(self.place / side) @ [1.0, 1e6], return_inverse=True)
            side *= 1.05
        weight = 1.0 / np.sum(self.error_mas**2, axis=1)
        share = weight / np.bincount(cell, weight)[cell]
        means = csr_array((share, (cell, np.arange(n))))
        error = np.sqrt(means.power(2) @ self.error_mas**2)
        return FieldStars(means @ self.place, means @ self.residual, error, means @ self.polynomial), cell, share

    def covariance(self, turbulence: Turbulence) -> FloatArray:
        """Return the (2n, 2n) covariance of turbulence and noise."""
        between = turbulence.covariance(self.place, self.place)
        between[np.diag_indices_from(between)] += self.error_mas.T.ravel() ** 2 + turbulence.noise_mas**2
        return between

    def whiten(self, system: FloatArray, turbulence: Turbulence) -> FloatArray:
        """Return (2n, m) columns in which turbulence and noise are independent and of unit variance."""
        factor = np.linalg.cholesky(self.covariance(turbulence))
        return np.asarray(solve_triangular(factor, system, lower=True, check_finite=False))


def measure_turbulence(ccds: Sequence[FieldStars]) -> Turbulence:
    """Return the statistics of largest posterior probability, given the stars of CCDs with their polynomials.

    The CCDs count as independent, and of many CCDs those with most stars are taken.
    """
    chosen = sorted((stars for stars in ccds if len(stars.place) > 1), key=lambda stars: -len(stars.place))[:BLOCKS]
    blocks = [_undisturbed(stars.select(stars.best(BLOCK_STARS))) for stars in chosen]
    free = [np.kron(np.eye(2), stars.polynomial @ stars.polynomial.T) for stars in blocks]

    def cost(parameters: FloatArray) -> float:
        turbulence = _turbulence(parameters)
        total = float(np.sum(((parameters - EXPECTED) / SPREAD) ** 2))
        for stars, polynomial in zip(blocks, free, strict=True):
            between = stars.covariance(turbulence) + polynomial
            try:
                factor = cho_factor(between, lower=True, overwrite_a=True, check_finite=False)
            except LinAlgError:
                return 1e12
            values = stars.residual.T.ravel()
            total += float(values @ cho_solve(factor, values, check_finite=False))
            total += 2.0 * float(np.sum(np.log(np.diag(factor[0]))))
        return 0.5 * total

    if not blocks:
        return _turbulence(EXPECTED)
    return _turbulence(_least(cost))


def _undisturbed(stars: FieldStars) -> FieldStars:
    """Return the stars that the others predict by the expected statistics, as well as they predict most stars."""
    _, chi2, _ = _from_others(_turbulence(EXPECTED), stars)
    typical = np.median(chi2) / MEDIAN_CHI2
    return stars.select(chi2 < 2.0 * OUTLYING**2 * max(typical, 1.0))


def _least(cost: Callable[[FloatArray], float]) -> FloatArray:
    scaled = [
        ((low - middle) / width, (high - middle) / width)
        for low, high, middle, width in zip(LOWEST, HIGHEST, EXPECTED, SPREAD, strict=True)
    ]
    found = minimize(
        lambda steps: cost(EXPECTED + SPREAD * steps),
        np.zeros(EXPECTED.size),
        method="L-BFGS-B",
        bounds=scaled,
        options={"eps": 1e-4, "ftol": 1e-6, "maxiter": 25},
    )
    return np.asarray(EXPECTED + SPREAD * found.x, dtype=np.float64)


def _turbulence(parameters: FloatArray) -> Turbulence:
    amplitude, length, first, second, gradient, noise = (float(value) for value in parameters)
    return Turbulence(float(np.exp(amplitude)), float(np.exp(length)), (first, second), gradient, float(np.exp(noise)))


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Turbulence and polynomial predicted at given positions.

    Attributes
    ----------
    values
        (m, 2) predicted displacement, mas.
    left_out
        (n, 2) residual of each star after the prediction from all others, mas.
    """

    values: FloatArray
    left_out: FloatArray


def interpolate(turbulence: Turbulence, stars: FieldStars, wanted: FloatArray, polynomial: FloatArray) -> Interpolation:
    """Predict turbulence and polynomials at given positions from the residuals of stars.

    Stars that the others do not predict count less in a second solution (an M-estimate, Huber and Ronchetti 2009).

    Parameters
    ----------
    turbulence
        Statistics of the field.
    stars
        The stars.
    wanted
        (m, 2) positions of the predictions, arcminutes.
    polynomial
        (m, k) terms of the polynomials there, as in ``stars``.
    """
    if len(stars.place) == 0:
        return Interpolation(np.zeros((len(wanted), 2)), stars.residual)
    left_out, chi2, signal = _from_others(turbulence, stars)
    error = np.hypot(stars.error_mas, turbulence.noise_mas) * np.sqrt(np.maximum(chi2 / OUTLYING**2, 1.0))[:, None]
    cells, *_ = replace(stars, error_mas=error).in_cells(MAXIMUM_CELLS)
    if len(cells.place) < len(stars.place):
        signal = _signal(turbulence, cells, cells.place, cells.polynomial)
    signal[np.diag_indices_from(signal)] += cells.error_mas.T.ravel() ** 2
    factor = cho_factor(signal, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, cells.residual.T.ravel(), check_finite=False).reshape(2, -1).T
    return Interpolation(_predicted(turbulence, cells, weights, wanted, polynomial), left_out)


def _from_others(turbulence: Turbulence, stars: FieldStars) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compare stars with what the others predict.

    Returns
    -------
    left_out, chi2
        (n, 2) residuals after the prediction, mas, and (n,) their chi-square of both axes.
    signal
        Covariance of turbulence and polynomials of the cells in which the stars are joined.
    """
    noisy = replace(stars, error_mas=np.hypot(stars.error_mas, turbulence.noise_mas))
    cells, cell, share = noisy.in_cells(MAXIMUM_CELLS)
    signal = _signal(turbulence, cells, cells.place, cells.polynomial)
    total = signal.copy()
    total[np.diag_indices_from(total)] += cells.error_mas.T.ravel() ** 2
    inverse, _ = dtrtri(np.linalg.cholesky(total), lower=1)
    weights = (inverse.T @ (inverse @ cells.residual.T.ravel())).reshape(2, -1).T
    columns = inverse.reshape(len(inverse), 2, -1)
    precision = np.einsum("kin,kjn->nij", columns, columns, optimize=True)
    left = cells.error_mas**2 * weights
    if len(cells.place) < len(stars.place):
        left = stars.residual - _predicted(turbulence, cells, weights, stars.place, stars.polynomial)
    kept = np.eye(2) - share[:, None, None] * (np.eye(2) - cells.error_mas[:, :, None] ** 2 * precision)[cell]
    left_out = np.linalg.solve(kept, left[:, :, None])[:, :, 0]
    return left_out, np.sum(left * left_out / noisy.error_mas**2, axis=1), signal


def _signal(turbulence: Turbulence, stars: FieldStars, place: FloatArray, polynomial: FloatArray) -> FloatArray:
    """Return the covariance (2m, 2n) of turbulence and polynomials at places with those at stars."""
    found, own = turbulence.covariance(place, stars.place), polynomial @ stars.polynomial.T
    found[: len(own), : own.shape[1]] += own
    found[len(own) :, own.shape[1] :] += own
    return found


def _predicted(
    turbulence: Turbulence, stars: FieldStars, weights: FloatArray, place: FloatArray, polynomial: FloatArray
) -> FloatArray:
    return np.asarray((_signal(turbulence, stars, place, polynomial) @ weights.T.ravel()).reshape(2, -1).T)
