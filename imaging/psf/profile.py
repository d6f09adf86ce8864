"""Linear basis for PSF profiles: a Moffat profile times radial splines and angular harmonics.

A PSF is written as ``E(r) (1 + sum_mj c_mj S_j(s) t^(m/2) cos or sin (m phi))`` where E is a Moffat profile (Moffat
1969, A&A 3, 455) of core radius alpha, ``s = ln(1 + r^2/alpha^2)``, ``t = r^2 / (r^2 + alpha^2)`` and S_j are cubic
B-splines. Both s and t are smooth functions of the pixel coordinates, so there is no cusp at the centre. The expansion
describes the ratio to a Moffat profile, which is close to one: few splines suffice, and the wings are smooth where the
stars do not constrain them. Radius and angle are those of a sheared frame in which the mean star is round, so that
trailed images need no additional terms. Out of focus, the image of the pupil is not close to a Moffat profile: it takes
more splines and harmonics (:data:`RICHER`).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.numerics.gaussian import FWHM_TO_SIGMA

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Richness:
    """Size of a basis.

    Attributes
    ----------
    round_splines, harmonic_splines
        Number of radial splines of the round part and of each harmonic.
    harmonics
        Highest angular harmonic.
    steepest
        Largest index of the Moffat profile. That of a flat core is large, and its wings vanish, with them the basis.
    """

    round_splines: int
    harmonic_splines: int
    harmonics: int
    steepest: float

    @property
    def size(self) -> int:
        """Number of basis functions."""
        return self.round_splines + 2 * self.harmonics * self.harmonic_splines


SEEING = Richness(9, 6, 4, 3.0 * np.e)
"""Seeing and small aberrations: shift, ellipticity, trefoil, and the cross of the spider's vanes."""

RICHER = (Richness(12, 9, 6, 3.5), Richness(16, 12, 8, 3.5))
"""Images of the pupil: splines as close as the seeing's width, rays of the pupil up to the eighth harmonic."""


@dataclass(frozen=True, eq=False)
class ProfileBasis:
    """The basis of one CCD.

    Attributes
    ----------
    frame
        (2, 2) matrix of determinant one from pixel offsets to the frame in which the mean star is round.
    alpha, beta
        Core radius (pixels) and index of the Moffat profile.
    radius
        Radius of the splines in pixels; beyond it they are constant.
    richness
        Size of the basis.
    """

    frame: FloatArray
    alpha: float
    beta: float
    radius: float
    richness: Richness = SEEING

    @property
    def fwhm_pixels(self) -> float:
        """Full width at half maximum of the Moffat profile."""
        return float(2 * self.alpha * np.sqrt(2 ** (1 / self.beta) - 1))

    def evaluate(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the (n, n_basis) values of the basis functions at (n,) offsets from the centre, pixels."""
        richness = self.richness
        sizes = (richness.round_splines, richness.harmonic_splines, richness.harmonics)
        return _evaluate(np.ravel(dx), np.ravel(dy), self.frame, self.alpha, self.beta, self.radius, *sizes)

    def functionals(self, step: float = 0.2) -> FloatArray:
        """Compute the functionals of each basis function that define a PSF's normalisation and centre.

        Parameters
        ----------
        step
            Pixels per sample of the integration.

        Returns
        -------
        functionals
            (3, n_basis): flux in the reference aperture, and the two first moments under a Gaussian window of the
            PSF's width, which vanish if the windowed centroid is at the origin.
        """
        half = REFERENCE_APERTURE_PIXELS / 2
        grid = np.arange(-np.ceil(half / step), np.ceil(half / step) + 1) * step
        dx, dy = (a.ravel() for a in np.meshgrid(grid, grid))
        r = np.hypot(dx, dy)
        inside = np.clip((half - r) / step + 0.5, 0.0, 1.0)
        window = np.exp(-0.5 * (r / (self.fwhm_pixels * FWHM_TO_SIGMA)) ** 2)
        rows = np.stack([inside, window * dx, window * dy])
        return step**2 * rows @ self.evaluate(dx, dy)

    def round_profile(self) -> FloatArray:
        """Return the (n_basis,) coefficients of the Moffat profile itself, normalised to the reference aperture."""
        coefficients = np.zeros(self.richness.size)
        coefficients[: self.richness.round_splines] = 1.0
        return coefficients / float(self.functionals()[0] @ coefficients)

    def prior_scale(self) -> FloatArray:
        """Return the (n_basis,) expected relative deviations of the coefficients."""
        low = self.richness.round_splines + 4 * self.richness.harmonic_splines
        scale = np.where(np.arange(self.richness.size) < low, 1.0, 0.4)
        return scale * self.round_profile()[0]


@njit(cache=True)
def _splines(position: float, values: FloatArray) -> None:
    """Fill the values of the uniform cubic B-splines at a position in units of their spacing."""
    values[:] = 0.0
    first = min(int(position), values.size - 4)
    t = position - first
    values[first] = (1.0 - t) ** 3 / 6.0
    values[first + 1] = (3.0 * t**3 - 6.0 * t**2 + 4.0) / 6.0
    values[first + 2] = (-3.0 * t**3 + 3.0 * t**2 + 3.0 * t + 1.0) / 6.0
    values[first + 3] = t**3 / 6.0


@njit(cache=True)
def _evaluate(
    dx: FloatArray,
    dy: FloatArray,
    frame: FloatArray,
    alpha: float,
    beta: float,
    radius: float,
    n_round: int,
    n_harmonic: int,
    harmonics: int,
) -> FloatArray:
    basis = np.zeros((dx.size, n_round + 2 * harmonics * n_harmonic))
    round_splines = np.empty(n_round)
    harmonic_splines = np.empty(n_harmonic)
    longest = np.log(1.0 + radius * radius / (alpha * alpha))
    for p in range(dx.size):
        zx = frame[0, 0] * dx[p] + frame[0, 1] * dy[p]
        zy = frame[1, 0] * dx[p] + frame[1, 1] * dy[p]
        q = (zx * zx + zy * zy) / (alpha * alpha)
        envelope = (1.0 + q) ** (-beta)
        s = min(np.log(1.0 + q) / longest, 1.0)
        _splines(s * (n_round - 3), round_splines)
        _splines(s * (n_harmonic - 3), harmonic_splines)
        row = basis[p]
        for j in range(n_round):
            row[j] = envelope * round_splines[j]
        core = alpha * np.sqrt(1.0 + q)
        cos_1, sin_1 = zx / core, zy / core
        cos_m, sin_m = 1.0, 0.0
        k = n_round
        for _ in range(harmonics):
            cos_m, sin_m = cos_m * cos_1 - sin_m * sin_1, cos_m * sin_1 + sin_m * cos_1
            for j in range(n_harmonic):
                value = envelope * harmonic_splines[j]
                row[k + j] = value * cos_m
                row[k + n_harmonic + j] = value * sin_m
            k += 2 * n_harmonic
    return basis
