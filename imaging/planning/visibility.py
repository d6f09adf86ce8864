"""When fields are visible from Cerro Tololo: airmass, twilight, Moon.

Directions come from ERFA, the IAU's standards of fundamental astronomy: ``atco13`` from ICRS to the observed zenith
distance, ``epv00`` for the Sun, ``moon98`` for the Moon. UT1 is taken as UTC, which costs 14 arcsec at most and needs
no file of the Earth's rotation. The airmass is that of Pickering (2002, DIO 12, 1).
"""

import math
import warnings
from dataclasses import dataclass
from datetime import datetime

import erfa
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imaging.exposure import MJD_EPOCH
from imaging.identity import check_night
from imaging.wcs.sphere import separation_deg

FloatArray = NDArray[np.float64]

LONGITUDE_DEG, LATITUDE_DEG, HEIGHT_M = -70.81489, -30.16606, 2215.0
"""The Blanco telescope, east of Greenwich (cards OBS-LONG, which counts to the west, OBS-LAT, OBS-ELEV)."""

MJD_ZERO = 2400000.5

TWILIGHT_DEG = -14.0
"""Height of the Sun at which observations begin and end, degrees."""

STEP_MIN = 2.0
"""Step of the search for twilight, minutes."""


@dataclass(frozen=True, slots=True)
class Sky:
    """Sun and Moon at some time.

    Attributes
    ----------
    sun_height_deg, moon_height_deg
        Heights above the horizon.
    moon_ra_deg, moon_dec_deg
        Geocentric direction of the Moon; from the telescope it differs by up to one degree.
    moon_fraction
        Illuminated fraction of the Moon.
    """

    sun_height_deg: float
    moon_height_deg: float
    moon_ra_deg: float
    moon_dec_deg: float
    moon_fraction: float


def heights_deg(ra_deg: ArrayLike, dec_deg: ArrayLike, mjd: ArrayLike) -> FloatArray:
    """Return heights above the horizon without refraction, degrees; arguments broadcast.

    Parameters
    ----------
    ra_deg, dec_deg
        ICRS, degrees.
    mjd
        UTC.
    """
    ra, dec, time = np.broadcast_arrays(np.radians(ra_deg), np.radians(dec_deg), np.asarray(mjd, dtype=float))
    place = math.radians(LONGITUDE_DEG), math.radians(LATITUDE_DEG), HEIGHT_M
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*dubious year", erfa.ErfaWarning)  # leap seconds of the years to come
        _, distance, *_ = erfa.atco13(ra, dec, 0, 0, 0, 0, MJD_ZERO, time, 0.0, *place, 0.0, 0.0, 0.0, 0.0, 0.0, 0.55)
    return 90.0 - np.degrees(np.asarray(distance))


def airmass(height_deg: ArrayLike) -> FloatArray:
    """Return the airmass at heights in degrees; infinite below one degree."""
    height = np.asarray(height_deg, dtype=float)
    safe = np.maximum(height, 1.0)
    values = 1.0 / np.sin(np.radians(safe + 244.0 / (165.0 + 47.0 * safe**1.1)))
    return np.where(height < 1.0, np.inf, values)


def sky_at(mjd: float) -> Sky:
    """Return Sun and Moon at a time, MJD UTC."""
    moon = erfa.moon98(MJD_ZERO, mjd)["p"]
    heliocentric, _ = erfa.epv00(MJD_ZERO, mjd)
    sun = -heliocentric["p"]
    (sun_ra, sun_dec), (moon_ra, moon_dec) = (_direction_deg(vector) for vector in (sun, moon))
    phase = math.radians(180.0 - float(separation_deg(sun_ra, sun_dec, moon_ra, moon_dec)))
    sun_height, moon_height = heights_deg([sun_ra, moon_ra], [sun_dec, moon_dec], mjd)
    return Sky(float(sun_height), float(moon_height), moon_ra, moon_dec, 0.5 * (1.0 + math.cos(phase)))


def night_hours(night: int, twilight_deg: float = TWILIGHT_DEG) -> tuple[float, float]:
    """Return begin and end of the dark part of a night, MJD UTC.

    Parameters
    ----------
    night
        Local date at its beginning, YYYYMMDD.
    twilight_deg
        Height of the Sun at both, degrees.

    Raises
    ------
    InputError
        If this is not a date.
    """
    check_night(night)
    noon = (datetime.strptime(str(night), "%Y%m%d") - MJD_EPOCH).days + 0.5 - LONGITUDE_DEG / 360.0
    times = noon + np.arange(0.0, 1.0, STEP_MIN / 1440.0)
    heliocentric, _ = erfa.epv00(MJD_ZERO, times)
    ra, dec = np.array([_direction_deg(-vector) for vector in heliocentric["p"]]).T
    height = heights_deg(ra, dec, times)
    dark = np.flatnonzero(height < twilight_deg)  # at this latitude every night has some
    begin, end = int(dark[0]), int(dark[-1])

    def crossing(first: int) -> float:
        share = (twilight_deg - height[first]) / (height[first + 1] - height[first])
        return float(times[first] + share * (times[first + 1] - times[first]))

    return crossing(begin - 1), crossing(end)


def _direction_deg(vector: FloatArray) -> tuple[float, float]:
    ra, dec = erfa.c2s(vector)
    return math.degrees(float(ra)) % 360.0, math.degrees(float(dec))
