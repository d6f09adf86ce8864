"""What saturated stars leave along the edges of their masks, measured piece by piece, as a part of the noise.

A mask follows the light of a star in the template: its bleed trail, its spikes and its halo, none of them round. Where
the search image has that light elsewhere, by its seeing or because a halo moves with the pointing, a long and narrow
residual lies along the edge. The typical significance in pieces of strips parallel to the edge shows it; a transient
fills a small part of a piece and changes it little.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.difference.masks import halos
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.star_surroundings import RING_AREA, typical_in_pieces
from imaging.image import MaskImage
from imaging.templates.pixels import grow_bits

IntArray = NDArray[np.int64]

STRIPS = 3
"""Number of strips outside the mask, each as wide as the PSF; one more is inside it, where half of a PSF is seen."""

PIECE_FWHM, LEAST_AREA = 16.0, 12.0
"""Side of the squares that cut a strip into pieces, in FWHM, and least area of a piece, in FWHM squared: a transient
of signal to noise 100 fills a quarter of that."""


def add_halos(noise: ResidualNoise, mask: MaskImage, error: float) -> None:
    """Add a fraction of the template's flux to the noise in the halos of saturated stars, in place.

    Parameters
    ----------
    noise
        Noise of the difference.
    mask
        (ny, nx) int16, mask of the difference.
    error
        The fraction.
    """
    rows, columns = np.nonzero(halos(mask) & (noise.filtered.norm > 0))
    noise.add(rows, columns, (error * noise.filtered.template_flux[rows, columns].astype(float)) ** 2)


def add_mask_edges(noise: ResidualNoise, mask: MaskImage) -> int:
    """Raise the noise of a difference along the masks of saturated stars, in place.

    Parameters
    ----------
    noise
        Noise of the difference.
    mask
        (ny, nx) int16, mask of the difference.

    Returns
    -------
    raised
        Number of pixels with more noise than before.
    """
    rows, columns, strip = _strips(noise, mask)
    if not rows.size:
        return 0
    _, significance = noise.measured_at(rows, columns)
    side = PIECE_FWHM * noise.fwhm_pixels
    excess = np.ones(rows.size)
    for shift in (0.0, 0.5):  # an edge that only grazes a square lies well inside one of the others
        across, along = ((places / side + shift).astype(np.int64) for places in (columns, rows))
        squares = along * (int(across.max()) + 1) + across
        _, piece = np.unique(squares * (STRIPS + 1) + strip, return_inverse=True)
        least = LEAST_AREA * noise.fwhm_pixels**2
        typical = typical_in_pieces(piece, np.abs(significance), RING_AREA * noise.fwhm_pixels**2, least)
        excess = np.maximum(excess, typical[piece])
    return noise.multiply(rows, columns, excess)


def _strips(noise: ResidualNoise, mask: MaskImage) -> tuple[IntArray, IntArray, IntArray]:
    """Return rows, columns and number of the strip of the pixels with a flux in and around the masks."""
    width = max(round(noise.fwhm_pixels), 1)
    grown = mask & np.int16(MaskBit.SATURATE)
    strips = np.zeros(mask.shape, dtype=np.int8)  # how many of the grown masks hold a pixel
    strips += grown != 0
    for _ in range(STRIPS):
        grown = grow_bits(grown, width)
        strips += grown != 0
    inside = np.zeros(mask.shape, dtype=np.bool_)
    inside[1:-1, 1:-1] = (strips[1:-1, 1:-1] > 0) & (noise.filtered.norm[1:-1, 1:-1] > 0)
    rows, columns = np.nonzero(inside)
    return rows, columns, strips[rows, columns].astype(np.int64) - 1
