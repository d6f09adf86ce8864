"""The command register-night, and the options with which ``night`` registers one too."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, NightNumber, find_site, read_settings
from deployments.cli.output import Answer

if TYPE_CHECKING:
    from blocks.nights import RegisteredNight
    from blocks.site import Site
    from deployments.cli.options import FoundSite
    from deployments.events.night_choice import ChosenExposures
    from deployments.events.registry import Registration


@Parameter(name="*")
@dataclass(frozen=True)
class GivenNight:
    """What a night is registered with.

    Attributes
    ----------
    event
        Name of the gravitational-wave event; default: that of the alert.
    skymap
        Sky map, multi-order or flat, or an alert with one (JSON, Avro); default: of the newest alert.
    exposures
        Exposure list; default: chosen from the raw files.
    bands
        Bands to choose, such as gi; default: all.
    program
        Proposal to choose, such as 2022B-715089; repeatable.
    region
        Probability of the sky map's region to choose in.
    selection
        JSON file with settings of the choice of exposures.
    force
        Accept a sky map of an event that is years from the night.
    """

    event: Annotated[str | None, Parameter(name="--event")] = None
    skymap: Annotated[Path | None, Parameter(name="--skymap")] = None
    exposures: Annotated[Path | None, Parameter(name="--exposures")] = None
    bands: Annotated[str, Parameter(name="--bands")] = ""
    program: Annotated[tuple[str, ...], Parameter(name="--program")] = ()
    region: Annotated[float | None, Parameter(name="--region")] = None
    selection: Annotated[Path | None, Parameter(name="--selection")] = None
    force: Annotated[bool, Parameter(name="--force", negative="")] = False


NOTHING_GIVEN = GivenNight()
"""A night without any of these options."""


@dataclass(frozen=True)
class Registered:
    """The result of a registration.

    Attributes
    ----------
    registration
        The registered night.
    chosen
        Its exposures, and what was left.
    notes
        What else is to be told.
    """

    registration: "Registration"
    chosen: "ChosenExposures"
    notes: tuple[str, ...]

    def line(self) -> str:
        """Return the night in a sentence."""
        record = self.registration.night.record
        if not self.registration.changed:
            return f"night {record.night} is already registered; nothing changed"
        size = f"{len(record.exposures)} exposures, {len(record.templates)} templates"
        return f"night {record.night}, {record.event}: {size}; revision {record.revision}"

    def told(self) -> tuple[str, ...]:
        """Return what was taken and left, and what else is to be told."""
        return (*self.chosen.notes, *self.notes)


def registered(found: "FoundSite", night: int, given: GivenNight, *, update: bool) -> Registered:
    """Store a night, and copy the catalogue region of its sky map.

    Parameters
    ----------
    found, night
        Site and night.
    given
        The options.
    update
        Whether the night may be registered already.

    Raises
    ------
    InputError
        If an option is invalid, a file cannot be read, or nothing says which event or sky map it is.
    """
    from blocks.gw_events import is_retracted
    from deployments.events import night_choice, registry
    from deployments.events.prefetching import prefetch_remembered
    from imaging.io.skymaps import read_skymap
    from imaging.skymap.event_time import check_event_time
    from imaging.templates.night_selection import NightSelection
    from tasks.prepare_templates import mjd_of_night

    site = found.site
    notes: list[str] = []

    def check(path: Path) -> None:
        read = read_skymap(path)
        if not given.force:
            check_event_time(read, mjd_of_night(night))
        notes.extend(read.notes())

    base = None if given.selection is None else read_settings(given.selection, NightSelection)
    rules = night_choice.given_selection(base, given.bands, given.program, given.region)
    event, skymap = night_choice.event_and_skymap(site, night, given.event, given.skymap)
    if is_retracted(site, event):
        notes.append(f"{event} is retracted by its newest alert")
    chosen = night_choice.given_exposures(site, night, skymap, given.exposures, rules)
    registration = registry.register_night(
        site,
        night,
        event=event,
        skymap=skymap,
        exposures=chosen.listed,
        check_skymap=check,
        update=update,
        selection=rules,
        may_be_empty=given.exposures is None,
    )
    if registration.changed:
        prefetch_remembered(site, read_skymap(registration.night.skymap), notes.append)
    return Registered(registration, chosen, tuple(notes))


def register_night(
    night: NightNumber,
    /,
    *,
    given: GivenNight = NOTHING_GIVEN,
    update: Annotated[
        bool, Parameter(name="--update", negative="", help="Add exposures or a new sky map to a registered night.")
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Register a night: store it, copy the catalogue region of its sky map, announce it to the server."""
    found = find_site(common)
    done = registered(found, night, given, update=update)
    registration, line = done.registration, done.line()
    runs = decide_if_possible(found, registration.night) if registration.changed else None
    document: dict[str, Any] = {
        "command": "register-night",
        "changed": registration.changed,
        "announced": None if not registration.changed else runs is not None,
        "runs": runs,
        "prefetched": list(done.notes),
        "left": done.chosen.left,
        "notes": done.chosen.notes,
        **registration.night.record.model_dump(mode="json"),
    }
    if registration.changed:
        line += f"; {starts(night, runs)}"
    return Answer(document, (line, *done.told()))


def decide_if_possible(found: "FoundSite", night: "RegisteredNight") -> list[str] | None:
    """Create the runs that are due on the server of ``PREFECT_API_URL`` or the site's own; None if none answers.

    Parameters
    ----------
    found
        The site.
    night
        A night that has changed; its event is emitted.

    Returns
    -------
    runs
        Names of the created runs, or why none was created for the night.
    """
    from deployments.events.registry import announce
    from deployments.events.watching import decide_now

    created: list[str] = []

    def decide() -> None:
        look = decide_now(found.site, found.name)
        reasons = look.held | look.errors
        created.extend(look.created or [reasons[n] for n in reasons if n == night.record.night])
        announce(night)

    return created if emit_if_possible(found.site, decide) else None


def starts(night: int, runs: list[str] | None) -> str:
    """Return how the run of a night starts, as a part of a sentence."""
    if runs is None:
        return "no server runs; gw-workflow serve will start it"
    return ", ".join(runs) or f"no new run is due for night {night}; see gw-workflow status"


def emit_if_possible(site: "Site", emit_event: Callable[[], object]) -> bool:
    """Emit an event to the server of ``PREFECT_API_URL`` or to the site's own; False if none accepts it now.

    Parameters
    ----------
    site
        The site.
    emit_event
        Emits the event to the server that Prefect's settings name.
    """
    from deployments.server.server import is_healthy, known_address, server_for

    named = os.environ.get("PREFECT_API_URL")
    if not (is_healthy(named) if named else known_address(site)):
        return False
    try:
        with server_for(site):
            emit_event()
    except Exception as error:  # noqa: BLE001 (it is stored, and announced later)
        sys.stderr.write(f"gw-workflow: the server did not accept the announcement ({type(error).__name__}: {error})\n")
        return False
    return True
