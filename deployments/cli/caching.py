"""The commands cache list, cache verify and cache prune."""

from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer, table_lines
from tasks.engine.jobs import ExitCode

cache = App(name="cache", help="Look after what is known to be done.", help_format="plaintext")


@cache.command(name="list")
def list_records(*, common: Common = DEFAULTS) -> Answer:
    """List what is known to be done: records and size of their products, by exposure and step."""
    from deployments.cache_care import all_records

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
    lines = table_lines(columns, [[row[name] for name in columns] for row in rows]) if rows else ["nothing is recorded"]
    return Answer({"command": "cache list", "records": rows}, lines)


@cache.command
def verify(
    *,
    deep: Annotated[bool, Parameter(name="--deep", negative="", help="Read the products and compare content.")] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Check that every recorded product is what it was; exit code 2 if some are not, and will be made again."""
    from deployments.cache_care import all_records, damage_of

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
    """Remove records that serve nothing: damaged, or replaced by later ones. Products stay."""
    from deployments.cache_care import prune as remove

    counts = remove(find_site(common).site)
    return Answer(
        {"command": "cache prune", "removed": counts},
        ("removed: " + ", ".join(f"{count} {why}" for why, count in counts.items()),),
    )
