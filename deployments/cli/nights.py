"""Commands for a night: night, register-night, status, prepare-templates, rank."""

import os
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import (
    DEFAULTS,
    Common,
    Destination,
    Night,
    NightNumber,
    Overwrite,
    Pnum,
    Rnum,
    Schema,
    SettingsFile,
    Workers,
    find_site,
    read_settings,
    version_number,
)
from deployments.cli.output import Answer, table_lines
from deployments.cli.running import run_flow
from imaging.errors import InputError
from imaging.identity import check_night
from tasks.engine.events import emit
from tasks.requests import Version

if TYPE_CHECKING:
    from blocks.nights import RegisteredNight
    from blocks.site import Site
    from deployments.checks.status import SiteStatus
    from deployments.cli.options import FoundSite
    from imaging.candidates.settings import CandidateSettings
    from imaging.io.pointings import Pointing
    from tasks.prepare_templates import Preparation


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


def register_night(
    night: NightNumber,
    /,
    *,
    event: Annotated[str, Parameter(name="--event", help="Name of the gravitational-wave event.")],
    skymap: Annotated[Path, Parameter(name="--skymap", help="Sky map: FITS, multi-order or flat.")],
    exposures: Annotated[Path, Parameter(name="--exposures", help="Exposure list: comma-separated values.")],
    update: Annotated[
        bool, Parameter(name="--update", negative="", help="Add exposures or a new sky map to a registered night.")
    ] = False,
    force: Annotated[
        bool, Parameter(name="--force", negative="", help="Accept a sky map of an event that is years from the night.")
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Register a night: store it, copy the catalogue region of its sky map, announce it to the server."""
    from deployments.events import registry
    from deployments.events.prefetching import prefetch_remembered
    from imaging.io.skymaps import read_skymap
    from imaging.skymap.event_time import check_event_time
    from tasks.prepare_templates import mjd_of_night

    found = find_site(common)
    site = found.site
    notes: list[str] = []

    def check(path: Path) -> None:
        given = read_skymap(path)
        if not force:
            check_event_time(given, mjd_of_night(night))
        notes.extend(given.notes())

    registration = registry.register_night(
        site, night, event=event, skymap=skymap, exposures=exposures, check_skymap=check, update=update
    )
    if registration.changed:
        prefetch_remembered(site, read_skymap(registration.night.skymap), notes.append)
    record = registration.night.record
    runs = decide_if_possible(found, registration.night) if registration.changed else None
    document = {
        "command": "register-night",
        "changed": registration.changed,
        "announced": None if not registration.changed else runs is not None,
        "runs": runs,
        "prefetched": notes,
        **record.model_dump(mode="json"),
    }
    if not registration.changed:
        return Answer(document, (f"night {night} is already registered; nothing changed",))
    what = f"night {night}, {record.event}: {len(record.exposures)} exposures, {len(record.templates)} templates"
    return Answer(document, (f"{what}; revision {record.revision}; {starts(night, runs)}", *notes))


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
    interval: Annotated[float, Parameter(name="--interval", help="Seconds between two refreshes.")] = 2.0,
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


SHOWN = ("ra_deg", "dec_deg", "band", "n_ccds", "n_covered", "templates")


def prepare_templates(
    pointings: Annotated[Path, Parameter(help="Planned pointings: CSV or JSON with RA, Dec and band (or filter).")],
    /,
    *,
    night: Night,
    exposures: Annotated[
        Path | None, Parameter(name="--exposures", help="List of candidate templates; default: the raw files.")
    ] = None,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    destination: Destination = "persistent",
    schema: Schema = "gw",
    plan_only: Annotated[
        bool, Parameter(name="--plan", negative="", help="Only list the exposures that would be processed.")
    ] = False,
    announce: Annotated[
        bool, Parameter(name="--announce", negative="", help="Store the plan; the server processes it, now or at dusk.")
    ] = False,
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Process the templates of planned pointings before the observations, each once."""
    from flows.settings import NightSettings
    from imaging.io.pointings import read_pointings

    check_night(night)
    found, planned = find_site(common), read_pointings(pointings)
    version = Version(
        rnum=version_number(rnum, "r"), pnum=version_number(pnum, "p"), schema_name=schema, destination=destination
    )
    chosen = read_settings(settings, NightSettings).model_copy(update={"version": version})
    if announce:
        return _announce_plan(found.site, planned, night, exposures)
    if plan_only:
        from tasks.prepare_templates import known_exposures, mjd_of_night, plan_preparation

        listed = known_exposures(found.site.storing_in(destination), exposures)
        return _plan_answer(
            plan_preparation(planned, mjd_of_night(night), listed, version, chosen.difference.templates), night
        )

    parameters = {
        "pointings": planned,
        "night": night,
        "exposure_list": None if exposures is None else str(exposures.resolve()),
        "site": found.name,
        "settings": chosen,
        "overwrite": overwrite,
    }
    flow = "flows.preparation:prepare_templates"
    about = {"night": night, "pointings": len(planned)}
    return run_flow("prepare-templates", common, found.site, flow, parameters, workers=workers, about=about)


def _announce_plan(site: "Site", planned: "tuple[Pointing, ...]", night: int, exposures: Path | None) -> Answer:
    """Store a plan, and announce it to the server if one runs."""
    from blocks.plans import EVENT_NAME, PointingPlan, plan_path, store_plan
    from deployments.events.registry import RESOURCE
    from imaging.io.atomic import content_hash

    listed = None if exposures is None else str(exposures.resolve())
    store_plan(site, PointingPlan(night=night, pointings=planned, exposure_list=listed))
    event_id = uuid.uuid5(uuid.NAMESPACE_URL, f"gw-workflow/plan/{night}/{content_hash(plan_path(site, night))}")
    resource, about = RESOURCE.format(night=night), f"{len(planned)} pointings of night {night}"
    is_announced = emit_if_possible(
        site, lambda: emit(EVENT_NAME, event_id, resource, about=about, payload={"night": night})
    )
    document = {"command": "prepare-templates", "night": night, "n_pointings": len(planned), "announced": is_announced}
    when = "announced" if is_announced else "stored; the server processes it at dusk"
    return Answer(document, (f"{about}: {when}",))


def _plan_answer(plan: "Preparation", night: int) -> Answer:
    """Return the plan as a result."""
    rows = [
        item.pointing.model_dump()
        | {"n_ccds": item.n_ccds, "n_covered": item.n_covered, "templates": list(item.templates), "left": item.left}
        for item in plan.pointings
    ]
    needed = [request.expnum for request in plan.exposures]
    document = {"command": "prepare-templates", "night": night, "pointings": rows, "exposures": needed}
    shown = [[" ".join(map(str, r[k])) if k == "templates" else r[k] for k in SHOWN] for r in rows]
    return Answer(document, (*table_lines(SHOWN, shown), f"{len(needed)} exposures to process"))


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
