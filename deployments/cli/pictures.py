"""The command candidate-pictures."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.nights import NightNumber
from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer


def candidate_pictures(
    night: NightNumber,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Folder to write into; pictures, beside the list.")
    ] = None,
    limit: Annotated[int, Parameter(name="--limit", help="How many of the best to draw.")] = 20,
    common: Common = DEFAULTS,
) -> Answer:
    """Draw the best candidates of a night, one PNG each: search, template and difference above the light curve."""
    from deployments.candidate_pictures import write_candidate_pictures
    from deployments.candidates import candidate_table

    site = find_site(common).site
    folder = output or candidate_table(site, night).with_name("pictures")
    paths = write_candidate_pictures(site, night, folder, limit)
    document = {"command": "candidate-pictures", "night": night, "pictures": [str(path) for path in paths]}
    return Answer(document, (f"{len(paths)} pictures written to {folder}",))
