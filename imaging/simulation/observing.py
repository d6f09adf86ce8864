"""Where things stand in the sky of the observatory: sidereal time, airmass, darkness.

Low-precision formulae of the Astronomical Almanac: good to an arcminute, which is all that weather and airmass need.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from imaging.exposure import MJD_EPOCH

LATITUDE_DEG, LONGITUDE_DEG = -30.16606, -70.81489
"""Cerro Tololo, longitude to the east."""

MAX_ZENITH_DISTANCE_DEG = 60.0
"""The atmosphere of lower fields is that of this zenith distance, so that any field can be simulated."""

ARCSEC_PER_RADIAN = 206264.806247


@dataclass(frozen=True, slots=True)
class Horizontal:
    """Where a field stands.

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
    """Return where a position stands at an instant (MJD, UTC)."""
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
    """Return when the night is dark (Sun 18 degrees below the horizon): first and last instant, MJD."""
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
        Hours over which the field is to be observed.

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
    """Return the dark instant of a night at which a field is highest, leaving half a duration on either side.

    Parameters
    ----------
    ra_deg, dec_deg
        Field.
    night
        Night.
    duration_h
        Length of the observation; more than the night is cut to it.
    """
    first, last = dark_hours(night)
    margin = min(duration_h / 48.0, (last - first) / 2 - 1e-3)
    instants = np.arange(first + margin, last - margin, 2.0 / 1440.0)
    distance = [abs((local_sidereal_deg(mjd) - ra_deg + 180.0) % 360.0 - 180.0) for mjd in instants]
    if not 0.0 <= dec_deg + 90.0 <= 180.0 or not len(instants):
        return (first + last) / 2
    return float(instants[int(np.argmin(distance))])
