"""The nights that a site knows: what was observed, for which event, with which sky map.

Each is a folder ``state/nights/{night}`` with ``night.json`` and the files that it names. Writing ``night.json`` is
what registers a night or a revision of it; the files of a revision are written before and never changed.
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
"""Folder, in that of the night, with a mark per exposure that has come late."""

EVENT_NAME = "gw.night.registered"
"""Name of the event that a registered night emits."""

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
    """Exposure numbers of other nights in the list: the templates."""
    exposure_list_hash: str
    """128-bit XXH3 hash of the exposure list."""

    @property
    def event_id(self) -> uuid.UUID:
        """Identity of the Prefect event of this revision: the same whenever and wherever it is emitted."""
        content = xxhash.xxh3_128_hexdigest(self.model_dump_json().encode())
        return uuid.uuid5(_NAMESPACE, f"{self.night}/{self.revision}/{content}")

    def payload(self) -> dict[str, Any]:
        """Return what the event carries."""
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
        """Read the exposure list: exposures of the night and templates."""
        return read_exposure_list(self.exposure_list)

    def seconds_since_emitted(self) -> float:
        """How long ago a server has accepted the event of this revision; infinite if none has."""
        try:
            return time.time() - self._mark("emitted").stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def is_started(self) -> bool:
        """Whether a run has begun to process this revision."""
        return self.is_marked("started")

    def mark_emitted(self) -> None:
        """Note that a server has accepted the event of this revision."""
        self.mark("emitted")

    def mark_started(self, seen: Iterable[int] = ()) -> None:
        """Note that a run has begun to process this revision, and which exposures' raw files it has found."""
        known = self.seen() | set(seen)
        write_text(self._mark("started"), json.dumps(sorted(known)) + "\n")

    def seen(self) -> set[int]:
        """Return the exposures whose raw files were there when a run of this or an earlier revision began."""
        found: set[int] = set()
        for path in self.folder.glob("revision-*.started"):
            with suppress(OSError, ValueError):
                found |= set(json.loads(path.read_text(encoding="utf-8") or "[]"))
        return found

    def mark_arrived(self, expnum: int) -> None:
        """Note that an exposure has arrived after a run had begun, and was announced."""
        folder = self.folder / ARRIVALS
        folder.mkdir(exist_ok=True)
        (folder / str(expnum)).touch()

    def arrived(self) -> set[int]:
        """Return the exposures that have arrived after a run had begun."""
        return {int(path.name) for path in (self.folder / ARRIVALS).glob("*") if path.name.isdigit()}

    def seconds_since_arrival(self) -> float:
        """How long ago the latest of them was announced; infinite if there is none."""
        times = [path.stat().st_mtime for path in (self.folder / ARRIVALS).glob("*")]
        return time.time() - max(times, default=-math.inf)

    def mark(self, what: str) -> None:
        """Note something about this revision."""
        self._mark(what).touch()

    def is_marked(self, what: str) -> bool:
        """Whether something was noted about this revision."""
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
