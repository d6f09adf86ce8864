"""The command prepare-templates."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import (
    DEFAULTS,
    Common,
    Destination,
    Night,
    Overwrite,
    Pnum,
    Rnum,
    Schema,
    Workers,
    find_site,
    version_number,
)
from deployments.cli.output import Answer, table_lines
from deployments.cli.running import run_flow
from deployments.cli.settings_files import SettingsFile, read_settings
from imaging.identity import check_night
from tasks.engine.events import emit
from tasks.requests import Version

if TYPE_CHECKING:
    from blocks.site import Site
    from imaging.io.pointings import Pointing
    from tasks.prepare_templates import Preparation

SHOWN = ("ra_deg", "dec_deg", "band", "n_ccds", "n_covered", "templates")


def prepare_templates(
    pointings: Annotated[Path, Parameter(help="Planned pointings: CSV or JSON with RA, Dec and band (or filter).")],
    /,
    *,
    night: Night,
    exposures: Annotated[
        Path | None, Parameter(name="--exposures", help="List of exposures to choose from; the raw files without it.")
    ] = None,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    destination: Destination = "persistent",
    schema: Schema = "gw",
    plan_only: Annotated[
        bool, Parameter(name="--plan", negative="", help="Only say which exposures would be processed.")
    ] = False,
    announce: Annotated[
        bool, Parameter(name="--announce", negative="", help="Keep the plan and let the server do it, now or at dusk.")
    ] = False,
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Process the templates of planned pointings before the shutter opens, each once however many pointings need it."""
    from flows.settings import NightSettings
    from imaging.io.pointings import read_pointings

    check_night(night)
    found, planned = find_site(common), read_pointings(pointings)
    version = Version(
        rnum=version_number(rnum, "r"), pnum=version_number(pnum, "p"), schema_name=schema, destination=destination
    )
    chosen = read_settings(settings, NightSettings).model_copy(update={"version": version})
    if announce:
        return _announced(found.site, planned, night, exposures)
    if plan_only:
        from tasks.prepare_templates import known_exposures, mjd_of_night, plan_preparation

        listed = known_exposures(found.site.storing_in(destination), exposures)
        return _planned(
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


def _announced(site: "Site", planned: "tuple[Pointing, ...]", night: int, exposures: Path | None) -> Answer:
    """Keep a plan, and tell the server of it if there is one."""
    from blocks.plans import EVENT_NAME, PointingPlan, plan_path, store_plan
    from deployments.cli.nights import tell_server
    from deployments.registry import RESOURCE
    from imaging.io.atomic import content_hash

    listed = None if exposures is None else str(exposures.resolve())
    store_plan(site, PointingPlan(night=night, pointings=planned, exposure_list=listed))
    event_id = uuid.uuid5(uuid.NAMESPACE_URL, f"gw-workflow/plan/{night}/{content_hash(plan_path(site, night))}")
    resource, about = RESOURCE.format(night=night), f"{len(planned)} pointings of night {night}"
    told = tell_server(site, lambda: emit(EVENT_NAME, event_id, resource, about=about, payload={"night": night}))
    document = {"command": "prepare-templates", "night": night, "n_pointings": len(planned), "announced": told}
    when = "announced" if told else "kept; the server takes it up at dusk"
    return Answer(document, (f"{about}: {when}",))


def _planned(plan: "Preparation", night: int) -> Answer:
    """Say what would be done."""
    rows = [
        item.pointing.model_dump()
        | {"n_ccds": item.n_ccds, "n_covered": item.n_covered, "templates": list(item.templates), "left": item.left}
        for item in plan.pointings
    ]
    needed = [request.expnum for request in plan.exposures]
    document = {"command": "prepare-templates", "night": night, "pointings": rows, "exposures": needed}
    shown = [[" ".join(map(str, r[k])) if k == "templates" else r[k] for k in SHOWN] for r in rows]
    return Answer(document, (*table_lines(SHOWN, shown), f"{len(needed)} exposures to process"))
