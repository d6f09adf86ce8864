"""The command report: candidates in the forms that other systems take, printed or written; nothing is sent."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from deployments.cli.nights import NightNumber
from deployments.cli.options import DEFAULTS, Common, Destination, find_site
from deployments.cli.output import Answer
from imaging.errors import InputError


def report(
    night: NightNumber,
    /,
    *,
    form: Annotated[Literal["avro", "skyportal", "tns"], Parameter(name="--form", help="For whom.")],
    where: Annotated[str | None, Parameter(name="--where", help="SQL condition that the candidates must meet.")] = None,
    best: Annotated[int, Parameter(name="--best", help="How many of the best that fit.")] = 10,
    settings: Annotated[
        Path | None, Parameter(name="--settings", help="JSON file that says who reports; see docs/candidates.md.")
    ] = None,
    output: Annotated[
        Path | None, Parameter(name="--output", help="Write the report to this file; without it, it is printed.")
    ] = None,
    destination: Destination = "persistent",
    common: Common = DEFAULTS,
) -> Answer:
    """Say of the best candidates what brokers, SkyPortal or the TNS are to be told; nothing is sent anywhere."""
    from deployments.candidates import ranked_table
    from deployments.reports import make_report, read_report_settings
    from deployments.selection import select_rows
    from imaging.io.atomic import write_text

    site = find_site(common).site.storing_in(destination)
    table = ranked_table(site, night)
    chosen = (table if where is None else select_rows(table, where)).slice(0, best)
    if not chosen.num_rows:
        raise InputError("no candidate fits", value=where or f"--best {best}")
    made = make_report(site, night, chosen, form, read_report_settings(settings))
    about: dict[str, Any] = {"command": "report", "night": night, "form": form, "n_candidates": chosen.num_rows}
    if output is None:
        text = json.dumps(made, indent=1, default=lambda value: f"<{len(value)} bytes>")
        return Answer(about | {"report": json.loads(text), "sent": False}, (text,))
    if form == "avro":
        from imaging.io.packets import write_packets

        write_packets(output, made)
    else:
        write_text(output, json.dumps(made, indent=1) + "\n")
    line = f"{chosen.num_rows} candidates written to {output}; nothing was sent"
    return Answer(about | {"file": str(output), "sent": False}, (line,))
