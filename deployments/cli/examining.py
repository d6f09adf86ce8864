"""Commands that look at a site: doctor, timings."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer, table_lines
from tasks.engine.jobs import ExitCode


def doctor(*, common: Common = DEFAULTS) -> Answer:
    """Check what a night needs: server, workers, disk, calibrations, reference stars, templates; exit code 3 if bad."""
    from deployments.doctor import examine, summary

    findings = examine(find_site(common).site)
    counts = summary(findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:8}{finding.check}: {finding.found}")
        if finding.remedy:
            lines.append(f"{'':8}to do: {finding.remedy}")
    lines.append(f"{counts['good']} good, {counts['warning']} warnings, {counts['bad']} bad")
    document = {"command": "doctor", "findings": [finding.document() for finding in findings], "counts": counts}
    return Answer(document, lines, ExitCode.FAILED if counts["bad"] else ExitCode.COMPLETE)


def timings(
    night: Annotated[int | None, Parameter(help="Night, YYYYMMDD; everything without it.")] = None,
    /,
    *,
    to: Annotated[Path, Parameter(name="--to", help="Parquet file to write.")] = Path("timings.parquet"),
    common: Common = DEFAULTS,
) -> Answer:
    """Write what every step of every CCD has cost as Parquet: seconds, memory, bytes; sums by step are shown."""
    import pyarrow.compute as pc

    from deployments.timings import write_timings

    table = write_timings(find_site(common).site, to, night)
    sums = table.group_by("step").aggregate(
        [("cpu_s", "count"), ("cpu_s", "sum"), ("wall_s", "max"), ("peak_memory_mb", "max")]
    )
    rows = sums.take(pc.sort_indices(sums, [("cpu_s_sum", "descending")])).to_pylist()
    columns = {"step": "step", "cpu_s_count": "n", "cpu_s_sum": "cpu_s", "wall_s_max": "longest_s"}
    columns |= {"peak_memory_mb_max": "peak_memory_mb"}
    steps = [{name: row[key] for key, name in columns.items()} for row in rows]
    lines = table_lines(list(columns.values()), [list(step.values()) for step in steps])
    document = {"command": "timings", "file": str(to), "n_rows": table.num_rows, "steps": steps}
    return Answer(document, (*lines, f"{table.num_rows} rows in {to}"))
