"""Observing conditions at Cerro Tololo: sidereal time, airmass, dark time, choice of fields.

Low-precision formulae of the Astronomical Almanac, accurate to an arcminute.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from imaging.exposure import MJD_EPOCH

LATITUDE_DEG, LONGITUDE_DEG = -30.16606, -70.81489
"""Longitude of Cerro Tololo, positive to the east."""

MAX_ZENITH_DISTANCE_DEG = 60.0
"""Largest zenith distance used for the atmosphere, so that any field can be simulated."""

ARCSEC_PER_RADIAN = 206264.806247


@dataclass(frozen=True, slots=True)
class Horizontal:
    """Horizontal position of a field.

    Attributes
    ----------
    hour_angle_deg, zenith_distance_deg, azimuth_deg
        Horizontal coordinates; the azimuth is counted from north to east.
    parallactic_deg
        Position angle of the zenith, from north to east.
    airmass
        Airmass, after Kasten and Young (1989).
    """

    hour_angle_deg: float
    zenith_distance_deg: float
    azimuth_deg: float
    parallactic_deg: float
    airmass: float


def night_start_mjd(night: int) -> float:
    """Return local noon (16:43 UTC) of the night's date."""
    date = datetime(night // 10000, night // 100 % 100, night % 100)
    return (date - MJD_EPOCH).days + 0.5 - LONGITUDE_DEG / 360.0


def local_sidereal_deg(mjd: float) -> float:
    """Return the local mean sidereal time in degrees."""
    return (280.46061837 + 360.98564736629 * (mjd - 51544.5) + LONGITUDE_DEG) % 360.0


def horizontal(ra_deg: float, dec_deg: float, mjd: float) -> Horizontal:
    """Return the horizontal position of a field at a time (MJD, UTC)."""
    hour_angle = (local_sidereal_deg(mjd) - ra_deg + 180.0) % 360.0 - 180.0
    h, d, p = np.radians([hour_angle, dec_deg, LATITUDE_DEG])
    cos_z = np.sin(p) * np.sin(d) + np.cos(p) * np.cos(d) * np.cos(h)
    zenith_distance = min(float(np.degrees(np.arccos(np.clip(cos_z, -1.0, 1.0)))), MAX_ZENITH_DISTANCE_DEG)
    azimuth = np.degrees(np.arctan2(-np.cos(d) * np.sin(h), np.sin(d) * np.cos(p) - np.cos(d) * np.sin(p) * np.cos(h)))
    parallactic = np.degrees(np.arctan2(np.sin(h), np.tan(p) * np.cos(d) - np.sin(d) * np.cos(h)))
    airmass = 1.0 / (np.cos(np.radians(zenith_distance)) + 0.50572 * (96.07995 - zenith_distance) ** -1.6364)
    return Horizontal(hour_angle, zenith_distance, float(azimuth) % 360.0, float(parallactic), float(airmass))


def sun_altitude_deg(mjd: float) -> float:
    """Return the altitude of the Sun."""
    days = mjd - 51544.5
    anomaly = np.radians(357.528 + 0.9856003 * days)
    longitude = np.radians(280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.radians(23.439)
    dec = np.arcsin(np.sin(obliquity) * np.sin(longitude))
    ra = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    h, p = np.radians(local_sidereal_deg(mjd)) - ra, np.radians(LATITUDE_DEG)
    return float(np.degrees(np.arcsin(np.sin(p) * np.sin(dec) + np.cos(p) * np.cos(dec) * np.cos(h))))


def dark_hours(night: int) -> tuple[float, float]:
    """Return start and end of the dark time (Sun 18 degrees below the horizon), MJD."""
    instants = night_start_mjd(night) + np.arange(0.0, 1.0, 2.0 / 1440.0)
    dark = [mjd for mjd in instants if sun_altitude_deg(mjd) < -18.0]
    return float(dark[0]), float(dark[-1])


def galactic_latitude_deg(ra_deg: float, dec_deg: float) -> float:
    """Return the galactic latitude of an ICRS position."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    ra_pole, dec_pole = np.radians(192.85948), np.radians(27.12825)
    sine = np.sin(dec) * np.sin(dec_pole) + np.cos(dec) * np.cos(dec_pole) * np.cos(ra - ra_pole)
    return float(np.degrees(np.arcsin(sine)))


def default_field(night: int, interval_h: float) -> tuple[float, float]:
    """Choose a field that culminates in the evening, far from the Galaxy and high in the sky.

    Parameters
    ----------
    night
        Night of the search.
    interval_h
        Duration of the observation, hours.

    Returns
    -------
    ra_deg, dec_deg
        On a grid of half degrees.
    """
    first, last = dark_hours(night)
    middle = min(first + (0.5 + interval_h / 2) / 24.0, (first + last) / 2)
    transit = local_sidereal_deg(middle)
    choices = [
        (round(2 * (transit + dh)) / 2 % 360.0, dec) for dh in (-15, 0, 15) for dec in (-40.0, -30.5, -21.5, -10.0)
    ]

    def merit(field: tuple[float, float]) -> float:
        return min(abs(galactic_latitude_deg(*field)), 55.0) - 100.0 * (horizontal(*field, middle).airmass - 1.0)

    return max(choices, key=merit)


def best_instant(ra_deg: float, dec_deg: float, night: int, duration_h: float = 0.0) -> float:
    """Return the dark time of a night at which a field is highest, with half a duration on either side.

    Parameters
    ----------
    ra_deg, dec_deg
        Field.
    night
        Night.
    duration_h
        Length of the observation; limited to the night.
    """
    first, last = dark_hours(night)
    margin = min(duration_h / 48.0, (last - first) / 2 - 1e-3)
    instants = np.arange(first + margin, last - margin, 2.0 / 1440.0)
    distance = [abs((local_sidereal_deg(mjd) - ra_deg + 180.0) % 360.0 - 180.0) for mjd in instants]
    if not 0.0 <= dec_deg + 90.0 <= 180.0 or not len(instants):
        return (first + last) / 2
    return float(instants[int(np.argmin(distance))])
