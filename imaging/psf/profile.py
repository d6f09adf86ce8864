"""Linear basis for PSF profiles: a Moffat profile times radial splines and angular harmonics.

A PSF is written as ``E(r) (1 + sum_mj c_mj S_j(s) t^(m/2) cos or sin (m phi))`` where E is a Moffat profile (Moffat
1969, A&A 3, 455) of core radius alpha, ``s = ln(1 + r^2/alpha^2)``, ``t = r^2 / (r^2 + alpha^2)`` and S_j are cubic
B-splines. Both s and t are smooth functions of the pixel coordinates, so there is no cusp at the centre. The expansion
describes the ratio to a Moffat profile, which is close to one: few splines suffice, and the wings are smooth where the
stars do not constrain them. Radius and angle are those of a sheared frame in which the mean star is round, so that
trailed images need no additional terms.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.numerics.gaussian import FWHM_TO_SIGMA

FloatArray = NDArray[np.float64]

RADIAL_ROUND, RADIAL_HARMONIC = 9, 6
"""Number of radial splines of the round part and of each harmonic."""

HARMONICS = 4
"""Highest angular harmonic: shift, ellipticity, trefoil, and the cross of the spider's vanes."""

N_BASIS = RADIAL_ROUND + 2 * HARMONICS * RADIAL_HARMONIC


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
    """

    frame: FloatArray
    alpha: float
    beta: float
    radius: float

    @property
    def fwhm_pixels(self) -> float:
        """Full width at half maximum of the Moffat profile."""
        return float(2 * self.alpha * np.sqrt(2 ** (1 / self.beta) - 1))

    def evaluate(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the (n, N_BASIS) values of the basis functions at (n,) offsets from the centre, pixels."""
        return _evaluate(np.ravel(dx), np.ravel(dy), self.frame, self.alpha, self.beta, self.radius)

    def functionals(self, step: float = 0.2) -> FloatArray:
        """Compute the functionals of each basis function that define a PSF's normalisation and centre.

        Parameters
        ----------
        step
            Pixels per sample of the integration.

        Returns
        -------
        functionals
            (3, N_BASIS): flux in the reference aperture, and the two first moments under a Gaussian window of the
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
        """Return the (N_BASIS,) coefficients of the Moffat profile itself, normalised to the reference aperture."""
        coefficients = np.zeros(N_BASIS)
        coefficients[:RADIAL_ROUND] = 1.0
        return coefficients / float(self.functionals()[0] @ coefficients)

    def prior_scale(self) -> FloatArray:
        """Return the (N_BASIS,) expected relative deviations of the coefficients."""
        scale = np.empty(N_BASIS)
        scale[:RADIAL_ROUND] = 1.0
        for m in range(1, HARMONICS + 1):
            first = RADIAL_ROUND + 2 * (m - 1) * RADIAL_HARMONIC
            scale[first : first + 2 * RADIAL_HARMONIC] = 1.0 if m <= 2 else 0.4
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
    dx: FloatArray, dy: FloatArray, frame: FloatArray, alpha: float, beta: float, radius: float
) -> FloatArray:
    basis = np.zeros((dx.size, N_BASIS))
    round_splines = np.empty(RADIAL_ROUND)
    harmonic_splines = np.empty(RADIAL_HARMONIC)
    longest = np.log(1.0 + radius * radius / (alpha * alpha))
    for p in range(dx.size):
        zx = frame[0, 0] * dx[p] + frame[0, 1] * dy[p]
        zy = frame[1, 0] * dx[p] + frame[1, 1] * dy[p]
        q = (zx * zx + zy * zy) / (alpha * alpha)
        envelope = (1.0 + q) ** (-beta)
        s = min(np.log(1.0 + q) / longest, 1.0)
        _splines(s * (RADIAL_ROUND - 3), round_splines)
        _splines(s * (RADIAL_HARMONIC - 3), harmonic_splines)
        row = basis[p]
        for j in range(RADIAL_ROUND):
            row[j] = envelope * round_splines[j]
        core = alpha * np.sqrt(1.0 + q)
        cos_1, sin_1 = zx / core, zy / core
        cos_m, sin_m = 1.0, 0.0
        k = RADIAL_ROUND
        for _ in range(HARMONICS):
            cos_m, sin_m = cos_m * cos_1 - sin_m * sin_1, cos_m * sin_1 + sin_m * cos_1
            for j in range(RADIAL_HARMONIC):
                value = envelope * harmonic_splines[j]
                row[k + j] = value * cos_m
                row[k + RADIAL_HARMONIC + j] = value * sin_m
            k += 2 * RADIAL_HARMONIC
    return basis
