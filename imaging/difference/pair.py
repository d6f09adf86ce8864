"""Prepare a search image and a template for subtraction: common flux scale, repaired defects."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imaging.difference.masks import usable
from imaging.difference.noise import tile_medians
from imaging.difference.tiles import Tiling
from imaging.errors import CcdError
from imaging.image import CalibratedImage, FloatImage, MaskImage, no_error
from imaging.psf.model import PsfModel
from imaging.templates.resampling_inputs import resampling_inputs_of
from imaging.templates.stack import StackMakeup, Template

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two images, in electrons of the search image.

    Attributes
    ----------
    science
        (ny, nx) float32, narrow defects interpolated.
    mask
        (ny, nx) int16.
    weight
        (ny, nx) float32, inverse variance from sky and readout.
    gain
        Photo-electrons per unit of flux.
    saturation
        Saturation level in the same unit.
    psf
        Point-spread function.
    transparency_error
        Relative error of the transparency, see :class:`imaging.image.CalibratedImage`.
    """

    science: FloatImage
    mask: MaskImage
    weight: FloatImage
    gain: float
    saturation: float
    psf: PsfModel
    transparency_error: FloatArray = field(default_factory=no_error)

    def variance(self) -> FloatImage:
        """Return the variance from sky and readout, zero where the weight is zero."""
        return np.divide(1.0, self.weight, out=np.zeros_like(self.weight), where=self.weight > 0)


@dataclass(frozen=True, eq=False)
class Pair:
    """Search and template on one grid and one flux scale.

    Attributes
    ----------
    search, template
        The two sides; the template is scaled by the zero points.
    correlation
        (n, m, k, k) autocorrelation of the template's noise in tiles of ``correlation_tile`` pixels.
    correlation_tile
        Side of those tiles, pixels.
    makeup
        Inputs of the template if it is a stack, made here or by another survey.
    search_correlation
        (6, 6) autocorrelation of the search image's noise; None if it is white.
    """

    search: Side
    template: Side
    correlation: NDArray[np.float32]
    correlation_tile: int
    makeup: StackMakeup | None
    search_correlation: FloatArray | None = None


def prepare_pair(search: CalibratedImage, template: Template | CalibratedImage) -> Pair:
    """Scale both images to the search image's flux scale and interpolate narrow defects.

    Parameters
    ----------
    search
        Search image; its sky is subtracted.
    template
        Stack, or calibrated image, on the same grid.

    Raises
    ------
    CcdError
        ``shapes_differ`` if the two are not on one grid, ``no_good_pixels`` if no pixel is good in both.
    """
    image = template.image if isinstance(template, Template) else template
    if image.pixels.shape != search.pixels.shape:
        raise CcdError(
            "search and template have different grids",
            reason="shapes_differ",
            step="subtract",
            value=f"{search.pixels.shape} and {image.pixels.shape}",
            remedy="stack the templates on the search image's grid first",
        )
    if isinstance(template, Template):
        correlation, tile = template.correlation, template.correlation_tile_pixels
    else:
        correlation, tile = np.zeros((1, 1, 6, 6), dtype=np.float32), max(search.pixels.shape)
        correlation[..., 0, 0] = 1.0
        if image.noise_correlation is not None:
            correlation[...] = image.noise_correlation
    scale = 10 ** (-0.4 * (image.zeropoint_mag - search.zeropoint_mag))
    template_side = _side(image, scale, fill=not isinstance(template, Template))
    makeup = None
    if isinstance(template, Template) and (len(template.inputs) > 1 or template.makeup.depth is not None):
        makeup = template.makeup
    pair = Pair(_side(search, 1.0, fill=True), template_side, correlation, tile, makeup, search.noise_correlation)
    if not ((pair.search.weight > 0) & (pair.template.weight > 0)).any():
        raise CcdError(
            "search and template have no good pixel in common",
            reason="no_good_pixels",
            step="subtract",
            value=0,
            remedy="check the masks of both images",
        )
    return pair


def _side(image: CalibratedImage, scale: float, *, fill: bool) -> Side:
    """Scale an image to the common flux scale; a stack's saturated cores are already filled.

    Unchanged arrays are shared with the image.
    """
    pixels = image.pixels
    factor = np.float32(scale)
    science = resampling_inputs_of(image).repair(pixels.science) if fill else pixels.science
    bad = ~usable(pixels.mask)
    weight = np.where(bad, np.float32(0.0), pixels.weight) if pixels.weight[bad].any() else pixels.weight
    if scale != 1.0:
        science, weight = science * factor, weight / (factor * factor)
    return Side(
        science=science,
        mask=pixels.mask,
        weight=weight,
        gain=float(pixels.header.get("GAIN", 1.0)) / scale,
        saturation=image.saturation_electrons * scale,
        psf=image.psf,
        transparency_error=image.transparency_error,
    )


def typical_variances(pair: Pair, tiling: Tiling) -> tuple[FloatArray, FloatArray]:
    """Return the (n, m) median variance of good pixels of search and template per tile."""
    good = (pair.search.weight > 0) & (pair.template.weight > 0)
    search = 1.0 / tile_medians(pair.search.weight, good, tiling)
    template = 1.0 / tile_medians(pair.template.weight, good, tiling)
    return search, template
