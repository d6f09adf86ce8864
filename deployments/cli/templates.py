"""The command prepare-templates: process the templates of planned pointings."""

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
    SettingsFile,
    Workers,
    find_site,
    read_settings,
    version_number,
)
from deployments.cli.output import Answer, table_lines
from deployments.cli.registration import emit_if_possible
from deployments.cli.running import run_flow
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
