"""The pixels of one CCD, as they pass between the stages."""

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
    """

    pixels: CcdImage
    wcs: TpvWcs
    psf: PsfModel
    zeropoint_mag: float
    sky_electrons: float
    saturation_electrons: float
    label: str
