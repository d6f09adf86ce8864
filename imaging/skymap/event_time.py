"""Compare the time of a sky map's event with a night."""

from imaging.errors import InputError
from imaging.skymap.model import SkyMap

MAX_EVENT_DAYS = 365.0
"""Longest time between an event and a night that follows it up."""


def check_event_time(skymap: SkyMap, night_mjd: float) -> None:
    """Raise if the event of a sky map is years from a night.

    Parameters
    ----------
    skymap
        The map; one without a time passes.
    night_mjd
        Time of the night, MJD.

    Raises
    ------
    InputError
        If they are more than a year apart.
    """
    days = skymap.mjd - night_mjd
    if abs(days) > MAX_EVENT_DAYS:
        raise InputError(
            f"the event of the sky map is {abs(days) / 365.25:.1f} years {'after' if days > 0 else 'before'} the night",
            value=f"MJD {skymap.mjd:.2f} and {night_mjd:.0f}",
            limit=f"{MAX_EVENT_DAYS:g} days",
            remedy="give the sky map of this night's event, or --force",
        )
