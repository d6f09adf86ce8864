"""What remains around bright stars beyond their cores, measured star by star, as a part of the noise.

Beyond the kernel's reach the wings of the two images differ and leave wide rings around the whole star. The typical
significance in a ring shows them; a transient fills a small part of it and changes it little. Where it exceeds that of
noise, the noise is raised by as much.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from imaging.bits import MaskBit
from imaging.difference.detect import BrightStars
from imaging.difference.residual_noise import ResidualNoise
from imaging.image import FloatImage, MaskImage

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FAINTEST_MAG = 15.0
"""Faintest star whose surroundings are measured."""

REACH_ARCSEC, REACH_GROWTH = 8.5, 0.15
"""Radius to which the surroundings of a star of that magnitude are measured, and its growth in dex per magnitude: rings
were seen to 12 arcsec around stars of 13.8 mag and to 40 arcsec around stars of 9.8 mag, and at the edge of the mask of
a star of 4.4 mag at 240 arcsec."""

INNER_FWHM = 1.5
"""Radius in FWHM within which a transient may fill a ring."""

RING_GROWTH = 0.12
"""Width of a ring over its radius; no ring is narrower than the FWHM."""

MEDIAN, UPPER_QUARTILE = 0.6745, 1.1503
"""Half of the absolute values of a Gaussian lie below the first, three quarters below the second, sigma."""

LEAST_EXCESS = 4.0
"""Typical significance, in units of that of noise, that is not noise: one and so many over the root of the number of
independent fluxes. The error of a median is 1.17 over that root, that of the quartile 0.91."""

RING_AREA = 2.27
"""Area of an independent flux in units of FWHM squared: fluxes of a Gaussian PSF correlate over 4 pi sigma squared."""

MASK_REACH = 2.2
"""Radius to which the surroundings of a star without a magnitude are measured, in units of its saturation mask's."""

MASK_STRIDE = 4
"""Every so-manieth row and column of the mask is looked at."""

MIN_PIXELS = 40
"""Fewest pixels of a ring."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Pixels around one star, flat arrays (n,).

    Attributes
    ----------
    rows, columns
        Pixels.
    radius
        Distance from the star, pixels.
    significance
        Absolute value of the flux over its known error.
    """

    rows: IntArray
    columns: IntArray
    radius: FloatArray
    significance: FloatArray


def add_star_surroundings(noise: ResidualNoise, stars: BrightStars) -> int:
    """Raise the noise of a difference where stars leave rings, in place.

    Parameters
    ----------
    noise
        Noise of the difference.
    stars
        Stars; those beyond the image's edges count as well.

    Returns
    -------
    raised
        Number of pixels with more noise than before.
    """
    raised, width = 0, noise.fwhm_pixels
    for k in np.argsort(stars.mag, kind="stable"):
        if stars.mag[k] > FAINTEST_MAG:
            break
        reach = REACH_ARCSEC * 10 ** (REACH_GROWTH * (FAINTEST_MAG - stars.mag[k])) / noise.pixel_scale_arcsec
        around = _around(noise, float(stars.x[k]), float(stars.y[k]), reach)
        if around is None:
            continue
        excess = excess_in_rings(around, width)
        raised += noise.multiply(around.rows, around.columns, excess)
    return raised


def stars_of_mask(mask: MaskImage, fwhm_pixels: float, pixel_scale_arcsec: float) -> BrightStars:
    """Return the stars behind the masks of saturated pixels, each as bright as its mask is wide.

    The template's own brightness of such a star is that of its saturated core.

    Parameters
    ----------
    mask
        (ny, nx) int16, mask of the difference, in which saturated stars are masked as far as they are bright.
    fwhm_pixels
        Width of the PSF; narrower masks are left out.
    pixel_scale_arcsec
        Side of a pixel.
    """
    labels, _ = label((mask[::MASK_STRIDE, ::MASK_STRIDE] & np.int16(MaskBit.SATURATE)) != 0)
    found = []
    for number, part in enumerate(find_objects(labels), start=1):
        inside = labels[part] == number
        across = inside.sum(axis=1)
        row = int(np.median(np.flatnonzero(across == across.max())))  # a bleed trail is narrower than the star
        column = float(np.flatnonzero(inside[row]).mean())
        radius = 0.5 * MASK_STRIDE * float(across.max())
        if radius > 1.5 * fwhm_pixels:
            reach = MASK_REACH * radius * pixel_scale_arcsec
            mag = FAINTEST_MAG - np.log10(reach / REACH_ARCSEC) / REACH_GROWTH
            place = (part[1].start + column, part[0].start + float(row))
            found.append((MASK_STRIDE * place[0], MASK_STRIDE * place[1], mag))
    x, y, mag = np.array(found, dtype=float).reshape(-1, 3).T
    return BrightStars(x, y, mag)


def excess_in_rings(around: Surroundings, fwhm_pixels: float) -> FloatArray:
    """Return (n,) the typical significance of the pixel's ring in units of that of noise, one where it is noise.

    Parameters
    ----------
    around
        Pixels around a star.
    fwhm_pixels
        Width of the PSF.
    """
    edges = [float(around.radius.min())]
    while edges[-1] < around.radius.max():
        edges.append(edges[-1] + max(fwhm_pixels, RING_GROWTH * edges[-1]))
    ring = np.digitize(around.radius, edges)
    return typical_in_rings(ring, around.significance, RING_AREA * fwhm_pixels**2)[ring]


def typical_in_rings(ring: IntArray, significance: FloatArray, area: float) -> FloatArray:
    """Return per ring the typical significance in units of that of noise; one where it may be noise.

    Parameters
    ----------
    ring
        (n,) number of the ring of every pixel.
    significance
        (n,) absolute values.
    area
        Number of pixels that make one independent flux.
    """
    return _typical(ring, significance, ((0.5, MEDIAN), (0.75, UPPER_QUARTILE)), area, MIN_PIXELS)


def typical_in_pieces(piece: IntArray, significance: FloatArray, area: float, least: float = MIN_PIXELS) -> FloatArray:
    """Return per piece the typical significance in units of that of noise; one where it may be noise.

    A source that fills less than half of a piece does not count.

    Parameters
    ----------
    piece
        (n,) number of the piece of every pixel.
    significance
        (n,) absolute values.
    area
        Number of pixels that make one independent flux.
    least
        Fewest pixels of a piece; smaller ones count as noise.
    """
    return _typical(piece, significance, ((0.5, MEDIAN),), area, least)


def _typical(
    label: IntArray, significance: FloatArray, quantiles: tuple[tuple[float, float], ...], area: float, least: float
) -> FloatArray:
    """Return per label the typical significance in units of that of noise; one where it may be noise.

    ``quantiles`` are shares of the pixels and the significance in noise, ``area`` that of an independent flux,
    ``least`` the fewest pixels of a label.
    """
    counts = np.bincount(label)
    order = np.argsort(label.astype(np.uint16) if counts.size < 2**16 else label, kind="stable")
    ends = np.cumsum(counts)
    out = np.ones(counts.size)
    for number in np.flatnonzero(counts >= least):
        inside = significance[order[ends[number] - counts[number] : ends[number]]]
        places = [int(share * inside.size) for share, _ in quantiles]
        inside.partition(places)
        value = max(float(inside[place]) / noise for place, (_, noise) in zip(places, quantiles, strict=True))
        if value > 1.0 + LEAST_EXCESS / np.sqrt(max(inside.size / area, 1.0)):
            out[number] = value
    return out


def _around(noise: ResidualNoise, x: float, y: float, reach: float) -> Surroundings | None:
    """Return the pixels with a flux around a star, to a distance in pixels; None if there are too few."""
    rows, columns, radius = _annulus(noise.filtered.norm, x, y, INNER_FWHM * noise.fwhm_pixels, reach)
    if rows.size < MIN_PIXELS:
        return None
    _, significance = noise.measured_at(rows, columns)
    return Surroundings(rows, columns, radius, np.abs(significance))


@njit(cache=True)
def _annulus(norm: FloatImage, x: float, y: float, inner: float, outer: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return rows, columns and radii of the pixels with a flux between two radii, without the image's border."""
    ny, nx = norm.shape
    first_row, first_column = max(int(np.ceil(y - outer)), 1), max(int(np.ceil(x - outer)), 1)
    last_row, last_column = min(int(y + outer), ny - 2), min(int(x + outer), nx - 2)
    most = max(last_row - first_row + 1, 0) * max(last_column - first_column + 1, 0)
    rows, columns, radii = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most)
    n = 0
    for row in range(first_row, last_row + 1):
        for column in range(first_column, last_column + 1):
            radius = np.hypot(column - x, row - y)
            if inner <= radius < outer and norm[row, column] > 0:
                rows[n], columns[n], radii[n] = row, column, radius
                n += 1
    return rows[:n], columns[:n], radii[:n]
