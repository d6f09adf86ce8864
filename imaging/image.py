"""Image data of one CCD: raw pixels, pixels with mask and weight, calibrated image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imaging.psf.model import PsfModel

if TYPE_CHECKING:
    from imaging.difference.ghost_model import Ghost
    from imaging.wcs.foreign import ImageWcs

FloatImage = NDArray[np.float32]
MaskImage = NDArray[np.int16]


def no_error() -> NDArray[np.float64]:
    """Return the relative error of a transparency that is the same everywhere, (1, 1): zero."""
    return np.zeros((1, 1))


@dataclass(frozen=True, eq=False)
class CcdImage:
    """Pixels with their mask and weight.

    Attributes
    ----------
    science
        (ny, nx) float32, electrons.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    weight
        (ny, nx) float32, inverse variance in 1/electrons^2 from sky and readout; zero for unusable pixels.
    header
        Header keywords.
    """

    science: FloatImage
    mask: MaskImage
    weight: FloatImage
    header: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.science.shape[0], self.science.shape[1]


@dataclass(frozen=True, eq=False)
class ResamplingInputs:
    """Preparation of a final image for resampling, computed once because it does not depend on the other image.

    Attributes
    ----------
    repaired_at
        (n,) int32, flat indices of the interpolated or filled pixels.
    repaired
        (n,) float32, values of those pixels, electrons.
    grown_at
        (m,) int32, flat indices of the pixels whose mask bits change by the growth of the mask.
    grown
        (m,) int16, mask bits of those pixels.
    stars
        (k, 2) float64, x and y of the centroids of bright unsaturated sources, pixels, brightest first.
    repair_gap_pixels, mask_growth_pixels
        Widest interpolated defect and growth of the mask, pixels.
    """

    repaired_at: NDArray[np.int32]
    repaired: FloatImage
    grown_at: NDArray[np.int32]
    grown: MaskImage
    stars: NDArray[np.float64]
    repair_gap_pixels: int
    mask_growth_pixels: int

    def repair(self, science: FloatImage) -> FloatImage:
        """Return a copy of the pixels (ny, nx) with saturated cores filled and narrow defects interpolated."""
        copy = science.copy()
        copy.reshape(-1)[self.repaired_at] = self.repaired
        return copy

    def grow(self, mask: MaskImage) -> MaskImage:
        """Return a copy of the mask (ny, nx), grown."""
        copy = mask.copy()
        copy.reshape(-1)[self.grown_at] = self.grown
        return copy


@dataclass(frozen=True, eq=False)
class CalibratedImage:
    """Calibrated image: pixels with world coordinates, point-spread function and zero point.

    Attributes
    ----------
    pixels
        Science, mask, weight. The sky is subtracted.
    wcs
        World coordinates.
    psf
        Point-spread function; a source of unit flux in the reference aperture.
    zeropoint_mag
        AB magnitude of a source of one electron.
    sky_electrons
        Level of the subtracted sky.
    saturation_electrons
        Level above which pixels are saturated.
    label
        Name for messages and tables, such as the product's stem.
    resampling_inputs
        Stored preparation for resampling; None if there is none.
    noise_correlation
        (6, 6) autocorrelation of the noise at lags 0 to 5 in y and x, one at lag zero; None if the noise is white.
    transparency_error
        (r, c) relative error of fluxes by the transparency of clouds that was taken out, at every 64th pixel, or (1, 1)
        if it is the same everywhere (:func:`imaging.photometry.transparency.at_places`).
    ghosts
        Known ghosts of bright stars, in its pixels.
    """

    pixels: CcdImage
    wcs: "ImageWcs"
    psf: PsfModel
    zeropoint_mag: float
    sky_electrons: float
    saturation_electrons: float
    label: str
    resampling_inputs: ResamplingInputs | None = None
    noise_correlation: NDArray[np.float64] | None = None
    transparency_error: NDArray[np.float64] = field(default_factory=no_error)
    ghosts: "tuple[Ghost, ...]" = ()


@dataclass(frozen=True, slots=True)
class RawCcd:
    """One raw CCD.

    Attributes
    ----------
    header
        The extension's keywords.
    pixels
        (ny, nx) uint16, ADU, with prescan, overscan and post-scan.
    """

    header: Mapping[str, Any]
    pixels: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image as read from its file.

    Attributes
    ----------
    science
        (ny, nx) float32, in the file's unit, linear, possibly not sky-subtracted; NaN where there are no data.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    weight
        (ny, nx) float32, inverse variance in the file's unit; None if the file has none.
    wcs
        World coordinates.
    header
        Keywords of the primary HDU and of the image's HDU, the latter taking precedence.
    gain
        Photo-electrons per unit of the image; None if the header does not say.
    zeropoint_mag
        AB magnitude of one unit of the image; None if the header does not say.
    saturation
        Saturation level in the file's unit; infinite if not in the header.
    is_own_product
        Whether this project wrote the file; its weight then contains sky and readout noise only.
    label
        Name for messages.
    notes
        What was found in the file and changes its meaning, for the user.
    is_gain_given
        Whether the user gave the gain; that of a header may contradict the noise.
    """

    science: FloatImage
    mask: MaskImage
    weight: FloatImage | None
    wcs: "ImageWcs"
    header: dict[str, Any]
    gain: float | None
    zeropoint_mag: float | None
    saturation: float
    is_own_product: bool
    label: str
    notes: tuple[str, ...] = ()
    is_gain_given: bool = False
