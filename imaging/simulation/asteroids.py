"""Simulated asteroids: a new set every night, in uniform motion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.simulation.streams import random_stream
from imaging.wcs.tpv import plane_to_sky

FloatArray = NDArray[np.float64]

BRIGHTEST_MAG, FAINTEST_MAG = 17.5, 23.5
COUNT_SLOPE = 0.35
"""Slope of log10(counts per magnitude)."""

_SOLAR_MINUS_I = {"u": 2.1, "g": 0.62, "r": 0.14, "i": 0.0, "z": -0.02, "Y": -0.04, "VR": 0.36}
"""Colours of reflected sunlight: AB magnitude minus i."""

ALL_RATES_ARCSEC_H = (1.0, 2000.0)
"""Slowest and fastest motion; the distribution is uniform in the logarithm."""

FAST_SHARE = 0.1
"""Fraction of near-Earth objects, which leave trails."""


@dataclass(frozen=True, eq=False)
class Asteroids:
    """The asteroids of one night; all arrays have length n.

    Attributes
    ----------
    source_id
        Identifier.
    night
        The night, the same for all.
    field_ra, field_dec
        Tangent point of the coordinates below, degrees.
    mjd
        Time of the positions, MJD UTC.
    xi, eta
        Position at that time, degrees to the east and to the north of the tangent point.
    rate_east, rate_north
        Motion, arcseconds per hour.
    mag_i
        Magnitude in i.
    """

    source_id: NDArray[np.int64]
    night: int
    field_ra: float
    field_dec: float
    mjd: float
    xi: FloatArray
    eta: FloatArray
    rate_east: FloatArray
    rate_north: FloatArray
    mag_i: FloatArray

    def position(self, mjd: float) -> tuple[FloatArray, FloatArray]:
        """Return RA and Dec at a given time, degrees."""
        everything = np.arange(len(self.mag_i))
        return self.position_of(everything, np.full(len(everything), (mjd - self.mjd) * 24.0))

    def position_of(self, which: NDArray[np.intp], hours: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return RA and Dec (degrees) of chosen asteroids, each at its own time in hours since :attr:`mjd`."""
        xi = self.xi[which] + self.rate_east[which] * hours / 3600.0
        eta = self.eta[which] + self.rate_north[which] * hours / 3600.0
        return plane_to_sky(xi, eta, self.field_ra, self.field_dec)

    def magnitude(self, band: str) -> FloatArray:
        """Return AB magnitudes in a band."""
        return self.mag_i + _SOLAR_MINUS_I[band]


def make_asteroids(
    seed: int,
    night: int,
    mjd: float,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    mean_number: float,
    *,
    all_rates: bool = False,
) -> Asteroids:
    """Draw the asteroids of a night.

    Parameters
    ----------
    seed
        Seed of the sky.
    night
        The night, YYYYMMDD.
    mjd
        Time at which they are distributed uniformly over the field.
    ra_deg, dec_deg, radius_deg
        The field, a disc.
    mean_number
        Mean number of asteroids brighter than 23.5 mag in the field.
    all_rates
        Whether they move at all rates from that of objects beyond Neptune (parallax of the Earth's motion at 30 to
        100 au) to that of near-Earth objects, instead of those of the main belt and some fast ones.
    """
    random = random_stream(seed, "asteroids", night)
    n = random.poisson(mean_number)
    radius, angle = radius_deg * np.sqrt(random.random(n)), random.uniform(0.0, 2 * np.pi, n)
    low, high = 10.0 ** (COUNT_SLOPE * BRIGHTEST_MAG), 10.0 ** (COUNT_SLOPE * FAINTEST_MAG)
    mag = np.log10(random.uniform(low, high, n)) / COUNT_SLOPE
    fast = random.random(n) < FAST_SHARE
    speed = np.where(fast, random.uniform(60.0, 400.0, n), random.uniform(20.0, 45.0, n))
    if all_rates:
        slowest, fastest = np.log10(ALL_RATES_ARCSEC_H)
        speed = 10.0 ** random.uniform(slowest, fastest, n)
    heading = np.where(fast, random.uniform(0.0, 2 * np.pi, n), random.normal(np.pi + 0.4, 0.25, n))
    return Asteroids(
        4_000_000_000 + night % 1_000_000 * 10_000 + np.arange(n),
        night,
        ra_deg,
        dec_deg,
        mjd,
        radius * np.cos(angle),
        radius * np.sin(angle),
        speed * np.cos(heading),
        speed * np.sin(heading),
        mag,
    )
