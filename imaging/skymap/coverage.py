"""Coverage of a sky map by a night: searched probability and area, depth, detection probability of sources.

Footprints are sampled on a fine HEALPix grid. A source of a given magnitude is detected in an exposure with the
efficiency measured by the fakes: a Gaussian integral about the CCD's m50, with the width and maximum of the efficiency
of its fakes. Exposures are assumed independent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy_healpix import core as healpix
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from imaging.skymap.distance import conditional_distance
from imaging.skymap.footprints import Footprints, inside, known_or
from imaging.skymap.model import WHOLE_SKY_DEG2, FloatArray, IntArray, SkyMap
from imaging.skymap.settings import CoverageSettings

FOOTPRINTS_AT_ONCE = 2000
"""Number of footprints sampled on the grid together, which limits the memory to some 200 MB."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """The searched part of a sky map.

    Attributes
    ----------
    pixel
        (p,) numbers of the covered grid pixels, nested, at the order of the settings.
    ra_deg, dec_deg
        (p,) centres of these pixels.
    probability
        (p,) probability of the map in each.
    area_deg2
        Area of one grid pixel.
    pair_pixel, pair_footprint
        (k,) pairs of grid pixel and footprint (index into ``footprints``) that covers it.
    footprints
        The CCD images.
    distance_mpc, distance_sigma_mpc
        (p,) distance of the map in the pixel; NaN if it has none.
    settings
        Settings used.
    """

    pixel: IntArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    probability: FloatArray
    area_deg2: float
    pair_pixel: IntArray
    pair_footprint: IntArray
    footprints: Footprints
    distance_mpc: FloatArray
    distance_sigma_mpc: FloatArray
    settings: CoverageSettings

    @property
    def probability_searched(self) -> float:
        """Probability of the map covered by at least one CCD."""
        return float(self.probability.sum())

    @property
    def area_searched_deg2(self) -> float:
        """Area covered by at least one CCD, square degrees."""
        return self.area_deg2 * len(self.probability)

    def depth_mag(self, band: str) -> FloatArray:
        """Return the (p,) faintest m50 in a band over the grid pixels; NaN if the band was not observed."""
        depth = np.full(len(self.probability), -np.inf)
        chosen = (self.footprints.band[self.pair_footprint] == band) & np.isfinite(
            self.footprints.m50_mag[self.pair_footprint]
        )
        np.maximum.at(depth, self.pair_pixel[chosen], self.footprints.m50_mag[self.pair_footprint[chosen]])
        return np.where(np.isfinite(depth), depth, np.nan)

    def depth_at(self, ra_deg: FloatArray, dec_deg: FloatArray, band: str) -> FloatArray:
        """Return the faintest m50 in a band at positions; NaN if the band was not observed, or off the sphere."""
        ra, dec = np.radians(np.ravel(ra_deg)), np.radians(np.ravel(dec_deg))
        known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        wanted = _healpix_of(ra[known], dec[known], self.settings.order)
        place = np.minimum(np.searchsorted(self.pixel, wanted), max(len(self.pixel) - 1, 0))
        depth = np.full(ra.size, np.nan)
        if len(self.pixel):
            here = self.pixel[place] == wanted
            depth[known[here]] = self.depth_mag(band)[place[here]]
        return depth

    def probability_found(self, magnitudes: Mapping[str, float]) -> float:
        """Return the probability that a source anywhere in the map would have been detected.

        Parameters
        ----------
        magnitudes
            Apparent magnitude by band; exposures in other bands do not count.

        Returns
        -------
        probability
            For the whole map; unsearched parts count as not detected.
        """
        return float(np.sum(self.probability * self._found_per_pixel(self._magnitude_of_pairs(magnitudes))))

    def probability_found_absolute(self, magnitudes: Mapping[str, float], *, steps: int = 21) -> float:
        """Return the detection probability for given absolute magnitudes at the map's distance in each direction.

        Parameters
        ----------
        magnitudes
            Absolute magnitude by band.
        steps
            Number of distances that sample the distribution in each direction, at equal probability of a Gaussian.

        Returns
        -------
        probability
            NaN if the map has no distances; directions without a distance count as not detected.
        """
        by_footprint = np.array([magnitudes.get(str(band), np.inf) for band in self.footprints.band])
        return self.probability_found_footprints(by_footprint, steps=steps)

    def probability_found_footprints(self, absolute_mag: FloatArray, *, steps: int = 21) -> float:
        """Return the detection probability for a source whose brightness changes with time.

        Parameters
        ----------
        absolute_mag
            (n,) absolute magnitude in the band and at the time of each footprint; infinite if there is no source.
        steps
            As for :meth:`probability_found_absolute`.

        Returns
        -------
        probability
            NaN if the map has no distances; directions without a distance count as not detected.
        """
        known = np.isfinite(self.distance_mpc)
        if not known.any():
            return float("nan")
        absolute = np.asarray(absolute_mag, dtype=float)[self.pair_footprint]
        found = np.zeros(len(self.probability))
        for quantile in ndtri((np.arange(steps) + 0.5) / steps):
            distance = np.where(known, np.maximum(self.distance_mpc + quantile * self.distance_sigma_mpc, 0.1), np.inf)
            apparent = absolute + (5 * np.log10(distance) + 25)[self.pair_pixel]
            found += self._found_per_pixel(apparent) / steps
        return float(np.sum(self.probability * found))

    def _magnitude_of_pairs(self, magnitudes: Mapping[str, float]) -> FloatArray:
        by_footprint = np.array([magnitudes.get(str(band), np.inf) for band in self.footprints.band])
        return by_footprint[self.pair_footprint]

    def _found_per_pixel(self, magnitude: FloatArray) -> FloatArray:
        """Return the (p,) probability of detection in enough exposures, given the (k,) magnitude in each pair."""
        n = len(self.footprints)
        width = known_or(self.footprints.width_mag, self.settings.efficiency_width_mag, n)
        highest = known_or(self.footprints.efficiency_max, self.settings.efficiency_plateau, n)
        usable = np.isfinite(self.footprints.m50_mag[self.pair_footprint]) & np.isfinite(magnitude)
        image = self.pair_footprint[usable]
        depth = (self.footprints.m50_mag[image] - magnitude[usable]) / width[image]
        efficiency = highest[image] * ndtr(depth)
        return at_least(self.settings.detections_required, self.pair_pixel[usable], efficiency, len(self.probability))


def at_least(required: int, group: IntArray, chance: FloatArray, n_groups: int) -> FloatArray:
    """Return the (n_groups,) probability of at least ``required`` successes among independent trials.

    Parameters
    ----------
    required
        Number of successes required.
    group
        (k,) group of each trial.
    chance
        (k,) success probability of each trial.
    n_groups
        Number of groups.
    """
    if required == 1:
        with np.errstate(divide="ignore"):
            missed = np.bincount(group, np.log1p(-chance), minlength=n_groups)
        return -np.expm1(missed)
    exactly = np.zeros((required, n_groups))
    exactly[0] = 1.0
    order = np.argsort(group, kind="stable")
    group, chance = group[order], chance[order]
    place = np.arange(len(group)) - np.searchsorted(group, group)
    for turn in range(int(place.max()) + 1 if len(place) else 0):
        now = place == turn
        where, p = group[now], chance[now]
        for successes in range(required - 1, 0, -1):
            exactly[successes, where] = exactly[successes, where] * (1 - p) + exactly[successes - 1, where] * p
        exactly[0, where] *= 1 - p
    return 1.0 - exactly.sum(axis=0)


def search_coverage(skymap: SkyMap, footprints: Footprints, settings: CoverageSettings) -> Coverage:
    """Compute the coverage of a sky map by a set of CCD images.

    Parameters
    ----------
    skymap
        Sky map.
    footprints
        CCD images of the night.
    settings
        Grid and efficiency.
    """
    pairs = [
        _pixels_inside(footprints, slice(first, first + FOOTPRINTS_AT_ONCE), settings.order)
        for first in range(0, len(footprints), FOOTPRINTS_AT_ONCE)
    ]
    nothing = np.empty(0, dtype=np.int64)
    pair_footprint = np.concatenate([pair[0] for pair in pairs]) if pairs else nothing
    healpix_pixel = np.concatenate([pair[1] for pair in pairs]) if pairs else nothing
    pixels, pair_pixel = np.unique(healpix_pixel, return_inverse=True)
    ra, dec = (a.to_value("deg") for a in healpix.healpix_to_lonlat(pixels, 2**settings.order, order="nested"))
    area = WHOLE_SKY_DEG2 / (12 * 4**settings.order)
    mean, sigma = conditional_distance(skymap, ra, dec)
    probability = skymap.probability_density(ra, dec) * area
    return Coverage(pixels, ra, dec, probability, area, pair_pixel, pair_footprint, footprints, mean, sigma, settings)


def _pixels_inside(footprints: Footprints, chosen: slice, order: int) -> tuple[IntArray, IntArray]:
    """Return (footprint, HEALPix pixel) of all grid pixels whose centre is inside a footprint.

    Points spaced finer than the grid, over a slightly enlarged footprint, give the pixels to test.
    """
    vectors = footprints.corner_vectors()[chosen]
    pixel_size = np.sqrt(WHOLE_SKY_DEG2 / (12 * 4**order))
    sides = np.degrees(np.linalg.norm(np.roll(vectors, -1, axis=1) - vectors, axis=2)).max(axis=0)
    margin = 1.5 * pixel_size
    across = _points(max(sides[0], sides[2]), margin, pixel_size)
    along = _points(max(sides[1], sides[3]), margin, pixel_size)
    weights = np.stack(
        [
            np.outer(1 - along, 1 - across),
            np.outer(1 - along, across),
            np.outer(along, across),
            np.outer(along, 1 - across),
        ],
        axis=-1,
    ).reshape(-1, 4)
    points = np.einsum("pc,ncx->npx", weights, vectors)
    dec = np.arctan2(points[..., 2], np.hypot(points[..., 0], points[..., 1]))
    ra = np.arctan2(points[..., 1], points[..., 0])
    pixel = _healpix_of(ra, dec, order)
    number = np.broadcast_to(np.arange(len(vectors))[:, None], pixel.shape)
    pairs = np.unique(number.ravel() * np.int64(12 * 4**order) + pixel.ravel())
    footprint, pixel = np.divmod(pairs, np.int64(12 * 4**order))
    x, y, z = healpix.healpix_to_xyz(pixel, 2**order, order="nested")
    kept = inside(vectors[footprint], np.stack([x, y, z], axis=-1))
    return footprint[kept] + (chosen.start or 0), pixel[kept]


def _points(side_deg: float, margin_deg: float, pixel_deg: float) -> FloatArray:
    """Return fractions along a side, extending past its ends, spaced by less than half a pixel."""
    edge = margin_deg / side_deg
    return np.linspace(-edge, 1 + edge, int(np.ceil(side_deg * (1 + 2 * edge) / (0.5 * pixel_deg))) + 1)


def _healpix_of(ra_rad: FloatArray, dec_rad: FloatArray, order: int) -> NDArray[np.int64]:
    return healpix.lonlat_to_healpix(ra_rad * u.rad, dec_rad * u.rad, 2**order, order="nested")
