"""Commands for a night: night, register-night, status, candidates."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, Overwrite, Workers, find_site
from deployments.cli.output import Answer, table_lines
from deployments.cli.running import chosen_cluster, run_flow

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from blocks.site import Site
    from deployments.registry import Registration

NightNumber = Annotated[int, Parameter(help="Local date at the beginning of the night, YYYYMMDD.")]


def night(
    night: NightNumber, /, *, overwrite: Overwrite = False, workers: Workers = None, common: Common = DEFAULTS
) -> Answer:
    """Process a registered night: its exposures, their differences, the ranked candidates."""
    from blocks.nights import read_night

    found = find_site(common)
    read_night(found.site, night)

    def call() -> "State[Any]":
        from flows.night import process_night

        with chosen_cluster(workers):
            return process_night(night, None, site=found.name, overwrite=overwrite, return_state=True)

    return run_flow("night", common, found.site, call, night=night)


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
    common: Common = DEFAULTS,
) -> Answer:
    """Store a night and announce it to the server, which starts its processing."""
    from deployments import registry
    from imaging.io.skymaps import read_skymap

    site = find_site(common).site
    registration = registry.register_night(
        site, night, event=event, skymap=skymap, exposures=exposures, check_skymap=read_skymap, update=update
    )
    announced = announce_if_possible(site, registration) if registration.changed else None
    record = registration.night.record
    document = {
        "command": "register-night",
        "changed": registration.changed,
        "announced": announced,
        **record.model_dump(mode="json"),
    }
    if not registration.changed:
        return Answer(document, (f"night {night} is registered already, nothing has changed",))
    what = f"night {night}, {record.event}: {len(record.exposures)} exposures, {len(record.templates)} templates"
    where = "announced" if announced else "will be announced when gw-workflow serve runs"
    return Answer(document, (f"{what}; revision {record.revision}; {where}",))


def announce_if_possible(site: "Site", registration: "Registration") -> bool:
    """Announce a night to the server of ``PREFECT_API_URL`` or to the site's own; False if none takes it now."""
    from deployments.registry import announce
    from deployments.server import is_healthy, known_address, server_for

    named = os.environ.get("PREFECT_API_URL")
    if not (is_healthy(named) if named else known_address(site)):
        return False
    try:
        with server_for(site):
            announce(registration.night)
    except Exception as error:  # noqa: BLE001 (whatever went wrong, the night is stored and is announced later)
        sys.stderr.write(f"gw-workflow: the server did not take the announcement ({type(error).__name__}: {error})\n")
        return False
    return True


def status(night: NightNumber | None = None, /, *, common: Common = DEFAULTS) -> Answer:
    """Tell how far the exposures have come: stages done, what failed and why, what is running."""
    from deployments.status import site_status

    report = site_status(find_site(common).site, night)
    return Answer({"command": "status", **report.document()}, report.lines())


def candidates(
    night: NightNumber,
    /,
    *,
    limit: Annotated[int, Parameter(name="--limit", help="How many of the best to show.")] = 20,
    common: Common = DEFAULTS,
) -> Answer:
    """List the ranked candidates of a night."""
    from deployments.candidates import read_candidates

    rows = read_candidates(find_site(common).site, night)
    columns = ("rank", "candidate_id", "ra", "dec", "n_detections", "mag_first", "mag_last", "real_score", "rank_score")
    best = rows[:limit]
    lines = table_lines(columns, [[row[name] for name in columns] for row in best])
    return Answer(
        {"command": "candidates", "night": night, "n_candidates": len(rows), "candidates": best},
        (*lines, f"{len(rows)} candidates"),
    )
