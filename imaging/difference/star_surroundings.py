"""What remains around bright stars beyond their cores, measured star by star, as a part of the noise.

Beyond the kernel's reach the wings of the two images differ and leave wide rings, and the vanes' diffraction leaves
spikes. Both are extended: a ring goes around the whole star and a spike over many widths of the PSF. The typical
significance in a ring, and along a narrow strip that points away from the star, shows them; a transient fills a small
part of either and changes it little. Where it exceeds that of noise, the noise is raised by as much.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.difference.filter import FilteredDifference
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FAINTEST_MAG = 15.0
"""Faintest star whose surroundings are measured."""

REACH_ARCSEC, REACH_GROWTH = 8.5, 0.13
"""Radius to which the surroundings of a star of that magnitude are measured, and its growth in dex per magnitude: rings
were seen to 12 arcsec around stars of 13.8 mag and to 40 arcsec around stars of 9.8 mag."""

INNER_FWHM = 1.5
"""Radius in FWHM within which a transient may fill a ring."""

RING_GROWTH = 0.12
"""Width of a ring over its radius; no ring is narrower than the FWHM."""

STRIP_FWHM, STRIP_WIDTH = 16.0, 0.5
"""Shortest length and width of a strip in FWHM: a transient fills a quarter of its length."""

MEDIAN, UPPER_QUARTILE = 0.6745, 1.1503
"""Half of the absolute values of a Gaussian lie below the first, three quarters below the second, sigma."""

LEAST_EXCESS = 4.0
"""Typical significance, in units of that of noise, that is not noise: one and so many over the root of the number of
independent fluxes. The error of a median is 1.17 over that root, that of the quartile 0.91."""

RING_AREA, STRIP_AREA = 2.27, 1.5 * STRIP_WIDTH
"""Area of an independent flux in units of FWHM squared: fluxes of a Gaussian PSF correlate over 4 pi sigma squared, and
in a strip that is narrower over its root along the strip."""

MIN_PIXELS = 40
"""Fewest pixels of a ring or strip."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Pixels around one star, flat arrays (n,).

    Attributes
    ----------
    rows, columns
        Pixels.
    radius, angle
        Distance from the star, pixels, and direction, radians from 0 to 2 pi.
    variance
        Known variance of a point source's flux.
    significance
        Absolute value of the flux over its known error.
    """

    rows: IntArray
    columns: IntArray
    radius: FloatArray
    angle: FloatArray
    variance: FloatArray
    significance: FloatArray


def add_star_surroundings(
    filtered: FilteredDifference,
    weight: FloatImage,
    stars: tuple[FloatArray, FloatArray, FloatArray],
    errors: tuple[float, float],
    fwhm_pixels: float,
    pixel_scale_arcsec: float,
) -> int:
    """Raise the noise of a filtered difference and of its pixels where stars leave rings and spikes, in place.

    Parameters
    ----------
    filtered
        Filtered difference; its norm decreases, and its numerator with it, so that the fluxes stay.
    weight
        (ny, nx) float32, inverse variance of the whitened difference.
    stars
        x, y in pixels and magnitude, (n,) each; stars beyond the image's edges count as well.
    errors
        Relative error of the subtracted brightness, error of its position in pixels: what is known already.
    fwhm_pixels
        Width of the PSF.
    pixel_scale_arcsec
        Side of a pixel.

    Returns
    -------
    raised
        Number of pixels with more noise than before.
    """
    pixel = float(np.median(np.sum(filtered.psf_stamps**2, axis=(2, 3))))
    x, y, mag = stars
    raised = 0
    for k in np.argsort(mag, kind="stable"):
        if mag[k] > FAINTEST_MAG:
            break
        reach = REACH_ARCSEC * 10 ** (REACH_GROWTH * (FAINTEST_MAG - mag[k])) / pixel_scale_arcsec
        around = _around(filtered, float(x[k]), float(y[k]), INNER_FWHM * fwhm_pixels, reach, errors)
        if around is None:
            continue
        excess = excess_in_rings(around, fwhm_pixels)
        excess *= excess_in_strips(around, excess, fwhm_pixels)
        more = excess > 1.0
        raise_noise(
            *(filtered, weight, around.rows[more], around.columns[more]),
            *((excess[more] ** 2 - 1.0) * around.variance[more], pixel),
        )
        raised += int(np.count_nonzero(more))
    return raised


def raise_noise(
    filtered: FilteredDifference,
    weight: FloatImage,
    rows: IntArray,
    columns: IntArray,
    variance: FloatArray,
    pixel: float,
) -> None:
    """Add variance to the fluxes of a filtered difference at some pixels, and in proportion to its weights, in place.

    Parameters
    ----------
    filtered, weight
        Filtered difference, and inverse variance of its pixels.
    rows, columns
        (n,) pixels.
    variance
        (n,) variance of a point source's flux there.
    pixel
        Sum of the squared PSF: the variance of a pixel for one of the flux.
    """
    factor = (1.0 / (1.0 + filtered.norm[rows, columns] * variance)).astype(np.float32)
    filtered.norm[rows, columns] *= factor
    filtered.numerator[rows, columns] *= factor
    weight[rows, columns] /= (1.0 + weight[rows, columns] * variance * pixel).astype(np.float32)


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
    return _typical(ring, significance, ((0.5, MEDIAN), (0.75, UPPER_QUARTILE)), area)


def excess_in_strips(around: Surroundings, known: FloatArray, fwhm_pixels: float) -> FloatArray:
    """Return (n,) the typical significance of strips that point away from the star, one where it is noise.

    Parameters
    ----------
    around
        Pixels around a star.
    known
        (n,) excess in rings, which is taken out first.
    fwhm_pixels
        Width of the PSF.
    """
    out = np.ones(around.radius.size)
    start, end = float(around.radius.min()), float(around.radius.max())
    while end - start >= STRIP_FWHM * fwhm_pixels:
        stop = start + max(STRIP_FWHM * fwhm_pixels, 0.8 * start)
        stop = end if end - stop < STRIP_FWHM * fwhm_pixels else stop
        part = np.flatnonzero((around.radius >= start) & (around.radius <= stop))
        number = int(np.ceil(2.0 * np.pi * 0.5 * (start + stop) / (STRIP_WIDTH * fwhm_pixels)))
        strip = np.minimum((around.angle[part] * (number / (2.0 * np.pi))).astype(np.int64), number - 1)
        significance = around.significance[part] / known[part]
        own = np.ones(number)
        found = _typical(strip, significance, ((0.5, MEDIAN),), STRIP_AREA * fwhm_pixels**2)
        own[: found.size] = found
        out[part] = np.maximum(np.maximum(own, np.roll(own, 1)), np.roll(own, -1))[strip]  # a spike lies across two
        start = stop
    return out


def _typical(
    label: IntArray, significance: FloatArray, quantiles: tuple[tuple[float, float], ...], area: float
) -> FloatArray:
    """Return per label the typical significance in units of that of noise; one where it may be noise.

    ``quantiles`` are shares of the pixels and the significance in noise, ``area`` that of an independent flux.
    """
    order = np.lexsort((significance, label))
    counts = np.bincount(label)
    ends = np.cumsum(counts)
    out = np.ones(counts.size)
    for number in np.flatnonzero(counts >= MIN_PIXELS):
        inside = significance[order[ends[number] - counts[number] : ends[number]]]
        value = max(float(inside[int(share * inside.size)]) / noise for share, noise in quantiles)
        if value > 1.0 + LEAST_EXCESS / np.sqrt(max(inside.size / area, 1.0)):
            out[number] = value
    return out


def _around(
    filtered: FilteredDifference, x: float, y: float, inner: float, reach: float, errors: tuple[float, float]
) -> Surroundings | None:
    """Return the pixels with a flux between two distances from a star; None if there are too few."""
    ny, nx = filtered.norm.shape
    ys = slice(max(int(np.ceil(y - reach)), 1), min(int(y + reach) + 1, ny - 1))
    xs = slice(max(int(np.ceil(x - reach)), 1), min(int(x + reach) + 1, nx - 1))
    if ys.stop <= ys.start or xs.stop <= xs.start:
        return None
    dy, dx = np.mgrid[ys, xs] - np.array([y, x])[:, None, None]
    radius = np.hypot(dx, dy)
    rows, columns = np.nonzero((radius >= inner) & (radius < reach) & (filtered.norm[ys, xs] > 0))
    if rows.size < MIN_PIXELS:
        return None
    radius, angle = radius[rows, columns], np.arctan2(dy[rows, columns], dx[rows, columns]) % (2.0 * np.pi)
    rows, columns = rows + ys.start, columns + xs.start
    variance, significance = measured_at(filtered, rows, columns, errors)
    return Surroundings(rows, columns, radius, angle, variance, np.abs(significance))


def measured_at(
    filtered: FilteredDifference, rows: IntArray, columns: IntArray, errors: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Return the known variance of a point source's flux at pixels, and the flux over its known error.

    Parameters
    ----------
    filtered
        Filtered difference.
    rows, columns
        (n,) pixels with a flux, not at the image's border.
    errors
        Relative error of the subtracted brightness, error of its position in pixels.
    """
    norm, template = filtered.norm[rows, columns].astype(float), filtered.template_flux
    slope_x = 0.5 * (template[rows, columns + 1] - template[rows, columns - 1])
    slope_y = 0.5 * (template[rows + 1, columns] - template[rows - 1, columns])
    variance = 1.0 / norm + (errors[0] * template[rows, columns]) ** 2 + errors[1] ** 2 * (slope_x**2 + slope_y**2)
    return variance, filtered.numerator[rows, columns] / (norm * np.sqrt(variance))
