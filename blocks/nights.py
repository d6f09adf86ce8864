"""The registry of nights: exposures, gravitational-wave event and sky map of each registered night.

A night is a folder ``state/nights/{night}`` with ``night.json`` and the files named there. Writing ``night.json``
registers the night or a new revision of it; the files of a revision are written before and never changed.
:mod:`blocks.night_runs` records the runs of a night in the same folder.
"""

import math
import time
import uuid
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict, model_validator

from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import write_text
from imaging.io.exposure_list import ListedExposure, read_exposure_list
from imaging.io.sealed import read_sealed

RECORD = "night.json"

ARRIVALS = "arrivals"
"""Subfolder of a night with one file per late exposure, written when its run was created: the identity of the run."""

SKEW_S = 60.0
"""Seconds by which the clocks of a file server and of this machine may differ."""

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
    registration: str = ""
    """Random identity given at the first registration; empty for a night registered before version 0.3."""
    list_revision: int = 0
    """Revision in which the exposure list last changed; later ones have a new sky map only."""
    alert: str = ""
    """Name of the newest alert of the event that was known when the sky map was stored."""
    selection: dict[str, Any] | None = None
    """What differs from the defaults of :class:`imaging.templates.night_selection.NightSelection`, by which exposures
    that nobody listed are taken; None for a night registered without them by an earlier version, which takes none."""

    @model_validator(mode="before")
    @classmethod
    def _of_former_versions(cls, content: Any) -> Any:  # noqa: ANN401
        """Read a record from before version 0.3: its exposure list counts as changed in its revision."""
        if isinstance(content, dict) and "list_revision" not in content and "revision" in content:
            return content | {"list_revision": content["revision"]}
        return content

    @property
    def event_id(self) -> uuid.UUID:
        """Identifier of the Prefect event of this revision: the same each time it is emitted."""
        content = xxhash.xxh3_128_hexdigest(self.model_dump_json(exclude_none=True).encode())
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

    def mark_arrived(self, expnum: int, run: str) -> None:
        """Note that a run of its own was created for an exposure that arrived after the start of the night's run."""
        write_text(self.folder / ARRIVALS / str(expnum), f"{run}\n")

    def arrived(self) -> set[int]:
        """Return the late exposures for which runs were created."""
        return {int(path.name) for path in (self.folder / ARRIVALS).glob("*") if path.name.isdigit()}

    def seconds_since_arrival(self) -> float:
        """Seconds since the last late exposure; infinite if there is none.

        A mark that lies ahead of the clock, which was ahead when it was written, says nothing: nobody waits for it.
        """
        ages = [time.time() - path.stat().st_mtime for path in (self.folder / ARRIVALS).glob("*")]
        return min((age for age in ages if age > -SKEW_S), default=math.inf)


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
        return RegisteredNight(site, NightRecord.model_validate_json(read_sealed(path)))
    except FileNotFoundError:
        known = ", ".join(str(other) for other in registered_nights(site)) or "none"
        raise InputError(
            "night is not registered",
            value=night,
            limit=f"registered: {known}",
            remedy="register it with gw-workflow register-night",
        ) from None
    except (OSError, ValueError) as error:
        raise InputError("record of a night is damaged", value=path, remedy="register the night again") from error


def is_registered(site: Site, night: int) -> bool:
    """Whether a night is registered."""
    return (night_folder(site, night) / RECORD).exists()


def registered_nights(site: Site) -> list[int]:
    """Return the registered nights, the earliest first."""
    names = (path.parent.name for path in site.nights.glob(f"*/{RECORD}"))
    return sorted(int(name) for name in names if len(name) == 8 and name.isdecimal() and name.isascii())
