"""A filtered difference to whose noise the residuals of stars are added."""

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.difference.filter import FilteredDifference
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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
        norm, template = self.filtered.norm[rows, columns].astype(float), self.filtered.template_flux
        slope_x = 0.5 * (template[rows, columns + 1] - template[rows, columns - 1])
        slope_y = 0.5 * (template[rows + 1, columns] - template[rows - 1, columns])
        variance = 1.0 / norm + (self.errors[0] * template[rows, columns]) ** 2
        variance += self.errors[1] ** 2 * (slope_x**2 + slope_y**2)
        return variance, self.filtered.numerator[rows, columns] / (norm * np.sqrt(variance))

    def add(self, rows: IntArray, columns: IntArray, variance: FloatArray) -> None:
        """Add variance to the fluxes at some pixels, and in proportion to the pixels' weights.

        Parameters
        ----------
        rows, columns
            (n,) pixels.
        variance
            (n,) variance of a point source's flux there.
        """
        norm, weight = self.filtered.norm, self.weight
        factor = (1.0 / (1.0 + norm[rows, columns] * variance)).astype(np.float32)
        norm[rows, columns] *= factor
        self.filtered.numerator[rows, columns] *= factor
        weight[rows, columns] /= (1.0 + weight[rows, columns] * variance * self.pixel_variance).astype(np.float32)

    def add_image(self, variance: FloatImage) -> None:
        """Add a (ny, nx) variance of a point source's flux, as :meth:`add` does where it is not zero."""
        _add_image(self.filtered.norm, self.filtered.numerator, self.weight, variance, self.pixel_variance)


@numba.njit(cache=True)
def _add_image(
    norm: FloatImage, numerator: FloatImage, weight: FloatImage, variance: FloatImage, pixel_variance: float
) -> None:
    ny, nx = norm.shape
    for row in range(ny):
        for column in range(nx):
            added = np.float64(variance[row, column])
            if added == 0.0:
                continue
            factor = np.float32(1.0 / (1.0 + norm[row, column] * added))
            norm[row, column] *= factor
            numerator[row, column] *= factor
            weight[row, column] /= np.float32(1.0 + weight[row, column] * added * pixel_variance)
