"""Ghosts of bright stars: what a calibration predicts of them, and what rings in the difference show, becomes noise.

Light that the CCD reflects, and then a surface at a distance t in front of it, arrives out of focus: as a donut of
radius t / F at the focal ratio F, displaced by 2 t times the slope of the chief ray, which is proportional to the
distance from the optical axis (geometrical optics; Kent 2013, arXiv:1309.5365). So the donut of radius R of a star at d
from the axis is centred at c R d from the star, with one number c for all surfaces and stars. It is the one for which
rings about these centres are brightest or darkest. The rim of the donut's hole has the same centre and a radius e R, so
that it is found as a ghost of the displacement c / e, in another fit. Radii, edges and brightnesses of the ghosts need
not be known: the typical significance in every ring, and in every piece of it, raises the noise. A template with
another pointing sees the star at another distance from its axis and has the donut elsewhere, so that the rings of every
image are looked at. A calibration predicts the light of every donut, also where rings are too short to show it
(:mod:`imaging.difference.ghost_fit` subtracts what fits); the rings then show what it does not know.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from imaging.difference.detect import BrightStars
from imaging.difference.ghost_model import Ghost
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.star_surroundings import RING_AREA, typical_in_pieces, typical_in_rings
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

RIMS = 2
"""Number of displacements sought, one after the other: that of the outer rims and that of the holes."""

STRIDE, FIT_STRIDE = 3, 6
"""Every so-manieth pixel is measured, and used in the fit."""

CLIP_SIGMA = 5.0
"""Largest significance that counts in the fit: no single source decides."""

PLATEAU = 9
"""Side of the square, in steps of the fit, whose mean is taken out: a donut's hole is not centred as its edge is."""

PIECE_FWHM = 48.0
"""Length of a piece of a ring in FWHM: a transient fills a tenth. Where the search image and a template have the donut
elsewhere, a crescent is left that fills a part of several rings."""

FIT_RINGS = ((10.0, 89), (10.0, 9), (5.0, 9))
"""Width of the rings in pixels and number of displacements tried, coarse to fine. In wider rings a crescent of one sign
and one of the other cancel; neighbouring displacements move the rim of the largest ghost by 24 pixels at first."""

FIT_PEAKS = 2
"""Number of the most significant displacements that are followed from coarse to fine."""

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
        return np.asarray(_radius(ux, uy, dx, dy))


SAME_PLACE = 0.25
"""Distance between ghosts of two images that lie at the same place, FWHM."""


def add_known_ghosts(noise: ResidualNoise, images: Sequence[tuple[float, Iterable[Ghost]]]) -> None:
    """Raise the noise of a difference by the light of known ghosts that is in it, in place.

    A flux gets the flux that the ghosts imitate as an error, and in quadrature what is not known of each. So a faint
    ghost costs nothing, no ghost makes a detection, and where a ghost was subtracted, or those of search image and
    templates cancel, only their uncertainty counts.

    Parameters
    ----------
    noise
        Noise of the difference.
    images
        Weight of the search image (1) and of every template (minus its share of the stack), and the ghosts of each.
    """
    ghosts = [(weight, ghost) for weight, found in images for ghost in found]
    norm = noise.filtered.norm
    if not ghosts or not (norm > 0).any():
        return
    for band in bands(norm.shape[0]):
        light, variance = np.zeros((2, band.stop - band.start, norm.shape[1]))
        for weight, ghost in ghosts:
            if not ghost.subtracted:
                ghost.add_light(light, weight, band.start)
            ghost.add_variance(variance, weight, band.start)
        added = (light**2 + variance) * noise.flux_per_level**2
        rows, columns = np.nonzero((added > 0) & (norm[band] > 0))
        noise.add(rows + band.start, columns, added[rows, columns])


def add_ghosts(noise: ResidualNoise, stars: BrightStars, axes: Sequence[tuple[float, float]]) -> list[GhostGeometry]:
    """Raise the noise of a difference in the ghosts of bright stars by what rings about their centres show, in place.

    Parameters
    ----------
    noise
        Noise of the difference.
    stars
        Stars; also far outside the image.
    axes
        x and y of the optical axis, pixels of the difference, of the search image and of every template.

    Returns
    -------
    geometries
        The fitted geometry of the rims, for every image whose ghosts are elsewhere, the most significant first; none if
        no star is bright enough or no ghost is seen.
    """
    bright = stars.mag < FAINTEST_MAG
    places = list(zip(stars.x[bright].tolist(), stars.y[bright].tolist(), strict=True))
    growth = 10 ** (0.2 * (REACH_MAG - stars.mag[bright]))
    reach = (np.minimum(REACH_ARCSEC * growth, MAX_REACH_ARCSEC) / noise.pixel_scale_arcsec).tolist()
    inner = INNER_ARCSEC / noise.pixel_scale_arcsec
    if not places:
        return []
    geometries: list[GhostGeometry] = []
    for _ in range(RIMS):
        found = _fit(noise, places, reach, axes, inner)
        _raise_ghosts(noise, found, places, reach, inner)
        geometries += found
        if not found:
            break
    return geometries


def _raise_ghosts(
    noise: ResidualNoise,
    geometries: Sequence[GhostGeometry],
    places: Sequence[tuple[float, float]],
    reach: Sequence[float],
    inner: float,
) -> None:
    """Raise the noise in the rings of all stars by their typical significance, and by that of pieces of rings."""
    width = noise.fwhm_pixels
    area = max(RING_AREA * width**2 / STRIDE**2, 1.0)
    for geometry, (star, outer) in itertools.product(geometries, zip(places, reach, strict=True)):
        rows, columns = _sample(noise.filtered.norm, STRIDE)
        dx, dy = columns.astype(float) - star[0], rows.astype(float) - star[1]
        radius = geometry.radius(star, dx, dy)
        inside = (radius > inner) & (radius < outer)
        if not inside.any():
            continue
        rings = _Rings(inner, width, int((outer - inner) / width) + 1)
        _, significance = noise.measured_at(rows[inside], columns[inside])
        ring = rings.ring(radius[inside])
        excess = typical_in_rings(ring, np.abs(significance), area)
        piece = rings.piece(ring, dx[inside], dy[inside])
        found = typical_in_pieces(piece, np.abs(significance) / excess[ring], area)
        factor = np.ones(rings.n_pieces)
        factor[: found.size] = found
        factor[: rings.first[excess.size]] *= np.repeat(excess, rings.number[: excess.size])
        if (factor > 1.0).any():
            _raise_rings(noise, geometry, star, rings, factor)


@dataclass(frozen=True)
class _Rings:
    """Rings about the centres of the ghosts of a star, each cut into pieces.

    ``inner`` is the radius of the first one, ``width`` that of all of them, pixels, ``n_rings`` their number.
    """

    inner: float
    width: float
    n_rings: int

    @cached_property
    def number(self) -> IntArray:
        """(n_rings,) number of the pieces of each."""
        length = 2.0 * np.pi * (self.inner / self.width + np.arange(self.n_rings))
        return np.maximum(length / PIECE_FWHM, 1.0).astype(np.int64)

    @cached_property
    def first(self) -> IntArray:
        """(n_rings + 1,) number of the first piece of each, and that of all pieces."""
        return np.append(0, np.cumsum(self.number))

    @property
    def n_pieces(self) -> int:
        """Number of all pieces."""
        return int(self.first[-1])

    def ring(self, radius: FloatArray) -> IntArray:
        """Return the rings at some radii, which may be too small or too large."""
        return np.floor((radius - self.inner) / self.width).astype(np.int64)

    def piece(self, ring: IntArray, dx: FloatArray, dy: FloatArray) -> IntArray:
        """Return the pieces of rings at some distances from the star."""
        turn = np.arctan2(dy, dx) / (2.0 * np.pi) + 0.5
        within = (turn * self.number[ring]).astype(np.int64)
        return self.first[ring] + np.minimum(within, self.number[ring] - 1)


def _raise_rings(
    noise: ResidualNoise, geometry: GhostGeometry, star: tuple[float, float], rings: _Rings, factor: FloatArray
) -> None:
    """Raise the noise by a factor in each piece; in bands, so that no further image is in memory."""
    norm = noise.filtered.norm
    ny, nx = norm.shape
    raised = np.maximum.reduceat(factor, rings.first[:-1]) > 1.0
    for band in bands(ny - 2):
        dy, dx = np.mgrid[band.start + 1 : band.stop + 1, 1 : nx - 1]
        ring = rings.ring(geometry.radius(star, dx - star[0], dy - star[1]))
        in_rings = (ring >= 0) & (ring < rings.n_rings) & (norm[dy, dx] > 0)
        in_rings[in_rings] = raised[ring[in_rings]]
        rows, columns = dy[in_rings], dx[in_rings]
        own = factor[rings.piece(ring[in_rings], columns.astype(float) - star[0], rows.astype(float) - star[1])]
        noise.multiply(rows, columns, own)


def _fit(
    noise: ResidualNoise,
    places: Sequence[tuple[float, float]],
    reach: Sequence[float],
    axes: Sequence[tuple[float, float]],
    inner: float,
) -> list[GhostGeometry]:
    """Find the displacement for which rings about the ghosts' centres are most significant; empty if none is."""
    rows, columns = _sample(noise.filtered.norm, FIT_STRIDE)
    significance = _without_plateaus(noise, rows, columns)
    farthest = max(*(math.dist(place, axes[0]) for place in places), 1.0)
    step, sigma = 2.0 * LARGEST_SHIFT / farthest, 0.0
    apart = _apart(axes, SAME_PLACE * noise.fwhm_pixels / (max(reach) * 0.5 * step))
    samples = []
    for star, outer in zip(places, reach, strict=True):
        dx, dy = columns - star[0], rows - star[1]
        distance = np.hypot(dx, dy)
        near = (distance > inner) & (distance < outer)  # the same pixels for every displacement
        if near.any():
            samples += [(axis, star, dx[near], dy[near], significance[near]) for axis in apart]
    peaks = [0.0]
    for width, number in FIT_RINGS:
        tried = np.add.outer(peaks, step * np.linspace(-0.5, 0.5, number)).ravel()
        gains = np.array([_gain(float(c), samples, width) for c in tried])
        around = np.pad(gains, 1, constant_values=-np.inf)
        highest = np.flatnonzero((gains >= around[:-2]) & (gains >= around[2:]))
        highest = highest[np.argsort(-gains[highest])][:FIT_PEAKS]
        peaks, sigma = tried[highest].tolist(), float(gains[highest[0]])
        step = 3.0 * step / (number - 1)
    if sigma < LEAST_SIGMA:
        return []
    best = peaks[0]
    apart = _apart(axes, SAME_PLACE * noise.fwhm_pixels / (max(reach) * max(abs(best), 1e-9)))
    return [GhostGeometry(axis, best) for axis in apart]


def _apart(axes: Sequence[tuple[float, float]], least: float) -> list[tuple[float, float]]:
    """Return the axes without those that are nearer than ``least`` pixels to an earlier one."""
    found: list[tuple[float, float]] = []
    for axis in axes:
        if all(math.dist(axis, other) > least for other in found):
            found.append(axis)
    return found


def _without_plateaus(noise: ResidualNoise, rows: IntArray, columns: IntArray) -> FloatArray:
    """Return the significance at pixels without its mean around them, so that outer edges of donuts count most."""
    _, significance = noise.measured_at(rows, columns)
    at = (rows // FIT_STRIDE, columns // FIT_STRIDE)
    plane, share = np.zeros((2, at[0].max() + 1, at[1].max() + 1))
    plane[at], share[at] = np.clip(significance, -CLIP_SIGMA, CLIP_SIGMA), 1.0
    mean = uniform_filter(plane, PLATEAU) / np.maximum(uniform_filter(share, PLATEAU), 1e-3)
    return plane[at] - mean[at]


def _gain(
    displacement: float,
    samples: list[tuple[tuple[float, float], tuple[float, float], FloatArray, FloatArray, FloatArray]],
    width: float,
) -> float:
    """Return by how many sigma the chi-square of the rings' means exceeds that of noise."""
    chi2, rings = 0.0, 0
    for axis, star, dx, dy, significance in samples:
        count, total = _ring_sums(GhostGeometry(axis, displacement).radius(star, dx, dy), width, significance)
        chi2 += float(np.sum(total[count > 0] ** 2 / count[count > 0]))
        rings += int(np.count_nonzero(count))
    return (chi2 - rings) / np.sqrt(2.0 * max(rings, 1))


@njit(cache=True)
def _radius(ux: float, uy: float, dx: FloatArray, dy: FloatArray) -> FloatArray:
    along, rest = ux * dx + uy * dy, 1.0 - ux**2 - uy**2
    return (np.sqrt(along**2 + rest * (dx**2 + dy**2)) - along) / rest


@njit(cache=True)
def _ring_sums(radius: FloatArray, width: float, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the number of the points in every ring, and the sum of their values."""
    count, total = np.zeros((2, int(radius.max() / width) + 1))
    for k in range(radius.size):
        ring = int(radius[k] / width)
        count[ring] += 1.0
        total[ring] += values[k]
    return count, total


def _sample(norm: FloatImage, stride: int) -> tuple[IntArray, IntArray]:
    """Return rows and columns of every so-manieth pixel that has a flux."""
    rows, columns = np.nonzero(norm[1:-1:stride, 1:-1:stride] > 0)
    return rows * stride + 1, columns * stride + 1
