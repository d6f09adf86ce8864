"""Spatially varying PSF model, as in PSFEx.

The model is a polynomial in position whose coefficients are images on a grid finer than the pixels (Bertin 2011,
ADASS XX). A stamp is the image of a source with unit flux in the reference aperture, so that PSF fluxes, aperture
fluxes and zero points share one convention.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

TAPS = 8
"""Samples along an axis from which a value between them is interpolated, by a polynomial. A kernel that does not
reproduce polynomials (Lanczos, normalised) is wrong by 0.15 per cent of the peak at seven samples per FWHM."""

BINOMIALS = (1.0, -7.0, 21.0, -35.0, 35.0, -21.0, 7.0, -1.0)
"""Barycentric weights of eight evenly spaced samples."""


def polynomial_terms(degree: int) -> tuple[tuple[int, int], ...]:
    """Return the exponents (of x, of y) of a polynomial of total degree ``degree``, in PSFEx's order."""
    return tuple((i, j) for j in range(degree + 1) for i in range(degree + 1 - j))


@dataclass(frozen=True, eq=False)
class PsfModel:
    """A PSF model of one image.

    Attributes
    ----------
    coefficients
        (n_terms, n, n) float32; n is odd and the PSF's centre is the middle sample.
    degree
        Degree of the polynomial in position.
    step
        Pixels per sample of the coefficient images.
    origin, scale
        Position in pixels (x, y; 0-based) and lengths that normalise the polynomial: u = (x - origin) / scale.
    fwhm_pixels
        Full width at half maximum at the centre of the image.
    n_stars
        Number of stars used.
    chi2
        Reduced chi-square of those stars.
    width_per_mag
        Relative change of the width per magnitude of the source's BP - RP from :mod:`imaging.psf.colour`'s reference,
        for which the model is.
    """

    coefficients: NDArray[np.float32]
    degree: int
    step: float
    origin: tuple[float, float]
    scale: tuple[float, float]
    fwhm_pixels: float
    n_stars: int = 0
    chi2: float = float("nan")
    width_per_mag: float = 0.0

    @cached_property
    def terms(self) -> tuple[tuple[int, int], ...]:
        """Exponents of the polynomial."""
        return polynomial_terms(self.degree)

    def samples(self, x: float, y: float) -> FloatArray:
        """Return the finely sampled PSF at a position: (n, n), flux per pixel."""
        u = (x - self.origin[0]) / self.scale[0]
        v = (y - self.origin[1]) / self.scale[1]
        weights = np.array([u**i * v**j for i, j in self.terms])
        return np.tensordot(weights, self.coefficients, axes=1)

    def stamp(self, x: float, y: float, half_width: int) -> FloatArray:
        """Draw a source of unit flux on the pixel grid.

        Parameters
        ----------
        x, y
            Position of the source, pixels, 0-based.
        half_width
            Half size of the stamp.

        Returns
        -------
        stamp
            (2 half_width + 1, 2 half_width + 1), centred on the pixel (round(y), round(x)); zero outside the model.
        """
        dx, dy = x - np.floor(x + 0.5), y - np.floor(y + 0.5)
        offsets = np.arange(-half_width, half_width + 1)
        return self.at_offsets(x, y, offsets - dx, offsets - dy)

    def at_offsets(self, x: float, y: float, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the PSF of a position at offsets from the source's centre.

        Parameters
        ----------
        x, y
            Position of the source, pixels, 0-based.
        dx, dy
            (nx,) and (ny,) offsets in pixels.

        Returns
        -------
        values
            (ny, nx), flux per pixel; zero outside the model.
        """
        wx = _interpolation(dx, self.step, self.coefficients.shape[2])
        wy = _interpolation(dy, self.step, self.coefficients.shape[1])
        return wy @ self.samples(x, y) @ wx.T

    def noise_pixels(self, x: float, y: float) -> float:
        """Return the effective number of noise pixels of a PSF fit at a position: 1 / sum(psf^2)."""
        stamp = self.stamp(np.floor(x + 0.5), np.floor(y + 0.5), 15)
        return float(1.0 / np.sum(stamp**2))


def _interpolation(offsets: FloatArray, step: float, n: int) -> FloatArray:
    """Weights (len(offsets), n) that interpolate a grid of spacing ``step`` centred on zero at ``offsets``."""
    position = offsets[:, None] / step + (n - 1) / 2
    first = np.clip(np.floor(position).astype(np.int64) - TAPS // 2 + 1, 0, n - TAPS)
    nodes = first + np.arange(TAPS)
    distance = position - nodes
    on_sample = np.abs(distance) < 1e-9
    weights = np.where(on_sample, 1.0, np.array(BINOMIALS) / np.where(on_sample, 1.0, distance))
    weights = np.where(on_sample.any(axis=1, keepdims=True), on_sample, weights)
    whole = np.zeros((offsets.size, n))
    np.put_along_axis(whole, nodes, weights / weights.sum(axis=1, keepdims=True), axis=1)
    return np.where((position > -0.5) & (position < n - 0.5), whole, 0.0)
