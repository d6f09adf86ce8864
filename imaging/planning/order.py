"""The order in which the fields of a plan are observed during a night.

Each visit gets the slot of the night in which all visits together are worth most (an assignment problem, solved
exactly): a field is worth its searchable probability times the effective exposure at its airmass, and a little less
with every hour, since the source fades and the weather may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from scipy.optimize import linear_sum_assignment

from imaging.planning.fields import Field
from imaging.planning.visibility import TWILIGHT_DEG, Sky, airmass, heights_deg, night_hours, sky_at
from imaging.settings import Settings
from imaging.wcs.sphere import separation_deg

FloatArray = NDArray[np.float64]

SEEING_POWER = 0.6
"""Power of the airmass with which Kolmogorov seeing grows; the effective exposure falls with the seeing's square."""

EXTINCTION_MAG = 0.1
"""Extinction per airmass, magnitudes, between those of the g and i bands."""

UNSEARCHED = 0.1
"""Worth of probability without a template, in units of that with one."""


class PlanSettings(Settings):
    """Choice and order of the fields of a night."""

    level: float = Setting(default=0.9, gt=0.0, lt=1.0)
    """Probability of the region of the sky map that is tiled."""
    max_airmass: float = Setting(default=2.0, gt=1.0)
    """Largest airmass of an exposure."""
    min_moon_deg: float = Setting(default=15.0, ge=0.0)
    """Smallest distance from the Moon while it is above the horizon, degrees."""
    twilight_deg: float = Setting(default=TWILIGHT_DEG, lt=0.0)
    """Height of the Sun at which observations begin and end, degrees."""
    overhead_s: float = Setting(default=30.0, ge=0.0)
    """Time between two exposures, seconds: readout, and the move to a near field."""
    loss_per_hour: float = Setting(default=0.1, ge=0.0, lt=1.0)
    """Fraction of its worth that an observation loses with every hour that it comes later."""
    max_fields: int = Setting(default=200, ge=1)
    """Largest number of fields of a plan."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A field in the order of observation.

    Attributes
    ----------
    field
        The field.
    rank
        Its place by searchable probability, from 1.
    mjd
        Begin of its first exposure, UTC.
    airmass
        Airmass then.
    moon_deg
        Distance from the Moon then.
    """

    field: Field
    rank: int
    mjd: float
    airmass: float
    moon_deg: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is observed, and what is not.

    Attributes
    ----------
    observations
        In order of time.
    left
        (rank, field, reason) of the other fields.
    begin_mjd, end_mjd
        The dark part of the night, UTC.
    moon_fraction
        Illuminated fraction of the Moon in its middle.
    """

    observations: tuple[Observation, ...]
    left: tuple[tuple[int, Field, str], ...]
    begin_mjd: float
    end_mjd: float
    moon_fraction: float


def observing_order(fields: Sequence[Field], night: int, visit_s: float, settings: PlanSettings) -> Schedule:
    """Give the fields their times in a night.

    Parameters
    ----------
    fields
        Fields, the best first.
    night
        Local date at its beginning, YYYYMMDD.
    visit_s
        Time for all exposures of a field, overheads included, seconds.
    settings
        Limits.
    """
    begin, end = night_hours(night, settings.twilight_deg)
    n_slots = int((end - begin) * 86400.0 / visit_s)
    times: FloatArray = begin + np.arange(n_slots, dtype=np.float64) * (visit_s / 86400.0)
    gain = [_merit(field) * _efficiency(field, times, visit_s, settings) for field in fields]
    worth = np.array(gain).reshape(len(fields), n_slots)
    numbers, slots = linear_sum_assignment(worth, maximize=True)
    observations = []
    for slot, number in sorted(zip(slots.tolist(), numbers.tolist(), strict=True)):
        if worth[number, slot] <= 0.0:
            continue
        field, mjd = fields[number], float(times[slot])
        sky = sky_at(mjd)
        moon = float(separation_deg(field.ra_deg, field.dec_deg, sky.moon_ra_deg, sky.moon_dec_deg))
        reached = float(airmass(heights_deg(field.ra_deg, field.dec_deg, mjd)))
        observations.append(Observation(field, number + 1, mjd, reached, moon))
    taken = {item.rank for item in observations}
    left = [
        (number + 1, field, "no time" if worth[number].any() else _limit_of(field, times, visit_s, settings))
        for number, field in enumerate(fields)
        if number + 1 not in taken
    ]
    return Schedule(tuple(observations), tuple(left), begin, end, sky_at(0.5 * (begin + end)).moon_fraction)


def _limit_of(field: Field, times: FloatArray, visit_s: float, settings: PlanSettings) -> str:
    """Return why a field cannot be observed at any of the times of a night."""
    best = float(_airmass_of_visits(field, times, visit_s).min(initial=np.inf))
    if np.isinf(best):
        return "below the horizon while it is dark"
    if best > settings.max_airmass:
        return f"airmass {best:.2f} at best while it is dark (limit {settings.max_airmass:g})"
    skies = [sky_at(float(mjd)) for mjd in times[:: max(len(times) - 1, 1)]]
    near = min(float(separation_deg(field.ra_deg, field.dec_deg, sky.moon_ra_deg, sky.moon_dec_deg)) for sky in skies)
    return f"{near:.0f} degrees from the Moon when its airmass allows it (limit {settings.min_moon_deg:g})"


def _merit(field: Field) -> float:
    return field.merit + UNSEARCHED * (field.probability - field.merit)


def _efficiency(field: Field, times: FloatArray, visit_s: float, settings: PlanSettings) -> FloatArray:
    """Return the effective fraction of a visit that begins at each time; 0 beyond the limits."""
    reached = _airmass_of_visits(field, times, visit_s)
    good = reached <= settings.max_airmass
    excess = np.where(good, reached, 1.0)
    result = excess ** (-2.0 * SEEING_POWER) * 10.0 ** (-0.8 * EXTINCTION_MAG * (excess - 1.0))
    result *= (1.0 - settings.loss_per_hour) ** ((times - times[:1]) * 24.0)
    for number in np.flatnonzero(good):
        sky = _sky_of_quarter(round(float(times[number]) * 96.0))
        near = float(separation_deg(field.ra_deg, field.dec_deg, sky.moon_ra_deg, sky.moon_dec_deg))
        good[number] = sky.moon_height_deg <= 0.0 or near >= settings.min_moon_deg
    return np.where(good, result, 0.0)


def _airmass_of_visits(field: Field, times: FloatArray, visit_s: float) -> FloatArray:
    """Return the larger airmass of begin and end of the visits that begin at some times."""
    both = np.concatenate([times, times + visit_s / 86400.0])
    return airmass(heights_deg(field.ra_deg, field.dec_deg, both)).reshape(2, len(times)).max(axis=0)


@lru_cache(maxsize=512)
def _sky_of_quarter(quarter_hours: int) -> Sky:
    return sky_at(quarter_hours / 96.0)
