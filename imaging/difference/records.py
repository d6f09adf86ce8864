"""Data classes of image subtraction: identity, kernel summary, matched pair, difference."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.difference.filter import FilteredDifference
from imaging.difference.noise import TileNoise
from imaging.difference.registration import ShiftField
from imaging.difference.tiles import Tiling
from imaging.image import CalibratedImage, CcdImage, FloatImage, MaskImage, no_error
from imaging.photometry.transparency import rms_of
from imaging.psf.model import PsfModel
from imaging.timing import StepTimes

FloatArray = NDArray[np.float64]

CONSTANT = "constant kernel"
"""Fallback to a kernel that is fitted, but constant."""

Method = Literal["alard_lupton", "zogy"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Exposure and CCD: the identity columns of tables.

    Attributes
    ----------
    expnum, band, night, ccd
        As in :class:`imaging.identity.ExposureId`.
    mjd
        Middle of the exposure, UTC.
    """

    expnum: int
    band: str
    night: int
    ccd: int
    mjd: float

    def columns(self, n: int) -> dict[str, Any]:
        """Return the identity columns of a table of n rows."""
        return {
            "expnum": np.full(n, self.expnum, dtype=np.int64),
            "band": [self.band] * n,
            "night": np.full(n, self.night, dtype=np.int32),
            "ccd": np.full(n, self.ccd, dtype=np.int16),
        }


@dataclass(frozen=True, eq=False)
class KernelSummary:
    """Summary of the PSF matching.

    Attributes
    ----------
    convolved
        The image that was convolved: the one with the better seeing.
    sum
        Sum of the kernel over the ratio of the zero points; one if the calibrations agree.
    sum_error
        Standard error of the sum.
    n_stamps, n_rejected
        Stamps used and clipped.
    chi2
        Median reduced chi-square of the stamps.
    order, level
        Spatial order and basis level chosen by cross-validation.
    half_width
        Half width of the kernel, pixels.
    fallback
        Fallback used because the first fit was rejected; empty if none.
    """

    convolved: Literal["template", "search"]
    sum: float
    sum_error: float
    n_stamps: int
    n_rejected: int
    chi2: float
    order: int
    level: int
    half_width: int
    fallback: str = ""

    @property
    def origin(self) -> int:
        """Code of ``kernel_origin`` in the quality table."""
        if not self.fallback:
            return 0
        if self.fallback == CONSTANT:
            return 1
        return 2 if self.n_stamps else 3


@dataclass(frozen=True, eq=False)
class Matched:
    """A whitened difference before the normalisation of its noise.

    Attributes
    ----------
    image
        (ny, nx) float32, whitened difference in electrons of the search image.
    model
        (ny, nx) float32, the matched template.
    model_error
        (ny, nx) float32, relative error of the model at pixels with missing stack inputs; None for a single template.
    mask
        (ny, nx) int16.
    noise
        Response and variance factors per tile.
    tiling
        The tiles.
    kernel
        Summary of the match.
    shifts
        Shifts and brightness of the search image relative to the template, whichever was convolved.
    transparency_error
        Relative error of fluxes by the transparency, see :class:`imaging.image.CalibratedImage`.
    beyond
        (n,) fraction of the kernel beyond the image's border for a pixel 0, 1, ... pixels from it.
    """

    image: FloatImage
    model: FloatImage
    model_error: FloatImage | None
    mask: MaskImage
    noise: TileNoise
    tiling: Tiling
    kernel: KernelSummary
    shifts: ShiftField
    transparency_error: FloatArray = field(default_factory=no_error)
    beyond: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Difference:
    """A search image minus its template.

    Attributes
    ----------
    search
        The search image.
    image
        (ny, nx) float32, whitened difference in electrons of the search image; zero where masked.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    weight
        (ny, nx) float32, inverse variance, normalised so that blank sky has unit width; zero where masked.
    score
        (ny, nx) float32, flux of a point source at each pixel over its measured error; zero if undefined.
    psf
        PSF of the difference.
    model
        (ny, nx) float32, the matched template that was subtracted, in electrons of the search image.
    filtered
        Sums of the matched filter.
    widths
        (n, m) noise width of the score per tile, by which the score was divided.
    scale_error, shift_error
        Relative error of the subtracted brightness; error of its position, pixels per axis.
    psf_flux_error
        Relative error of a point source's flux by what the PSF model of the difference does not follow.
    transparency_error
        Relative error of fluxes by the transparency, see :class:`imaging.image.CalibratedImage`.
    photon_gain
        Effective photo-electrons per unit of flux after whitening, for a source's photon noise.
    noise, tiling
        Whitening kernel, response kernel and variance factors per tile.
    kernel
        Summary of the match.
    method
        Subtraction method.
    quality
        Quality metrics.
    times
        Seconds per step.
    """

    search: CalibratedImage
    image: FloatImage
    mask: MaskImage
    weight: FloatImage
    score: FloatImage
    psf: PsfModel
    model: FloatImage
    filtered: FilteredDifference
    widths: FloatArray
    scale_error: float
    shift_error: float
    photon_gain: float
    noise: TileNoise
    tiling: Tiling
    kernel: KernelSummary
    method: Method
    quality: dict[str, float]
    times: StepTimes = field(default_factory=StepTimes)
    psf_flux_error: float = 0.0
    transparency_error: FloatArray = field(default_factory=no_error)

    @property
    def pixel_scale_arcsec(self) -> float:
        """Pixel scale at the centre of the image, arcseconds, from its WCS."""
        ny, nx = self.image.shape
        return float(np.sqrt(self.search.wcs.pixel_area_arcsec2(nx / 2, ny / 2)))

    def as_image(self) -> CalibratedImage:
        """Return the difference as a calibrated image, as written to disk and used by forced photometry."""
        header = dict(self.search.pixels.header) | {
            "SCALEERR": self.scale_error,
            "SHIFTERR": self.shift_error,
            "PSFERR": self.psf_flux_error,
            "TRANSERR": rms_of(self.transparency_error),
            "FLUXERRS": float(np.median(self.widths)),
            "PHOTGAIN": self.photon_gain,
            "KERNSUM": self.kernel.sum,
            "KERNCONV": self.kernel.convolved,
            "DIFFMETH": self.method,
        }
        return CalibratedImage(
            pixels=CcdImage(self.image, self.mask, self.weight, header),
            wcs=self.search.wcs,
            psf=self.psf,
            zeropoint_mag=self.search.zeropoint_mag,
            sky_electrons=self.search.sky_electrons,
            saturation_electrons=self.search.saturation_electrons,
            label=f"difference of {self.search.label}",
            transparency_error=self.transparency_error,
        )
