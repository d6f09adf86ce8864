"""Commands for a night: night, register-night, status, prepare-templates, rank."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import (
    ABOVE_ZERO,
    DEFAULTS,
    Common,
    Destination,
    NightNumber,
    Overwrite,
    SettingsFile,
    Workers,
    find_site,
    read_settings,
)
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from imaging.errors import InputError

if TYPE_CHECKING:
    from blocks.nights import RegisteredNight
    from blocks.site import Site
    from deployments.checks.status import SiteStatus
    from deployments.cli.options import FoundSite
    from deployments.events.night_choice import ChosenExposures
    from deployments.events.registry import Registration
    from imaging.candidates.settings import CandidateSettings


def night(
    night: NightNumber,
    /,
    *,
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Process a registered night: its exposures, their differences, the ranked candidates."""
    from blocks.nights import read_night
    from flows.settings import NightSettings

    found = find_site(common)
    chosen = {} if settings is None else {"settings": read_settings(settings, NightSettings)}
    read_night(found.site, night)

    parameters = {"night": night, "site": found.name, **chosen, "overwrite": overwrite}
    flow, about = "flows.night:process_night", {"night": night}
    return run_flow("night", common, found.site, flow, parameters, workers=workers, about=about)


NewestMap = Annotated[
    Path | None, Parameter(name="--skymap", help="Sky map, multi-order or flat; default: of the newest alert.")
]
ExposureList = Annotated[
    Path | None, Parameter(name="--exposures", help="Exposure list; default: chosen from the raw files.")
]
ChosenBands = Annotated[str, Parameter(name="--bands", help="Bands to choose, such as gi; default: all.")]
ChosenPrograms = Annotated[
    tuple[str, ...], Parameter(name="--program", help="Proposal to choose, such as 2022B-715089; repeatable.")
]
ChosenRegion = Annotated[
    float | None, Parameter(name="--region", help="Probability of the sky map's region to choose in.")
]
SelectionFile = Annotated[
    Path | None, Parameter(name="--selection", help="JSON file with settings of the choice of exposures.")
]


def register_night(
    night: NightNumber,
    /,
    *,
    event: Annotated[str, Parameter(name="--event", help="Name of the gravitational-wave event.")],
    skymap: NewestMap = None,
    exposures: ExposureList = None,
    bands: ChosenBands = "",
    program: ChosenPrograms = (),
    region: ChosenRegion = None,
    selection: SelectionFile = None,
    update: Annotated[
        bool, Parameter(name="--update", negative="", help="Add exposures or a new sky map to a registered night.")
    ] = False,
    force: Annotated[
        bool, Parameter(name="--force", negative="", help="Accept a sky map of an event that is years from the night.")
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Register a night: store it, copy the catalogue region of its sky map, announce it to the server."""
    from deployments.events import night_choice, registry
    from deployments.events.prefetching import prefetch_remembered
    from imaging.io.skymaps import read_skymap
    from imaging.skymap.event_time import check_event_time
    from imaging.templates.night_selection import NightSelection
    from tasks.prepare_templates import mjd_of_night

    found = find_site(common)
    site = found.site
    notes: list[str] = []

    def check(path: Path) -> None:
        given = read_skymap(path)
        if not force:
            check_event_time(given, mjd_of_night(night))
        notes.extend(given.notes())

    base = None if selection is None else read_settings(selection, NightSelection)
    rules = night_choice.given_selection(base, bands, program, region)
    skymap = night_choice.skymap_of(site, event, night) if skymap is None else skymap
    chosen = night_choice.given_exposures(site, night, skymap, exposures, rules)
    registration = registry.register_night(
        site,
        night,
        event=event,
        skymap=skymap,
        exposures=chosen.listed,
        check_skymap=check,
        update=update,
        selection=rules,
        may_be_empty=exposures is None,
    )
    if registration.changed:
        prefetch_remembered(site, read_skymap(registration.night.skymap), notes.append)
    return registration_answer(found, registration, chosen, notes)


def registration_answer(
    found: "FoundSite", registration: "Registration", chosen: "ChosenExposures", notes: list[str]
) -> Answer:
    """Create the runs that are due after a registration; return its result.

    Parameters
    ----------
    found
        The site.
    registration
        The registered night.
    chosen
        Its exposures, and what was left.
    notes
        What else is to be told.
    """
    record = registration.night.record
    runs = decide_if_possible(found, registration.night) if registration.changed else None
    document = {
        "command": "register-night",
        "changed": registration.changed,
        "announced": None if not registration.changed else runs is not None,
        "runs": runs,
        "prefetched": notes,
        "left": chosen.left,
        "notes": chosen.notes,
        **record.model_dump(mode="json"),
    }
    told = (*chosen.notes, *notes)
    if not registration.changed:
        return Answer(document, (f"night {record.night} is already registered; nothing changed", *told))
    what = f"night {record.night}, {record.event}: {len(record.exposures)} exposures, {len(record.templates)} templates"
    return Answer(document, (f"{what}; revision {record.revision}; {starts(record.night, runs)}", *told))


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


def status(
    night: NightNumber | None = None,
    /,
    *,
    watch: Annotated[
        bool, Parameter(name="--watch", negative="", help="Refresh until nothing runs, or until interrupted.")
    ] = False,
    interval: Annotated[
        float, Parameter(name="--interval", validator=ABOVE_ZERO, help="Seconds between two refreshes.")
    ] = 2.0,
    common: Common = DEFAULTS,
) -> Answer:
    """Show the progress of the exposures: steps done, failures with reasons, running flows."""
    from deployments.checks.status import site_status

    site = find_site(common).site
    if watch and not common.json:
        watch_status(lambda: site_status(site, night), interval)
    report = site_status(site, night)
    return Answer({"command": "status", **report.document()}, () if watch else report.lines())


def watch_status(look: Callable[[], "SiteStatus"], interval_s: float) -> None:
    """Refresh the status in place until nothing runs, or until interrupted.

    Parameters
    ----------
    look
        Returns the status.
    interval_s
        Seconds between two refreshes.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with suppress(KeyboardInterrupt), Live(console=Console(), auto_refresh=False) as shown:
        while True:
            report = look()
            shown.update(Text("\n".join(report.lines())), refresh=True)
            if not report.running:
                return
            time.sleep(interval_s)


Weights = Annotated[
    tuple[str, ...],
    Parameter(name="--weight", help="Weight of a part, such as skymap=2; repeatable."),
]


def rank(
    night: NightNumber,
    /,
    *,
    skymap: Annotated[Path | None, Parameter(name="--skymap", help="New sky map of the night.")] = None,
    weight: Weights = (),
    announce: Annotated[
        bool, Parameter(name="--announce", negative="", help="Only store the new map; the server ranks.")
    ] = False,
    destination: Destination = "persistent",
    overwrite: Overwrite = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Rank the candidates of a processed night again, from its tables, without processing images."""
    from tasks.ranked_tables import last_settings

    found = find_site(common)
    place = found.site.storing_in(destination)
    settings = None if not weight else weighted(last_settings(night, place), weight)
    file = None if skymap is None else str(skymap.resolve())
    if announce:
        if file is None or weight:
            raise InputError("--announce needs a sky map and takes no weights", remedy="give --skymap FILE alone")
        return announce_skymap(found, night, Path(file))

    parameters = {
        "night": night,
        "skymap": file,
        "site": found.name,
        "settings": settings,
        "destination": destination,
        "overwrite": overwrite,
    }
    about = {"night": night, "skymap": file}
    return run_flow("rank", common, found.site, "flows.ranking:rank_night", parameters, about=about)


def weighted(settings: "CandidateSettings", weights: tuple[str, ...]) -> "CandidateSettings":
    """Return settings with some weights of the rank changed.

    Parameters
    ----------
    settings
        The settings.
    weights
        Texts such as ``skymap=2``.

    Raises
    ------
    InputError
        If a part is unknown or a weight is not a number.
    """
    from imaging.candidates.rank import PARTS

    changes = {}
    for text in weights:
        part, _, number = text.partition("=")
        try:
            changes[f"weight_{part}"] = float(number)
        except ValueError:
            part = ""
        if part not in PARTS:
            raise InputError("invalid weight", value=text, limit=f"PART=NUMBER, PART of {', '.join(PARTS)}")
    return settings.with_values(rank=settings.rank.with_values(**changes))


def announce_skymap(found: "FoundSite", night: int, skymap: Path) -> Answer:
    """Store a new sky map of a night; the server ranks its candidates, now or when it runs again.

    Raises
    ------
    InputError
        If the night is not registered, or the file is not a sky map.
    """
    from blocks.skymaps import adopt_skymap

    registered = adopt_skymap(found.site, night, skymap)
    record, runs = registered.record, decide_if_possible(found, registered)
    document = {"command": "rank", "announced": runs is not None, "runs": runs, "night": night, "skymap": str(skymap)}
    return Answer(
        document, (f"night {night}: {skymap.name} stored, revision {record.revision}; {starts(night, runs)}",)
    )
