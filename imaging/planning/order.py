"""The order in which the fields of a plan are observed during a night."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from imaging.planning.fields import Field
from imaging.planning.visibility import TWILIGHT_DEG, Sky, airmass, heights_deg, night_hours, sky_at
from imaging.settings import Settings
from imaging.wcs.sphere import separation_deg

Visible = NDArray[np.bool_]
"""(fields, slots) whether a field can be observed in a slot."""


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
    """Order fields over a night: as many of the best as fit, those that set first come first.

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
    times: NDArray[np.float64] = begin + np.arange(n_slots, dtype=np.float64) * (visit_s / 86400.0)
    visible = np.array([_visible(field, times, visit_s, settings) for field in fields]).reshape(len(fields), n_slots)
    slots, left = _assign(visible)
    reasons = {
        number: "below the airmass limit or too near the Moon all night" if not visible[number].any() else "no time"
        for number in left
    }
    observations = []
    for slot, number in sorted(slots.items()):
        field, mjd = fields[number], float(times[slot])
        sky = sky_at(mjd)
        moon = float(separation_deg(field.ra_deg, field.dec_deg, sky.moon_ra_deg, sky.moon_dec_deg))
        reached = float(airmass(heights_deg(field.ra_deg, field.dec_deg, mjd)))
        observations.append(Observation(field, number + 1, mjd, reached, moon))
    middle = sky_at(0.5 * (begin + end))
    others = tuple((number + 1, fields[number], reasons[number]) for number in sorted(reasons))
    return Schedule(tuple(observations), others, begin, end, middle.moon_fraction)


def _visible(field: Field, times: NDArray[np.float64], visit_s: float, settings: PlanSettings) -> Visible:
    """Return for each slot whether a field stays within the limits from its beginning to its end."""
    both = np.concatenate([times, times + visit_s / 86400.0])
    high = airmass(heights_deg(field.ra_deg, field.dec_deg, both)) <= settings.max_airmass
    good: Visible = high[: len(times)] & high[len(times) :]
    for number in np.flatnonzero(good):
        sky = _sky_of_quarter(round(float(times[number]) * 96.0))
        near = float(separation_deg(field.ra_deg, field.dec_deg, sky.moon_ra_deg, sky.moon_dec_deg))
        if sky.moon_height_deg > 0.0 and near < settings.min_moon_deg:
            good[number] = False
    return good


@lru_cache(maxsize=512)
def _sky_of_quarter(quarter_hours: int) -> Sky:
    return sky_at(quarter_hours / 96.0)


def _assign(visible: Visible) -> tuple[dict[int, int], list[int]]:
    """Give fields, the best first, a slot each; return slot to field, and the fields without one.

    A field is taken if all taken before it keep a slot (a bipartite matching that grows by augmenting paths), so that
    none displaces a better one.
    """
    owner: dict[int, int] = {}

    def place(number: int, tried: set[int]) -> bool:
        for slot in np.flatnonzero(visible[number]).tolist():
            if slot not in tried:
                tried.add(slot)
                if slot not in owner or place(owner[slot], tried):
                    owner[slot] = number
                    return True
        return False

    left = [number for number in range(len(visible)) if not place(number, set())]
    taken = sorted(owner.values())
    by_deadline = _earliest_deadline_first(visible, taken)
    return by_deadline if len(by_deadline) == len(taken) else owner, left


def _earliest_deadline_first(visible: Visible, taken: Sequence[int]) -> dict[int, int]:
    """Fill the slots from the first on with the visible field that sets first; return slot to field."""
    open_fields = {number: int(np.flatnonzero(visible[number])[-1]) for number in taken}
    slots: dict[int, int] = {}
    for slot in range(visible.shape[1]):
        ready = [(last, number) for number, last in open_fields.items() if visible[number, slot]]
        if ready:
            slots[slot] = min(ready)[1]
            del open_fields[slots[slot]]
    return slots
