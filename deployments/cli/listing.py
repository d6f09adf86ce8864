"""The command candidates: a night's ranked list in the terminal and as files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.nights import NightNumber
from deployments.cli.options import DEFAULTS, Common, Destination, find_site
from deployments.cli.output import Answer, table_lines

SHOWN = "rank,candidate_id,ra,dec,n_detections,mag_first,mag_last,real_score,rank_score"


def candidates(
    night: NightNumber,
    /,
    *,
    where: Annotated[
        str | None, Parameter(name="--where", help='SQL condition, such as "mag_last < 22 AND n_detections > 1".')
    ] = None,
    limit: Annotated[int, Parameter(name="--limit", help="How many of the best to show.")] = 20,
    columns: Annotated[str, Parameter(name="--columns", help="Columns to show, comma separated.")] = SHOWN,
    output: Annotated[
        Path | None, Parameter(name="--output", help="Write all that fit to a file: .parquet, .csv or .reg.")
    ] = None,
    destination: Destination = "persistent",
    common: Common = DEFAULTS,
) -> Answer:
    """List the ranked candidates of a night, or write them to a file."""
    from deployments.candidates import chosen_columns, ranked_table, write_selection
    from deployments.selection import select_rows

    table = ranked_table(find_site(common).site.storing_in(destination), night)
    fits = table if where is None else select_rows(table, where)
    if output is not None:
        write_selection(output, fits)
    names = chosen_columns(table, columns)
    best = fits.slice(0, limit).to_pylist()
    lines = table_lines(names, [[row[name] for name in names] for row in best])
    total = f"{table.num_rows} candidates" if where is None else f"{fits.num_rows} of {table.num_rows} candidates"
    document = {"command": "candidates", "night": night, "n_candidates": fits.num_rows, "candidates": best}
    if output is not None:
        return Answer(document | {"file": str(output)}, (f"{total} written to {output}",))
    return Answer(document, (*lines, total))
