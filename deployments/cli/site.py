"""Commands that examine a site: doctor, timings, cache."""

import os
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer, table_lines
from imaging.identity import check_night
from tasks.engine.jobs import ExitCode


def doctor(
    night: Annotated[int | None, Parameter(help="Night, YYYYMMDD; default: all registered ones.")] = None,
    /,
    *,
    common: Common = DEFAULTS,
) -> Answer:
    """Check server, workers, disk, calibrations, reference stars and templates; exit code 3 if a check is bad."""
    from deployments.checks.doctor import examine, summary

    if night is not None:
        check_night(night)
    findings = examine(find_site(common).site, night)
    counts = summary(findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:8}{finding.check}: {finding.found}")
        if finding.remedy:
            lines.append(f"{'':8}to do: {finding.remedy}")
    lines.append(f"{counts['good']} good, {counts['warning']} warnings, {counts['bad']} bad")
    here = "" if common.site == DEFAULTS.site else f" --site {shlex.quote(common.site)}"
    commands = list(dict.fromkeys(f"{command}{here}" for finding in findings for command in finding.commands))
    if commands:
        lines += ["", "commands that bring what is missing:", *(f"    {command}" for command in commands)]
    document = {"command": "doctor", "findings": [finding.document() for finding in findings], "counts": counts}
    document["commands"] = commands
    return Answer(document, lines, ExitCode.FAILED if counts["bad"] else ExitCode.COMPLETE)


def share(
    group: Annotated[str, Parameter(help="Name or number of the group, of which you are a member.")],
    /,
    *,
    common: Common = DEFAULTS,
) -> Answer:
    """Share the site with a Unix group: its members may do everything, other users nothing."""
    from blocks import sharing
    from deployments.server.server import is_running
    from imaging.errors import InputError

    found = find_site(common)
    if is_running(found.site):
        raise InputError("the site's server runs", value=found.name, remedy="stop serve and what uses it, then share")
    left = sharing.share(found.site, group)
    lines = (f"{found.name} is shared with the group {group}", *left)
    return Answer({"command": "share", "site": found.name, "group": group, "left": left}, lines)


def backup(
    file: Annotated[Path, Parameter(help="File to write; it must not exist.")], /, *, common: Common = DEFAULTS
) -> Answer:
    """Write what the site cannot compute again to one file: database, nights, alerts, ledger, secrets, certificates."""
    from deployments.maintenance.backup import DATABASE, back_up
    from deployments.server.database import VARIABLE

    names = back_up(find_site(common).site, file)
    lines = [f"{len(names)} files in {file}; keep it as secret as a password"]
    if os.environ.get(VARIABLE) or DATABASE not in names:
        lines.append(f"without the database of {VARIABLE}, or the site has none: use pg_dump")
    return Answer({"command": "backup", "file": str(file), "files": names}, lines)


def restore(file: Annotated[Path, Parameter(help="Backup to read.")], /, *, common: Common = DEFAULTS) -> Answer:
    """Restore the state of a site from a backup; files that exist are not replaced."""
    from deployments.maintenance import backup as backups

    found = find_site(common)
    names = backups.restore(found.site, file)
    lines = (f"{len(names)} files restored to {found.site.state}", "steps whose records are gone are computed again")
    return Answer({"command": "restore", "site": found.name, "files": names}, lines)


def timings(
    night: Annotated[int | None, Parameter(help="Night, YYYYMMDD; default: everything.")] = None,
    /,
    *,
    to: Annotated[Path, Parameter(name="--to", help="Parquet file to write.")] = Path("timings.parquet"),
    common: Common = DEFAULTS,
) -> Answer:
    """Write time, memory and bytes of every step of every CCD as Parquet; print the sums by step."""
    import pyarrow.compute as pc

    from deployments.maintenance.step_records import write_timings

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


cache = App(name="cache", help="List, verify and prune the records of cached steps.", help_format="plaintext")


@cache.command(name="list")
def list_records(*, common: Common = DEFAULTS) -> Answer:
    """List the records of cached steps and the size of their products, by exposure and step."""
    from deployments.maintenance.step_records import all_records

    counts: dict[tuple[str, str], list[int]] = {}
    for record in all_records(find_site(common).site):
        entry = counts.setdefault((record.subject, record.step), [0, 0])
        entry[0] += 1
        entry[1] += record.size
    rows = [
        {"subject": subject, "step": step, "records": n, "size_mb": round(size / 2**20, 1)}
        for (subject, step), (n, size) in counts.items()
    ]
    columns = ("subject", "step", "records", "size_mb")
    lines = table_lines(columns, [[row[name] for name in columns] for row in rows]) if rows else ["no records"]
    return Answer({"command": "cache list", "records": rows}, lines)


@cache.command
def verify(
    *,
    deep: Annotated[
        bool, Parameter(name="--deep", negative="", help="Read the products and compare their content.")
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Check every recorded product; exit code 2 if some are damaged; the next run recomputes them."""
    from deployments.maintenance.step_records import all_records, damage_of

    site = find_site(common).site
    found = [(record, damage_of(site, record, deep=deep)) for record in all_records(site)]
    damaged = [
        {"subject": r.subject, "step": r.step, "ccd": r.ccd, "damage": damage}
        for r, damage in found
        if damage is not None
    ]
    lines = [f"{d['subject']} {d['step']} {'' if d['ccd'] is None else d['ccd']}: {d['damage']}" for d in damaged]
    return Answer(
        {"command": "cache verify", "n_records": len(found), "damaged": damaged},
        (*lines, f"{len(found) - len(damaged)} of {len(found)} records are good"),
        ExitCode.MISSING if damaged else ExitCode.COMPLETE,
    )


@cache.command
def prune(*, common: Common = DEFAULTS) -> Answer:
    """Remove damaged and superseded records; products stay."""
    from deployments.maintenance.step_records import prune as remove

    counts = remove(find_site(common).site)
    return Answer(
        {"command": "cache prune", "removed": counts},
        ("removed: " + ", ".join(f"{count} {why}" for why, count in counts.items()),),
    )
