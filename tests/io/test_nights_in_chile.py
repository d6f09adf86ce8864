"""A night is that of the observatory's evening, through every change of the clock in Chile."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from imaging.exposure import MJD_EPOCH, night_of

CHILE = ZoneInfo("America/Santiago")


def mjd(moment: datetime) -> float:
    """Return the MJD of a moment, UTC."""
    return (moment.astimezone(UTC).replace(tzinfo=None) - MJD_EPOCH.replace(tzinfo=None)) / timedelta(days=1)


def test_every_night_of_three_years_keeps_its_date():
    day, offsets = date(2025, 1, 1), set()
    while day < date(2028, 1, 1):
        right = day.year * 10000 + day.month * 100 + day.day
        evening, morning = time(17, 30), time(7, 0)  # the run at dusk, the last exposure of the longest night
        moments = [datetime.combine(day, evening, CHILE), datetime.combine(day, time(23, 59, 59), CHILE)]
        moments += [datetime.combine(day + timedelta(days=1), t, CHILE) for t in (time(0, 30), time(3, 0), morning)]
        offsets.add(moments[0].utcoffset())
        for moment in moments:
            assert night_of(mjd(moment)) == right, moment
        day += timedelta(days=1)
    assert len(offsets) == 2, "summer and winter time"
