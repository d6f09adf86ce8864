"""Ghosts of bright stars: their geometry is fitted to the difference, and what they leave becomes noise.

Light that the CCD reflects, and then a surface at a distance t in front of it, arrives out of focus: as a donut of
radius t / F at the focal ratio F, displaced by 2 t times the slope of the chief ray, which is proportional to the
distance from the optical axis (geometrical optics; Kent 2013, arXiv:1309.5365). So the donut of radius R of a star at d
from the axis is centred at c R d from the star, with one number c for all surfaces and stars. It is the one for which
rings about these centres are brightest or darkest. Radii, edges and brightnesses of the ghosts need not be known: the
typical significance in every ring raises the noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from imaging.difference.filter import FilteredDifference
from imaging.difference.star_surroundings import RING_AREA, measured_at, raise_noise, typical_in_rings
from imaging.difference.tiles import bands
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FAINTEST_MAG = 9.0
"""Faintest star whose ghosts are sought."""

REACH_ARCSEC, REACH_MAG, MAX_REACH_ARCSEC = 370.0, 5.5, 400.0
"""Radius of the largest ghost of a star of that magnitude, and of any star. It grows with the root of the flux, which
keeps the surface brightness."""

INNER_ARCSEC = 15.0
"""Smallest radius of a ghost; nearer to the star is its own light."""

LARGEST_SHIFT = 0.7
"""Largest displacement of a ghost in units of its radius, at the star that is farthest from the axis."""

STRIDE, FIT_STRIDE = 3, 6
"""Every so-manieth pixel is measured, and used in the fit."""

CLIP_SIGMA = 5.0
"""Largest significance that counts in the fit: no single source decides."""

PLATEAU = 9
"""Side of the square, in steps of the fit, whose mean is taken out: a donut's hole is not centred as its edge is."""

FIT_RINGS = ((24.0, 33), (10.0, 9), (5.0, 9))
"""Width of the rings in pixels and number of displacements tried, coarse to fine."""

LEAST_SIGMA = 10.0
"""Least significance of the rings, in units of the scatter of their chi-square."""


@dataclass(frozen=True, eq=False)
class GhostGeometry:
    """Where the ghosts of stars are.

    Attributes
    ----------
    axis
        x and y of the optical axis, pixels of this CCD.
    displacement
        Displacement per radius of the ghost and per pixel of distance from the axis.
    """

    axis: tuple[float, float]
    displacement: float

    def radius(self, star: tuple[float, float], dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the radius of the ghost whose ring goes through points.

        Parameters
        ----------
        star
            x and y of the star, pixels.
        dx, dy
            (n,) distances of the points from the star, pixels.
        """
        ux, uy = (self.displacement * (star[k] - self.axis[k]) for k in range(2))
        along, rest = ux * dx + uy * dy, 1.0 - ux**2 - uy**2
        return (np.sqrt(along**2 + rest * (dx**2 + dy**2)) - along) / rest


def add_ghosts(
    filtered: FilteredDifference,
    weight: FloatImage,
    stars: tuple[FloatArray, FloatArray, FloatArray],
    errors: tuple[float, float],
    axis: tuple[float, float],
    fwhm_pixels: float,
    pixel_scale_arcsec: float,
) -> GhostGeometry | None:
    """Raise the noise of a filtered difference and of its pixels in the ghosts of bright stars, in place.

    Parameters
    ----------
    filtered
        Filtered difference; its norm decreases, and its numerator with it, so that the fluxes stay.
    weight
        (ny, nx) float32, inverse variance of the whitened difference.
    stars
        x, y in pixels and magnitude, (n,) each; also far outside the image.
    errors
        Relative error of the subtracted brightness, error of its position in pixels: what is known already.
    axis
        x and y of the optical axis, pixels.
    fwhm_pixels
        Width of the PSF.
    pixel_scale_arcsec
        Side of a pixel.

    Returns
    -------
    geometry
        The fitted geometry; None if no star is bright enough or no ghost is seen.
    """
    bright = stars[2] < FAINTEST_MAG
    places = list(zip(stars[0][bright].tolist(), stars[1][bright].tolist(), strict=True))
    growth = 10 ** (0.2 * (REACH_MAG - stars[2][bright]))
    reach = (np.minimum(REACH_ARCSEC * growth, MAX_REACH_ARCSEC) / pixel_scale_arcsec).tolist()
    inner = INNER_ARCSEC / pixel_scale_arcsec
    geometry = _fit(filtered, places, reach, errors, axis, inner)
    if geometry is None:
        return None
    pixel = float(np.median(np.sum(filtered.psf_stamps**2, axis=(2, 3))))
    area = max(RING_AREA * fwhm_pixels**2 / STRIDE**2, 1.0)
    for star, outer in zip(places, reach, strict=True):
        rows, columns = _sample(filtered.norm, STRIDE)
        radius = geometry.radius(star, columns - star[0], rows - star[1])
        inside = (radius > inner) & (radius < outer)
        if not inside.any():
            continue
        _, significance = measured_at(filtered, rows[inside], columns[inside], errors)
        ring = ((radius[inside] - inner) / fwhm_pixels).astype(np.int64)
        excess = typical_in_rings(ring, np.abs(significance), area)
        if (excess > 1.0).any():
            _raise_rings(filtered, weight, geometry, star, errors, (inner, fwhm_pixels, pixel), excess)
    return geometry


def _raise_rings(
    filtered: FilteredDifference,
    weight: FloatImage,
    geometry: GhostGeometry,
    star: tuple[float, float],
    errors: tuple[float, float],
    rings: tuple[float, float, float],
    excess: FloatArray,
) -> None:
    """Raise the noise in the rings of one star by their excess; in bands, so that no further image is in memory."""
    ny, nx = filtered.norm.shape
    inner, width, pixel = rings
    for band in bands(ny - 2):
        dy, dx = np.mgrid[band.start + 1 : band.stop + 1, 1 : nx - 1]
        ring = np.floor((geometry.radius(star, dx - star[0], dy - star[1]) - inner) / width).astype(np.int64)
        factor = np.where((ring >= 0) & (ring < excess.size), excess[np.clip(ring, 0, excess.size - 1)], 1.0)
        more = (factor > 1.0) & (filtered.norm[dy, dx] > 0)
        rows, columns = dy[more], dx[more]
        variance, _ = measured_at(filtered, rows, columns, errors)
        raise_noise(filtered, weight, rows, columns, (factor[more] ** 2 - 1.0) * variance, pixel)


def _fit(
    filtered: FilteredDifference,
    places: list[tuple[float, float]],
    reach: list[float],
    errors: tuple[float, float],
    axis: tuple[float, float],
    inner: float,
) -> GhostGeometry | None:
    """Find the displacement for which rings about the ghosts' centres are most significant; None if none is."""
    if not places:
        return None
    rows, columns = _sample(filtered.norm, FIT_STRIDE)
    significance = _without_plateaus(filtered, rows, columns, errors)
    samples = []
    for star, outer in zip(places, reach, strict=True):
        dx, dy = columns - star[0], rows - star[1]
        distance = np.hypot(dx, dy)
        near = (distance > inner) & (distance < outer)  # the same pixels for every displacement
        samples.append((star, dx[near], dy[near], significance[near]))
    farthest = max(float(np.hypot(x - axis[0], y - axis[1])) for x, y in places)
    best, step, sigma = 0.0, 2.0 * LARGEST_SHIFT / max(farthest, 1.0), 0.0
    for width, number in FIT_RINGS:
        tried = best + step * np.linspace(-0.5, 0.5, number)
        gains = [_gain(GhostGeometry(axis, float(c)), samples, width) for c in tried]
        best, sigma = float(tried[int(np.argmax(gains))]), max(gains)
        step = 3.0 * step / (number - 1)
    return GhostGeometry(axis, best) if sigma > LEAST_SIGMA else None


def _without_plateaus(
    filtered: FilteredDifference, rows: IntArray, columns: IntArray, errors: tuple[float, float]
) -> FloatArray:
    """Return the significance at pixels without its mean around them, so that outer edges of donuts count most."""
    _, significance = measured_at(filtered, rows, columns, errors)
    at = (rows // FIT_STRIDE, columns // FIT_STRIDE)
    plane, share = np.zeros((2, at[0].max() + 1, at[1].max() + 1))
    plane[at], share[at] = np.clip(significance, -CLIP_SIGMA, CLIP_SIGMA), 1.0
    mean = uniform_filter(plane, PLATEAU) / np.maximum(uniform_filter(share, PLATEAU), 1e-3)
    return plane[at] - mean[at]


def _gain(
    geometry: GhostGeometry,
    samples: list[tuple[tuple[float, float], FloatArray, FloatArray, FloatArray]],
    width: float,
) -> float:
    """Return by how many sigma the chi-square of the rings' means exceeds that of noise."""
    chi2, rings = 0.0, 0
    for star, dx, dy, significance in samples:
        ring = (geometry.radius(star, dx, dy) / width).astype(np.int64)
        count = np.bincount(ring)
        total = np.bincount(ring, weights=significance)
        chi2 += float(np.sum(total[count > 0] ** 2 / count[count > 0]))
        rings += int(np.count_nonzero(count))
    return (chi2 - rings) / np.sqrt(2.0 * max(rings, 1))


def _sample(norm: FloatImage, stride: int) -> tuple[IntArray, IntArray]:
    """Return rows and columns of every so-manieth pixel that has a flux."""
    rows, columns = np.nonzero(norm[1:-1:stride, 1:-1:stride] > 0)
    return rows * stride + 1, columns * stride + 1
