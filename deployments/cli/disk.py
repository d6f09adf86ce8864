"""The command tidy: remove the intermediate images of a night, compress those of earlier versions."""

from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, NightNumber, SettingsFile, Workers, find_site, read_settings
from deployments.cli.output import Answer
from deployments.cli.running import run_flow


def tidy(
    night: NightNumber,
    /,
    *,
    restore: Annotated[
        bool,
        Parameter(name="--restore", negative="", help="Have removed intermediate images computed by the next run."),
    ] = False,
    settings: SettingsFile = None,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Remove the intermediate images of a processed night and its templates; compress images of earlier versions."""
    from blocks.nights import read_night
    from flows.settings import NightSettings
    from tasks.night_plan import plan_night
    from tasks.tidy import forget_removed

    found, chosen = find_site(common), read_settings(settings, NightSettings)
    exposures = plan_night(read_night(found.site, night), chosen.version, chosen.difference.templates, found.site).all
    place = found.site.storing_in(chosen.version.destination)
    if restore:
        n = sum(forget_removed(request.exposure_id(), place) for request in exposures)
        lines = (f"{n} removed images; the next gw-workflow night {night} computes them, with tidy.enabled false",)
        return Answer({"command": "tidy", "night": night, "restored": n}, lines)
    parameters = {"night": night, "exposures": exposures, "site": found.name}
    answer = run_flow(
        "tidy", common, found.site, "flows.tidy:tidy_exposures", parameters, workers=workers, about={"night": night}
    )
    rows = answer.document["summary"].get("exposures", [])
    removed, before, after = (sum(row[name] for row in rows) for name in ("removed_gb", "before_gb", "after_gb"))
    line = f"{removed:.1f} GB removed, {before:.1f} GB compressed to {after:.1f} GB"
    return Answer(answer.document, (*answer.lines, line), answer.exit_code)
