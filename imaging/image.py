"""The pixels of one CCD, as they pass between the stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.psf.model import PsfModel
from imaging.wcs.tpv import TpvWcs

FloatImage = NDArray[np.float32]
MaskImage = NDArray[np.int16]


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
        (ny, nx) float32, inverse variance in 1/electrons^2 from sky and readout; zero where a pixel says nothing.
    header
        Keywords that go with the pixels.
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
    """Work on a final image that is the same whatever the image is compared with, so that it is done once.

    Attributes
    ----------
    repaired_at
        (n,) int32, places in the flattened image of the pixels that were bridged or filled.
    repaired
        (n,) float32, their values, electrons.
    grown_at
        (m,) int32, places of the pixels whose mask bits the growth of the mask changes.
    grown
        (m,) int16, mask bits there.
    stars
        (k, 2) float64, x and y of the centroids of bright unsaturated sources, pixels, the brightest first.
    repair_gap_pixels, mask_growth_pixels
        Widest bridged defect and growth of the mask, pixels.
    """

    repaired_at: NDArray[np.int32]
    repaired: FloatImage
    grown_at: NDArray[np.int32]
    grown: MaskImage
    stars: NDArray[np.float64]
    repair_gap_pixels: int
    mask_growth_pixels: int

    def repair(self, science: FloatImage) -> FloatImage:
        """Return a copy of the image's pixels (ny, nx) with saturated cores filled and narrow defects bridged."""
        copy = science.copy()
        copy.reshape(-1)[self.repaired_at] = self.repaired
        return copy

    def grow(self, mask: MaskImage) -> MaskImage:
        """Return a copy of the image's mask (ny, nx), grown."""
        copy = mask.copy()
        copy.reshape(-1)[self.grown_at] = self.grown
        return copy


@dataclass(frozen=True, eq=False)
class CalibratedImage:
    """Pixels that know their place on the sky, their point-spread function and their zero point.

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
        Level of the sky that was subtracted.
    saturation_electrons
        Level above which pixels are saturated.
    label
        Name for messages and tables, such as the product's stem.
    resampling_inputs
        What was worked out on these pixels ahead of their comparison with others; None if nothing was.
    """

    pixels: CcdImage
    wcs: TpvWcs
    psf: PsfModel
    zeropoint_mag: float
    sky_electrons: float
    saturation_electrons: float
    label: str
    resampling_inputs: ResamplingInputs | None = None


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
    """An image as its file has it.

    Attributes
    ----------
    science
        (ny, nx) float32, in the file's unit; the sky may still be in it.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    weight
        (ny, nx) float32, inverse variance in the file's unit; None if the file knows none.
    wcs
        World coordinates.
    header
        Keywords of the file's primary HDU and of the image's, the latter winning.
    gain
        Photo-electrons per unit of the image; 1 if the header says nothing.
    zeropoint_mag
        AB magnitude of one unit of the image; None if the header says nothing.
    saturation
        Saturation level in the file's unit; infinite if the header says nothing.
    is_own_product
        Whether this project made the file, so that its weight is known to hold sky and readout noise alone.
    label
        Name for messages.
    """

    science: FloatImage
    mask: MaskImage
    weight: FloatImage | None
    wcs: TpvWcs
    header: dict[str, Any]
    gain: float
    zeropoint_mag: float | None
    saturation: float
    is_own_product: bool
    label: str
