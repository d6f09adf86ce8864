"""What a registered night is made of: a list that somebody gives, or the exposures that the site's raw files offer."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blocks.gw_events import current_skymap
from blocks.nights import is_registered, read_night
from blocks.raw_index import has_raw_files, raw_files
from blocks.site import Site
from deployments.events.alerts import is_alert, keep_raw, parse_alert, skymap_name, store_alert
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io import skymaps
from imaging.io.exposure_list import ListedExposure, read_given_list
from imaging.io.list_rows import bands_in
from imaging.templates.night_list import choose_exposures
from imaging.templates.night_selection import NightSelection
from tasks.imported import imported_list


@dataclass(frozen=True, slots=True)
class ChosenExposures:
    """The exposures of a night, and what was left.

    Attributes
    ----------
    listed
        The exposures.
    left
        Exposure number to the reason why it was left.
    notes
        What was taken and left, in words.
    """

    listed: tuple[ListedExposure, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def given_selection(
    base: NightSelection | None, bands: str, programs: tuple[str, ...], region: float | None
) -> NightSelection | None:
    """Return the settings of the choice; None if nothing was given.

    Parameters
    ----------
    base
        Settings of a file; None for the defaults.
    bands
        Names of bands in a row, with or without commas, such as ``gi`` or ``g,VR``.
    programs, region
        As in :class:`NightSelection`; they replace those of the file.

    Raises
    ------
    InputError
        If a setting is invalid.
    """
    changes: dict[str, object] = {}
    if bands:
        changes["bands"] = bands_in(bands)
    if programs:
        changes["programs"] = programs
    if region is not None:
        if not 0.0 < region <= 1.0:
            raise InputError("no such region", value=region, limit="a probability above 0, at most 1")
        changes["region"] = region
    if base is None and not changes:
        return None
    return (base or NightSelection()).with_values(**changes)


def event_and_skymap(site: Site, night: int, event: str | None, given: Path | None) -> tuple[str, Path]:
    """Return the event of a night and its sky map; an alert that is given as a file is stored.

    Parameters
    ----------
    site, night
        Site and night.
    event
        Name of the event; None for that of the alert, or of the registered night.
    given
        A sky map or an alert with one; None for the map of the event's newest alert.

    Raises
    ------
    InputError
        If nothing names the event, the alert is invalid or of another event, or there is no sky map.
    """
    if given is not None and given.is_file() and _is_alert(given):
        event, given = _stored_event(site, given, event), None
    if event is None and is_registered(site, night):
        event = read_night(site, night).record.event
    if event is None:
        raise InputError("nothing names the event of the night", value=night, remedy="give --event NAME")
    return event, _newest_skymap(site, event, night) if given is None else given


def _is_alert(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_alert(stream.read(256))


def _stored_event(site: Site, path: Path, event: str | None) -> str:
    """Store the alert of a file and return its event."""
    content = path.read_bytes()
    record, _ = parse_alert(content)
    if event is not None and event.strip() != record.superevent:
        raise InputError("the alert is of another event", value=f"{path}: {record.superevent}", limit=event)
    skymap_name(record, path)
    keep_raw(site, content)
    store_alert(site, content)
    return record.superevent


def _newest_skymap(site: Site, event: str, night: int) -> Path:
    """Return the sky map of the newest alert of an event, otherwise the one with which the night is registered."""
    newest = current_skymap(site, event.strip())
    if newest is not None:
        return newest[1]
    if is_registered(site, night):
        return read_night(site, night).skymap
    remedy = "give --skymap FILE, a sky map or an alert, or run gw-workflow listen"
    raise InputError("no alert of the event with a sky map is stored", value=event, remedy=remedy)


def given_exposures(
    site: Site, night: int, skymap: Path, exposures: Path | None, rules: NightSelection | None
) -> ChosenExposures:
    """Return the exposures of a list, or without a list those of the raw files that the settings allow.

    Parameters
    ----------
    site, night
        Site and night.
    skymap
        Sky map of the event.
    exposures
        The list; None to choose from the raw files.
    rules
        Settings of the choice; None for those of the registered night, or the defaults.

    Raises
    ------
    InputError
        If the list, the sky map or the index of raw files cannot be read.
    """
    if exposures is not None:
        given = read_given_list(exposures, raw_files(site).exposures() if has_raw_files(site) else {})
        return ChosenExposures(given.listed, notes=given.notes)
    if rules is None:
        stored = read_night(site, night).record.selection if is_registered(site, night) else None
        rules = NightSelection.model_validate(stored or {})
    if not skymap.is_file():
        raise InputError("sky map missing", value=skymap)
    known = raw_files(site).exposures()
    known |= {item.exposure.expnum: item.exposure for item in imported_list(site, role="search")}
    chosen = choose_exposures(known.values(), night, skymaps.read_skymap(skymap), rules)
    left = {str(expnum): why for expnum, why in {**chosen.left, **chosen.left_templates}.items()}
    notes = (
        _account("search exposures", chosen.search, chosen.left),
        _account("templates", chosen.templates, chosen.left_templates),
    )
    return ChosenExposures(tuple(ListedExposure(e) for e in (*chosen.templates, *chosen.search)), left, notes)


def _account(what: str, taken: Iterable[Exposure], left: Mapping[int, str]) -> str:
    """Return how many exposures were taken by band and how many left by reason."""
    bands, reasons = Counter(e.band for e in taken), Counter(left.values())
    text = f"{what}: {', '.join(f'{n} {band}' for band, n in sorted(bands.items())) or 'none'} taken"
    return text + (f"; left {', '.join(f'{n}: {why}' for why, n in reasons.most_common())}" if reasons else "")
