"""Register nights: store their event, sky map and exposure list.

Registering only writes files. :mod:`deployments.events.decisions` compares them with what has run and creates the runs.
"""

import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.gw_events import current_skymap
from blocks.nights import EVENT_NAME, RECORD, NightRecord, RegisteredNight, night_folder, read_night
from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import check_event, check_night
from imaging.io.atomic import atomic_path, content_hash, storage_error
from imaging.io.exposure_list import ListedExposure, read_exposure_list, write_exposure_list
from imaging.io.locks import locked
from imaging.io.sealed import write_sealed
from imaging.templates.night_selection import NightSelection
from tasks.engine.events import emit

RESOURCE = "gw.night.{night}"
"""Resource of a night in Prefect's events."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of registering a night.

    Attributes
    ----------
    night
        The registered night.
    changed
        Whether a new revision was stored.
    """

    night: RegisteredNight
    changed: bool


def register_night(
    site: Site,
    night: int,
    *,
    event: str,
    skymap: Path,
    exposures: Path | Sequence[ListedExposure],
    check_skymap: Callable[[Path], object],
    update: bool = False,
    selection: NightSelection | None = None,
    may_be_empty: bool = False,
) -> Registration:
    """Store a night: its event, and copies of its sky map and exposure list.

    Parameters
    ----------
    site, night, event
        Site of the registry, local date at the beginning of the night, YYYYMMDD, and gravitational-wave event.
    skymap
        File to copy.
    exposures
        A list, or the exposures themselves; those of other nights are templates.
    check_skymap
        Raises ``InputError`` if the sky map cannot be read.
    update
        Whether the night may be registered already; then the exposures are added to the known ones, and the sky map
        replaces the known one.
    selection
        By what exposures that nobody listed are taken; None for the known settings or the defaults.
    may_be_empty
        Whether no exposure of the night need be there yet.

    Raises
    ------
    InputError
        If a file cannot be read, a list has no exposure of the night, or the night is registered and ``update`` is
        False.
    StorageError
        If the registry cannot be written.
    """
    check_night(night)
    event = check_event(event.strip())
    listed = read_exposure_list(exposures) if isinstance(exposures, Path) else tuple(exposures)
    if not Path(skymap).is_file():
        raise InputError("sky map missing", value=skymap)
    check_skymap(skymap)
    folder = night_folder(site, night)
    try:
        with locked(folder / "registering.lock"):
            known = read_night(site, night) if (folder / RECORD).exists() else None
            if known is not None:
                _check_update(known, event, update=update)
            listed = _merged(known.listed() if known else (), listed)
            programs = set() if may_be_empty else _programs(listed, night)
            stored = _stored(selection, known, programs)
            return _register(site, night, event, Path(skymap), listed, known=known, selection=stored)
    except OSError as error:
        raise storage_error(error, folder) from error


def _register(
    site: Site,
    night: int,
    event: str,
    skymap: Path,
    listed: tuple[ListedExposure, ...],
    *,
    known: RegisteredNight | None,
    selection: dict[str, Any] | None,
) -> Registration:
    search = tuple(sorted(item.exposure.expnum for item in listed if item.exposure.night == night))
    folder = night_folder(site, night)
    revision = known.record.revision + 1 if known else 1
    list_name, map_name = f"exposures-{revision}.csv", f"skymap-{revision}{''.join(skymap.suffixes[-2:])}"
    write_exposure_list(folder / list_name, listed)
    with atomic_path(folder / map_name) as temporary:
        shutil.copyfile(skymap, temporary)
    newest = current_skymap(site, event)
    record = NightRecord(
        night=night,
        event=event,
        revision=revision,
        skymap=map_name,
        skymap_hash=content_hash(folder / map_name),
        exposure_list=list_name,
        exposures=search,
        templates=tuple(sorted({item.exposure.expnum for item in listed} - set(search))),
        exposure_list_hash=content_hash(folder / list_name),
        registration=known.record.registration if known else uuid.uuid4().hex,
        list_revision=revision,
        alert=newest[0].name if newest else "",
        selection=selection,
    )
    if known is not None and _same_content(known.record, record):
        (folder / list_name).unlink()
        (folder / map_name).unlink()
        return Registration(known, changed=False)
    if known is not None and known.record.exposure_list_hash == record.exposure_list_hash:
        record = record.model_copy(update={"list_revision": known.record.list_revision})
    write_sealed(folder / RECORD, record.model_dump_json(indent=1) + "\n")
    return Registration(RegisteredNight(site, record), changed=True)


def add_to_night(site: Site, night: int, listed: Iterable[ListedExposure]) -> RegisteredNight:
    """Add exposures to the list of a registered night, as if they had been listed and had arrived late.

    The revision of the list stays, so that a night that a person has cancelled is not started by what arrives.

    Raises
    ------
    InputError
        If the night is not registered.
    StorageError
        If the registry cannot be written.
    """
    folder = night_folder(site, night)
    try:
        with locked(folder / "registering.lock"):
            known = read_night(site, night)
            merged = _merged(tuple(listed), known.listed())  # what is listed stays as it is
            numbers = {item.exposure.expnum: item.exposure.night == night for item in merged}
            if set(numbers) == {*known.record.exposures, *known.record.templates}:
                return known
            revision = known.record.revision + 1
            name = f"exposures-{revision}.csv"
            write_exposure_list(folder / name, merged)
            changes = {
                "revision": revision,
                "exposure_list": name,
                "exposure_list_hash": content_hash(folder / name),
                "exposures": tuple(expnum for expnum, is_search in numbers.items() if is_search),
                "templates": tuple(expnum for expnum, is_search in numbers.items() if not is_search),
            }
            record = known.record.model_copy(update=changes)
            write_sealed(folder / RECORD, record.model_dump_json(indent=1) + "\n")
            return RegisteredNight(site, record)
    except OSError as error:
        raise storage_error(error, folder) from error


def _stored(
    selection: NightSelection | None, known: RegisteredNight | None, programs: set[str]
) -> dict[str, Any] | None:
    """Return the settings as the record holds them: those given, the known ones or the defaults, with the programs."""
    former = known.record.selection if known else {}
    stored = former if selection is None else selection.model_dump(mode="json", exclude_defaults=True)
    if stored is None:
        return None
    listed = sorted({*(former or {}).get("list_programs", ()), *stored.get("list_programs", ()), *programs})
    return stored | ({"list_programs": listed} if listed else {})


def _programs(listed: Iterable[ListedExposure], night: int) -> set[str]:
    """Return the proposals of a list's search exposures.

    Raises
    ------
    InputError
        If the list has no exposure of the night.
    """
    items = tuple(listed)
    nights = sorted({item.exposure.night for item in items})
    if night not in nights:
        raise InputError(
            "exposure list has no exposure of the night",
            value=f"night {night}; the list has {', '.join(map(str, nights)) or 'none'}",
            remedy="give the night of the list's column NITE",
        )
    return {item.exposure.propid for item in items if item.exposure.night == night} - {""}


def _check_update(known: RegisteredNight, event: str, *, update: bool) -> None:
    if not update:
        raise InputError(
            "night is already registered",
            value=f"{known.record.night} for {known.record.event}, revision {known.record.revision}",
            remedy="give --update to add exposures or a new sky map",
        )
    if event != known.record.event:
        raise InputError("night is registered for another event", value=event, limit=known.record.event)


def _same_content(one: NightRecord, other: NightRecord) -> bool:
    names = ("skymap_hash", "exposure_list_hash", "selection")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _merged(known: tuple[ListedExposure, ...], new: tuple[ListedExposure, ...]) -> tuple[ListedExposure, ...]:
    """Merge two lists; a new line replaces the known line of the same exposure."""
    by_number = {item.exposure.expnum: item for item in (*known, *new)}
    return tuple(by_number[number] for number in sorted(by_number))


def announce(night: RegisteredNight) -> None:
    """Emit the event of a night's latest revision to the server that Prefect's settings name.

    The event is a hint for the watcher and for automations of the user; no run depends on it.

    Raises
    ------
    Exception
        If the server does not accept the event.
    """
    record = night.record
    resource = RESOURCE.format(night=record.night)
    emit(EVENT_NAME, record.event_id, resource, about=record.event, payload=record.payload())
