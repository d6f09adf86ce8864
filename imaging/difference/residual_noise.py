"""A filtered difference to whose noise the residuals of stars are added."""

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from imaging.difference.filter import FilteredDifference
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SPREAD_FWHM = 1.5
"""Distance to which the noise of pixels is spread, FWHM; a Gaussian PSF has 0.0001 of its squares' sum beyond."""


@dataclass(frozen=True, eq=False)
class ResidualNoise:
    """The noise of a difference, which increases in place.

    Attributes
    ----------
    filtered
        Filtered difference; its norm decreases, and its numerator with it, so that the fluxes stay.
    weight
        (ny, nx) float32, inverse variance of the whitened difference.
    errors
        Relative error of the subtracted brightness, error of its position in pixels: what is known already.
    fwhm_pixels
        Width of the PSF.
    pixel_scale_arcsec
        Side of a pixel.
    """

    filtered: FilteredDifference
    weight: FloatImage
    errors: tuple[float, float]
    fwhm_pixels: float
    pixel_scale_arcsec: float

    @cached_property
    def pixel_variance(self) -> float:
        """Sum of the squared PSF: the variance of a pixel for one of the flux."""
        return float(np.median(np.sum(self.filtered.psf_stamps**2, axis=(2, 3))))

    @cached_property
    def flux_per_level(self) -> float:
        """Flux that a point source seems to have in a constant light of one electron per pixel."""
        return float(np.median(np.sum(self.filtered.psf_stamps, axis=(2, 3)))) / self.pixel_variance

    def measured_at(self, rows: IntArray, columns: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the known variance of a point source's flux at pixels, and the flux over its known error.

        Parameters
        ----------
        rows, columns
            (n,) pixels with a flux, not at the image's border.
        """
        filtered, (scale_error, shift_error) = self.filtered, self.errors
        images = filtered.norm, filtered.numerator, filtered.template_flux
        variance, significance = _measured(*images, rows, columns, np.float32(scale_error), np.float32(shift_error**2))
        return variance, significance

    def add(self, rows: IntArray, columns: IntArray, variance: FloatArray) -> None:
        """Add variance to the fluxes at some pixels, and in proportion to the pixels' weights.

        Parameters
        ----------
        rows, columns
            (n,) pixels.
        variance
            (n,) variance of a point source's flux there.
        """
        images = self.filtered.norm, self.filtered.numerator, self.weight
        _add(*images, rows, columns, variance, self.pixel_variance)

    def multiply(self, rows: IntArray, columns: IntArray, factor: FloatArray) -> int:
        """Multiply the known errors of the fluxes at some pixels, where the factor is above one.

        Parameters
        ----------
        rows, columns
            (n,) pixels, not at the image's border.
        factor
            (n,) typical significance there in units of that of noise.

        Returns
        -------
        raised
            Number of pixels with more noise than before.
        """
        more = factor > 1.0
        rows, columns = rows[more], columns[more]
        self.add(rows, columns, (factor[more] ** 2 - 1.0) * self.measured_at(rows, columns)[0])
        return rows.size

    def spread(self, norm: FloatImage, weight: FloatImage) -> None:
        """Give every flux the noise that was added to the pixels under its PSF, where that is more than its own.

        A flux sums the light of all pixels under the PSF, so that its variance is the sum of theirs times the squared
        filter. The square of the PSF is taken as the product of its profiles along x and y, averaged over the tiles.

        Parameters
        ----------
        norm, weight
            (ny, nx) float32, norm of the filter and inverse variance of the pixels before noise was added.
        """
        reach = int(np.ceil(SPREAD_FWHM * self.fwhm_pixels))
        squares, middle = np.mean(self.filtered.psf_stamps**2, axis=(0, 1)), self.filtered.psf_stamps.shape[-1] // 2
        profiles = [squares.sum(axis=1 - axis)[max(middle - reach, 0) : middle + reach + 1] for axis in range(2)]
        added = _added(weight, self.weight)
        for axis, profile in enumerate(profiles):
            added = correlate1d(added, profile / np.sqrt(squares.sum()), axis, mode="constant")
        _spread(self.filtered.norm, self.filtered.numerator, norm, added)

    def add_image(self, variance: FloatImage) -> None:
        """Add a (ny, nx) variance of a point source's flux, as :meth:`add` does where it is not zero."""
        _add_image(self.filtered.norm, self.filtered.numerator, self.weight, variance, self.pixel_variance)


@numba.njit(cache=True, error_model="numpy")
def _measured(
    norm: FloatImage,
    numerator: FloatImage,
    template: FloatImage,
    rows: IntArray,
    columns: IntArray,
    scale_error: np.float32,
    shift_variance: np.float32,
) -> tuple[FloatArray, FloatArray]:
    variance, significance = np.empty((2, rows.size))
    half = np.float32(0.5)
    for k in range(rows.size):
        row, column = rows[k], columns[k]
        known, systematic = np.float64(norm[row, column]), scale_error * template[row, column]
        slope_x = half * (template[row, column + 1] - template[row, column - 1])
        slope_y = half * (template[row + 1, column] - template[row - 1, column])
        variance[k] = 1.0 / known + systematic * systematic
        variance[k] += shift_variance * (slope_x * slope_x + slope_y * slope_y)
        significance[k] = numerator[row, column] / (known * np.sqrt(variance[k]))
    return variance, significance


@numba.njit(cache=True)
def _add(
    norm: FloatImage,
    numerator: FloatImage,
    weight: FloatImage,
    rows: IntArray,
    columns: IntArray,
    variance: FloatArray,
    pixel_variance: float,
) -> None:
    for k in range(rows.size):
        _raise(norm, numerator, weight, rows[k], columns[k], variance[k], pixel_variance)


@numba.njit(cache=True)
def _add_image(
    norm: FloatImage, numerator: FloatImage, weight: FloatImage, variance: FloatImage, pixel_variance: float
) -> None:
    ny, nx = norm.shape
    for row in range(ny):
        for column in range(nx):
            if variance[row, column] != 0.0:
                added = np.float64(variance[row, column])
                _raise(norm, numerator, weight, row, column, added, pixel_variance)


@numba.njit(cache=True)
def _raise(
    norm: FloatImage,
    numerator: FloatImage,
    weight: FloatImage,
    row: int,
    column: int,
    added: float,
    pixel_variance: float,
) -> None:
    factor = np.float32(1.0 / (1.0 + norm[row, column] * added))
    norm[row, column] *= factor
    numerator[row, column] *= factor
    weight[row, column] /= np.float32(1.0 + weight[row, column] * added * pixel_variance)


@numba.njit(cache=True, error_model="numpy")
def _added(before: FloatImage, weight: FloatImage) -> FloatImage:
    """Return the added variance of the pixels times the square of their weights before."""
    out, zero, one = np.zeros_like(weight), np.float32(0.0), np.float32(1.0)
    for row in range(weight.shape[0]):
        old, new, target = before[row], weight[row], out[row]
        for column in range(old.size):
            if new[column] > zero:
                target[column] = old[column] * (old[column] / new[column] - one)
    return out


@numba.njit(cache=True, error_model="numpy")
def _spread(norm: FloatImage, numerator: FloatImage, before: FloatImage, added: FloatImage) -> None:
    """Reduce norm and numerator to ``before`` with the variance ``added / before**2``, where that is less."""
    for row in range(norm.shape[0]):
        for column in range(norm.shape[1]):
            old, now = before[row, column], norm[row, column]
            reduced = old * old / (old + added[row, column])
            if now > np.float32(0.0) and reduced < now:
                norm[row, column] = reduced
                numerator[row, column] *= reduced / now
