"""Fields of the camera over the region of a sky map, ranked by the probability that can be searched.

A place can be searched where a template covers it. Fields are chosen one after the other, each where it adds most
searchable probability to those before it, so that nothing is counted twice.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy_healpix import core as healpix
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.detector.ccds import FIELD_RADIUS_DEG, NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.skymap.footprints import Footprints, covering
from imaging.skymap.model import SkyMap
from imaging.wcs.sphere import footprint, separation_deg, unit_vectors

FloatArray = NDArray[np.float64]

ROW_DEG, COLUMN_DEG = 1.65, 1.95
"""Distances of neighbouring fields of the tiling in declination and along it: adjacent fields overlap a little."""

SAME_DEG = 0.15
"""Distance within which a field of the tiling gives way to one that has templates."""

MIN_NEW = 0.3
"""Fraction of the probability inside a field's CCDs that no field before it covers, at least."""

ORDER = 10
"""HEALPix order of the points of the region, 3.4 arcmin: a dozen per CCD."""

MOST_POINTS = 400_000
"""Points above which a coarser order is taken."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the camera.

    Attributes
    ----------
    ra_deg, dec_deg
        Its centre.
    probability
        Probability inside its CCDs that no field before it covers.
    searchable
        The part of it with a template, by band.
    n_ccds
        Working CCDs.
    n_covered
        CCDs with a template over at least half of their area, by band.
    """

    ra_deg: float
    dec_deg: float
    probability: float
    searchable: Mapping[str, float]
    n_ccds: int
    n_covered: Mapping[str, int]

    @property
    def merit(self) -> float:
        """Searchable probability, mean of the bands."""
        return sum(self.searchable.values()) / max(len(self.searchable), 1)


@dataclass(frozen=True, eq=False)
class Region:
    """Points of the credible region of a sky map: positions, degrees, and probability of each, (m,)."""

    ra_deg: FloatArray
    dec_deg: FloatArray
    probability: FloatArray


def region_points(skymap: SkyMap, level: float) -> Region:
    """Return points of one size over the region of a sky map with a probability ``level``."""
    chosen = skymap.region(level)
    order, pixel = skymap.order[chosen], skymap.pixel[chosen]
    total = np.sum(4.0 ** np.maximum(ORDER - order, 0))
    common = ORDER
    while total > MOST_POINTS and common > 6:
        common -= 1
        total = np.sum(4.0 ** np.maximum(common - order, 0))
    ids: list[NDArray[np.int64]] = []
    for level_of in np.unique(order):
        own = pixel[order == level_of]
        shift = 2 * int(common - level_of)
        if shift >= 0:
            ids.append(((own << shift)[:, None] + np.arange(1 << shift)).ravel())
        else:
            ids.append(own >> -shift)
    points = np.unique(np.concatenate(ids))
    ra, dec = (angle.to_value("deg") for angle in healpix.healpix_to_lonlat(points, 2**common, order="nested"))
    density = skymap.probability_density(ra, dec)
    area = 4.0 * np.pi * np.degrees(1.0) ** 2 / (12.0 * 4.0**common)
    return Region(np.asarray(ra), np.asarray(dec), density * area)


def tiling(region: Region, known: Sequence[tuple[float, float]] = ()) -> list[tuple[float, float]]:
    """Return centres of fields that cover a region: those known, and a tiling of the rest of the sky.

    Parameters
    ----------
    region
        The region.
    known
        Centres (RA, Dec) of fields that have templates, degrees; those that do not touch the region are left out.
    """
    centres = [(ra % 360.0, dec) for ra, dec in known]
    for row, dec in enumerate(np.arange(-90.0 + ROW_DEG / 2.0, 90.0, ROW_DEG)):
        n = max(int(np.ceil(360.0 * np.cos(np.radians(dec)) / COLUMN_DEG)), 1)
        for ra in (np.arange(n) + 0.5 * (row % 2)) * 360.0 / n:
            centres.append((float(ra), float(dec)))  # noqa: PERF401 (two loops)
    ra, dec = np.array(centres).T
    touches = _distance_to(region, ra, dec) <= FIELD_RADIUS_DEG
    chosen: list[tuple[float, float]] = []
    for place in np.flatnonzero(touches):
        near = chosen and np.min(separation_deg(ra[place], dec[place], *np.array(chosen).T)) < SAME_DEG
        if not near:
            chosen.append((float(ra[place]), float(dec[place])))
    return chosen


def choose_fields(
    region: Region,
    centres: Sequence[tuple[float, float]],
    ccds: Sequence[int],
    templates: Mapping[str, Footprints],
    most: int,
) -> list[Field]:
    """Return fields in order of the searchable probability that each adds, the best first.

    Fields without templates follow, by probability.

    Parameters
    ----------
    region
        The region.
    centres
        Centres of candidate fields, degrees.
    ccds
        Working CCDs.
    templates
        Band to the CCD images of eligible templates.
    most
        Largest number of fields.
    """
    if not centres or not len(region.probability):
        return []
    n_ccds = len(ccds)
    tiles = _footprints(centres, ccds)
    tile, point = covering(tiles, region.ra_deg, region.dec_deg)
    field = tile // n_ccds
    covered = {band: np.zeros(len(region.probability), dtype=bool) for band in templates}
    for band, images in templates.items():
        covered[band][covering(images, region.ra_deg, region.dec_deg)[1]] = True
    share = np.mean([covered[band] for band in covered], axis=0) if covered else np.zeros(len(region.probability))
    first = np.searchsorted(field, np.arange(len(centres) + 1))
    own = [np.unique(point[a:b]) for a, b in itertools.pairwise(first)]
    left = region.probability.copy()
    chosen: list[Field] = []
    least = [MIN_NEW * float(np.sum(region.probability[inside])) for inside in own]
    open_fields = [number for number in range(len(centres)) if own[number].size]
    while open_fields and len(chosen) < most:
        searchable = left * share
        gains = [(float(searchable[own[n]].sum()), float(left[own[n]].sum()), -n) for n in open_fields]
        gains = [gain for gain in gains if gain[1] > 0.0 and gain[1] >= least[-gain[2]]]
        if not gains:
            break
        _, probability, number = max(gains)
        number = -number
        inside = own[number]
        parts = slice(first[number], first[number + 1])
        n_covered = {band: _n_covered(tile[parts], covered[band][point[parts]]) for band in covered}
        by_band = {band: float(np.sum(left[inside] * covered[band][inside])) for band in covered}
        chosen.append(Field(*centres[number], probability, by_band, n_ccds, n_covered))
        left[inside] = 0.0
        open_fields.remove(number)
    return chosen


def _footprints(centres: Sequence[tuple[float, float]], ccds: Sequence[int]) -> Footprints:
    """Return the nominal CCD images of fields, those of a field one after the other."""
    corners = np.array([footprint(seed_wcs(ccd, ra, dec), NX, NY) for ra, dec in centres for ccd in ccds])
    n = len(corners)
    return Footprints(
        expnum=np.repeat(np.arange(len(centres)), len(ccds)),
        ccd=np.tile(np.asarray(ccds), len(centres)),
        band=np.full(n, ""),
        mjd=np.zeros(n),
        corners=corners,
        m50_mag=np.full(n, np.nan),
    )


def _n_covered(tile: NDArray[np.int64], covered: NDArray[np.bool_]) -> int:
    """Return how many CCDs have templates over at least half of their points."""
    if tile.size == 0:
        return 0
    number = tile - tile.min()
    total = np.bincount(number)
    with_template = np.bincount(number, weights=covered)
    return int(np.sum(with_template[total > 0] >= 0.5 * total[total > 0]))


def _distance_to(region: Region, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return the distance of positions from the nearest point of a region, degrees."""
    chord, _ = cKDTree(unit_vectors(region.ra_deg, region.dec_deg)).query(unit_vectors(ra_deg, dec_deg))
    return np.degrees(2.0 * np.arcsin(np.minimum(np.asarray(chord) / 2.0, 1.0)))
