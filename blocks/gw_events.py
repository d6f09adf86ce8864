"""Gravitational-wave events as their alerts describe them, stored in ``state/events/{superevent}``.

Each alert is a file of its own, and the newest one is current; ``event.json`` is a copy of it for people.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from blocks.site import Site

RECORD = "event.json"


def moment(text: str) -> datetime:
    """Return a time of an alert, with its fraction of a second; UTC if it states no zone.

    Raises
    ------
    ValueError
        If it is no time in the ISO 8601 form.
    """
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def checked_time(text: str) -> str:
    """Return a time as it is written.

    Raises
    ------
    ValueError
        If it is no time.
    """
    if len(text) > 40:
        raise ValueError(f"a time of {len(text)} characters")
    moment(text)
    return text


class AlertRecord(BaseModel):
    """One alert of an event, without its sky map."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    superevent: str
    """Name of the event, such as S190814bv."""
    alert_type: Literal["EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"]
    """Kind of the alert."""
    time_created: Annotated[str, AfterValidator(checked_time)]
    """Time of the alert, UTC."""
    time_event: Annotated[str, AfterValidator(checked_time)] | None = None
    """Time of the merger, UTC."""
    false_alarms_per_second: float | None = None
    """False-alarm rate, Hz."""
    significant: bool = False
    """Whether the collaborations flag it as significant."""
    classification: dict[str, float] = {}
    """Probability by class of source (BNS, NSBH, BBH, Terrestrial)."""
    properties: dict[str, float] = {}
    """Probability by property (HasNS, HasRemnant, ...)."""
    instruments: tuple[str, ...] = ()
    """Detectors that saw it."""
    skymap: str | None = None
    """File of the sky map, beside this record; None without a map."""
    gracedb: str | None = None
    """Page of the event."""
    coincidence: dict[str, str | float] = {}
    """What the alert states of a coincident external event (observatory, time difference in seconds, ...)."""
    combined_skymap: str | None = None
    """File of the sky map combined with that of the external event, beside this record; None without one."""

    @property
    def is_retraction(self) -> bool:
        """Whether the alert retracts the event."""
        return self.alert_type == "RETRACTION"

    mark: str = ""
    """What tells its files from those of another alert of the same time and type; empty for the first one."""

    @property
    def name(self) -> str:
        """Stem of the alert's files: time and type."""
        created = moment(self.time_created)
        fraction = f".{created.microsecond:06d}" if created.microsecond else ""
        return "-".join(filter(None, (f"{created:%Y%m%dT%H%M%S}{fraction}Z", self.alert_type.lower(), self.mark)))

    @property
    def event_name(self) -> str:
        """Name of the Prefect event of this alert."""
        return "gw.event.retracted" if self.is_retraction else "gw.event.received"


def name_order(name: str) -> tuple[str, str]:
    """Return what names of alerts are ordered by: their times, with and without a fraction of a second."""
    time, _, rest = name.partition("-")
    return time.rstrip("Z"), rest


def event_folder(site: Site, superevent: str) -> Path:
    """Return the folder of an event."""
    return site.state / "events" / superevent


def is_retracted(site: Site, event: str) -> bool:
    """Whether the current alert of an event retracts it; False for an event without alerts."""
    current = read_event(site, event)
    return current is not None and current.is_retraction


def alerts_of(site: Site, superevent: str) -> list[AlertRecord]:
    """Return the stored alerts of an event in order of their times."""
    found = map(read_alert, event_folder(site, superevent).glob("*-*.json"))
    return sorted((alert for alert in found if alert is not None), key=lambda alert: name_order(alert.name))


def read_event(site: Site, superevent: str) -> AlertRecord | None:
    """Return the current alert of an event; None for an unknown event."""
    alerts = alerts_of(site, superevent)
    return alerts[-1] if alerts else None


def current_skymap(site: Site, superevent: str) -> tuple[AlertRecord, Path] | None:
    """Return the newest alert of an event that has a sky map, and the map's file; None if there is none."""
    for alert in reversed(alerts_of(site, superevent)):
        if alert.skymap is not None:
            return alert, event_folder(site, superevent) / alert.skymap
    return None


def newest_event(site: Site) -> str | None:
    """Return the event with the newest alert that has a sky map and is not retracted; None if there is none.

    Mock events and tests (MS181101ab, TS190101a), which arrive every hour, are none.
    """
    names = {path.parent.name for path in (site.state / "events").glob("*/*-*.json")}
    names = {name for name in names if not name.startswith(("MS", "TS"))}
    alerts = [record for name in names if (record := read_event(site, name)) and not record.is_retraction]
    known = [record for record in alerts if current_skymap(site, record.superevent)]
    return max(known, key=lambda record: name_order(record.name)).superevent if known else None


def read_alert(path: Path) -> AlertRecord | None:
    """Return the alert of a file; None if there is none or it is damaged."""
    try:
        return AlertRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
