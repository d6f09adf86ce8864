"""Sky map as non-overlapping HEALPix pixels of mixed orders, with credible regions.

Positions outside all pixels have zero probability. Multi-order maps follow Fernique et al. 2015 (IVOA MOC); credible
regions are those of highest density, as in Singer & Price 2016 (PRD 93, 024013).
"""

from dataclasses import dataclass
from functools import cached_property

import astropy.units as u
import numpy as np
from astropy_healpix import core as healpix
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DEEPEST_ORDER = 29
"""Highest HEALPix order whose pixel numbers fit 64 bits; used to look up positions."""

SUM_TOLERANCE = 0.01
"""Largest deviation of the sum of a whole map's probabilities from one."""

WHOLE_SKY_DEG2 = 4 * np.pi * np.degrees(1.0) ** 2


@dataclass(frozen=True, eq=False)
class DistanceColumns:
    """Distance along each line of sight: p(r) = norm N(r; mu, sigma) r^2 (Singer et al. 2016, ApJL 829, L15).

    Attributes
    ----------
    mu_mpc, sigma_mpc
        (n,) location and scale; not finite where the map has no distance.
    norm
        (n,) normalisation, 1/Mpc^2.
    """

    mu_mpc: FloatArray
    sigma_mpc: FloatArray
    norm: FloatArray


@dataclass(frozen=True, eq=False)
class SkyMap:
    """Probability over the sky, with or without distance.

    Attributes
    ----------
    order
        (n,) int64, HEALPix order of each pixel.
    pixel
        (n,) int64, nested pixel number at that order; pixels do not overlap and are sorted along the nested curve.
    probability
        (n,) float64, probability in each pixel; sums to one.
    total
        Sum of the probabilities before normalisation.
    distance
        Distance columns, or None.
    name
        Name of the event, or other name in the file.
    mjd
        Time of the event, MJD UTC; NaN if unknown.
    distance_mean_mpc, distance_sigma_mpc
        Distance of the whole map from the file's header; NaN if unknown.
    """

    order: IntArray
    pixel: IntArray
    probability: FloatArray
    total: float = 1.0
    distance: DistanceColumns | None = None
    name: str = ""
    mjd: float = float("nan")
    distance_mean_mpc: float = float("nan")
    distance_sigma_mpc: float = float("nan")

    def notes(self) -> list[str]:
        """Return what a reader of the map must know: a sum of the probabilities that is not one."""
        if abs(self.total - 1.0) <= SUM_TOLERANCE:
            return []
        return [f"the probabilities of the sky map sum to {self.total:.4g}, not one, and were scaled to one"]

    @cached_property
    def _start(self) -> IntArray:
        """First pixel of the deepest order that each pixel contains."""
        return self.pixel << (2 * (DEEPEST_ORDER - self.order))

    @cached_property
    def area_deg2(self) -> FloatArray:
        """(n,) area of each pixel, square degrees."""
        return WHOLE_SKY_DEG2 / (12.0 * 4.0**self.order)

    @cached_property
    def density_per_deg2(self) -> FloatArray:
        """(n,) probability density of each pixel, per square degree."""
        return self.probability / self.area_deg2

    @cached_property
    def _by_density(self) -> IntArray:
        """Pixel indices in order of decreasing density."""
        return np.argsort(-self.density_per_deg2, kind="stable")

    @cached_property
    def credible_level(self) -> FloatArray:
        """(n,) probability of the smallest region of highest density that contains each pixel."""
        level = np.empty_like(self.probability)
        level[self._by_density] = np.minimum(np.cumsum(self.probability[self._by_density]), 1.0)
        return level

    def find(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> IntArray:
        """Return the index of the pixel that contains each position, -1 if there is none.

        Parameters
        ----------
        ra_deg, dec_deg
            (n,) positions, degrees, ICRS. Non-finite positions have no pixel.
        """
        ra, dec = np.broadcast_arrays(np.asarray(ra_deg, dtype=float), np.asarray(dec_deg, dtype=float))
        good = np.isfinite(ra) & np.isfinite(dec)
        deepest = np.full(ra.shape, -1, dtype=np.int64)
        deepest[good] = healpix.lonlat_to_healpix(ra[good] * u.deg, dec[good] * u.deg, 2**DEEPEST_ORDER, order="nested")
        index = np.searchsorted(self._start, deepest, side="right") - 1
        found = np.maximum(index, 0)
        inside = (index >= 0) & (deepest < self._start[found] + (1 << (2 * (DEEPEST_ORDER - self.order[found]))))
        return np.where(inside, index, -1)

    def probability_density(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> FloatArray:
        """Return the (n,) probability density at positions in degrees, per square degree; zero outside the map."""
        index = self.find(ra_deg, dec_deg)
        return np.where(index >= 0, self.density_per_deg2[index], 0.0)

    def credible_level_at(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> FloatArray:
        """Return the (n,) level of the smallest credible region that contains each position; one outside the map."""
        index = self.find(ra_deg, dec_deg)
        return np.where(index >= 0, self.credible_level[index], 1.0)

    def area_at_level_deg2(self, level: float) -> float:
        """Return the area of the smallest region with the probability ``level``, square degrees.

        The last pixel counts by the required fraction.
        """
        probability = np.concatenate(([0.0], np.cumsum(self.probability[self._by_density])))
        area = np.concatenate(([0.0], np.cumsum(self.area_deg2[self._by_density])))
        return float(np.interp(level, probability, area))

    def region(self, level: float) -> IntArray:
        """Return the indices of the pixels of the smallest region with the probability ``level``."""
        return np.flatnonzero(self.credible_level - self.probability < level)

    def centres(self, index: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """Return RA and Dec in degrees of the centres of all or some pixels."""
        chosen = slice(None) if index is None else np.asarray(index)
        ra, dec = healpix.healpix_to_lonlat(self.pixel[chosen], 2 ** self.order[chosen], order="nested")
        return np.asarray(ra.to_value(u.deg)), np.asarray(dec.to_value(u.deg))

    def peak(self) -> tuple[float, float]:
        """Return RA and Dec in degrees of the centre of the densest pixel."""
        ra, dec = self.centres(self._by_density[:1])
        return float(ra[0]), float(dec[0])
