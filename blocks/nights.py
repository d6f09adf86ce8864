"""The registry of nights: exposures, gravitational-wave event and sky map of each registered night.

A night is a folder ``state/nights/{night}`` with ``night.json`` and the files named there. Writing ``night.json``
registers the night or a new revision of it; the files of a revision are written before and never changed.
"""

import json
import math
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import write_text
from imaging.io.exposure_list import ListedExposure, read_exposure_list

RECORD = "night.json"

ARRIVALS = "arrivals"
"""Subfolder of a night with one marker file per late exposure."""

EVENT_NAME = "gw.night.registered"
"""Name of the Prefect event of a registered night."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "gw-workflow/night")


class NightRecord(BaseModel):
    """One revision of a registered night."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    night: int
    """Local date at the beginning of the night, YYYYMMDD."""
    event: str
    """Name of the gravitational-wave event."""
    revision: int
    """1 when first registered; one more with every update."""
    skymap: str
    """File name of the sky map, in the night's folder."""
    skymap_hash: str
    """128-bit XXH3 hash of its content."""
    exposure_list: str
    """File name of the exposure list, in the night's folder."""
    exposures: tuple[int, ...]
    """Exposure numbers of the night itself, in order."""
    templates: tuple[int, ...]
    """Exposure numbers of other nights in the list, used as templates."""
    exposure_list_hash: str
    """128-bit XXH3 hash of the exposure list."""

    @property
    def event_id(self) -> uuid.UUID:
        """Identifier of the Prefect event of this revision: the same each time it is emitted."""
        content = xxhash.xxh3_128_hexdigest(self.model_dump_json().encode())
        return uuid.uuid5(_NAMESPACE, f"{self.night}/{self.revision}/{content}")

    def payload(self) -> dict[str, Any]:
        """Return the payload of the event."""
        return {
            "night": self.night,
            "event": self.event,
            "revision": self.revision,
            "skymap": self.skymap,
            "exposures": list(self.exposures),
            "event_id": str(self.event_id),
        }


class RegisteredNight:
    """A registered night and its files.

    Parameters
    ----------
    site
        Site whose registry holds it.
    record
        Its latest revision.
    """

    def __init__(self, site: Site, record: NightRecord) -> None:
        self.record = record
        self.folder = night_folder(site, record.night)

    @property
    def skymap(self) -> Path:
        """Path of the sky map."""
        return self.folder / self.record.skymap

    @property
    def exposure_list(self) -> Path:
        """Path of the exposure list."""
        return self.folder / self.record.exposure_list

    def listed(self) -> tuple[ListedExposure, ...]:
        """Read the exposure list: the exposures of the night and the templates."""
        return read_exposure_list(self.exposure_list)

    def seconds_since_emitted(self) -> float:
        """Seconds since a server accepted the event of this revision; infinite if none has."""
        try:
            return time.time() - self._mark("emitted").stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def is_started(self) -> bool:
        """Whether a run of this revision has started."""
        return self.is_marked("started")

    def mark_emitted(self) -> None:
        """Mark that a server has accepted the event of this revision."""
        self.mark("emitted")

    def mark_started(self, seen: Iterable[int] = ()) -> None:
        """Mark that a run of this revision has started, and which exposures' raw files it found."""
        known = self.seen() | set(seen)
        write_text(self._mark("started"), json.dumps(sorted(known)) + "\n")

    def seen(self) -> set[int]:
        """Return the exposures whose raw files existed when a run of this or an earlier revision started."""
        found: set[int] = set()
        for path in self.folder.glob("revision-*.started"):
            with suppress(OSError, ValueError):
                found |= set(json.loads(path.read_text(encoding="utf-8") or "[]"))
        return found

    def mark_arrived(self, expnum: int) -> None:
        """Mark that an exposure arrived after the start of a run, and was announced."""
        folder = self.folder / ARRIVALS
        folder.mkdir(exist_ok=True)
        (folder / str(expnum)).touch()

    def arrived(self) -> set[int]:
        """Return the exposures that arrived after the start of a run."""
        return {int(path.name) for path in (self.folder / ARRIVALS).glob("*") if path.name.isdigit()}

    def seconds_since_arrival(self) -> float:
        """Seconds since the last late exposure was announced; infinite if there is none."""
        times = [path.stat().st_mtime for path in (self.folder / ARRIVALS).glob("*")]
        return time.time() - max(times, default=-math.inf)

    def mark(self, what: str) -> None:
        """Write a marker file for this revision."""
        self._mark(what).touch()

    def is_marked(self, what: str) -> bool:
        """Whether a marker file of this revision exists."""
        return self._mark(what).exists()

    def _mark(self, what: str) -> Path:
        return self.folder / f"revision-{self.record.revision}.{what}"


def night_folder(site: Site, night: int) -> Path:
    """Return the folder of a night in the registry."""
    return site.nights / str(night)


def read_night(site: Site, night: int) -> RegisteredNight:
    """Return a registered night.

    Raises
    ------
    InputError
        If it is not registered or its record is damaged.
    """
    path = night_folder(site, night) / RECORD
    try:
        return RegisteredNight(site, NightRecord.model_validate_json(path.read_bytes()))
    except FileNotFoundError:
        known = ", ".join(str(other) for other in registered_nights(site)) or "none"
        raise InputError(
            "night is not registered",
            value=night,
            limit=f"registered: {known}",
            remedy="register it with gw-workflow register-night",
        ) from None
    except (OSError, ValidationError) as error:
        raise InputError("record of a night is damaged", value=path, remedy="register the night again") from error


def is_registered(site: Site, night: int) -> bool:
    """Whether a night is registered."""
    return (night_folder(site, night) / RECORD).exists()


def registered_nights(site: Site) -> list[int]:
    """Return the registered nights, the earliest first."""
    return sorted(int(path.parent.name) for path in site.nights.glob(f"2???????/{RECORD}"))
