"""The command plan: which fields to observe on a night, and in which order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, NightNumber, SettingsFile, find_site, read_settings
from deployments.cli.output import Answer, table_lines
from imaging.errors import InputError
from imaging.identity import check_night

if TYPE_CHECKING:
    from imaging.planning.order import Schedule

SHOWN = ("begin_utc", "rank", "ra", "dec", "airmass", "moon_deg", "probability", "searchable", "templates")


def plan(
    night: NightNumber,
    /,
    *,
    skymap: Annotated[Path, Parameter(name="--skymap", help="Sky map: multi-order or flat, or an alert with one.")],
    bands: Annotated[str, Parameter(name="--bands", help="Bands of every field, in order: gi or g,i.")] = "gi",
    exptimes: Annotated[str, Parameter(name="--exptimes", help="Exposure time in each band, seconds, or one.")] = "60",
    exposures: Annotated[
        Path | None, Parameter(name="--exposures", help="List of possible templates; default: the raw files.")
    ] = None,
    archive: Annotated[
        bool, Parameter(name="--archive", negative="", help="Also count exposures that the archive has.")
    ] = False,
    event: Annotated[str, Parameter(name="--event", help="Name of the event, in the script for the telescope.")] = "",
    proposal: Annotated[str, Parameter(name="--proposal", help="Proposal, in the script for the telescope.")] = "",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], help="Folder; default: plan-NIGHT.")] = None,
    settings: SettingsFile = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Plan the fields of a night by the probability that can be searched; airmass, Moon and twilight give the order."""
    from deployments.events.alerts import given_skymap
    from deployments.events.planning import PlanRequest, schedule_fields
    from imaging.io.atomic import write_bytes
    from imaging.io.plans import write_plan_table, write_queue_script
    from imaging.pictures.plan import plan_picture
    from imaging.planning.order import PlanSettings

    check_night(night)
    visit = visit_of(bands, exptimes)
    site, sky = find_site(common).site, given_skymap(skymap)
    request = PlanRequest(night, tuple(band for band, _ in visit), sum(time for _, time in visit), exposures, archive)
    schedule, notes = schedule_fields(site, sky, request, read_settings(settings, PlanSettings))
    name = event or sky.name or "GW"
    folder = output or Path(f"plan-{night}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"script": folder / "plan.json", "table": folder / "plan.csv"}
    write_queue_script(paths["script"], schedule.observations, visit, event=name, proposal=proposal)
    write_plan_table(paths["table"], schedule.observations, request.bands)
    if schedule.observations:
        paths["picture"] = folder / "plan.png"
        write_bytes(paths["picture"], plan_picture(sky, schedule.observations, title=f"{name}: plan of night {night}"))
    return _answer(night, schedule, notes, paths)


def _answer(night: int, schedule: "Schedule", notes: Sequence[str], paths: Mapping[str, Path]) -> Answer:
    from imaging.io.plans import utc

    rows = [
        {
            "begin_utc": utc(item.mjd),
            "rank": item.rank,
            "ra": item.field.ra_deg,
            "dec": item.field.dec_deg,
            "airmass": item.airmass,
            "moon_deg": item.moon_deg,
            "probability": item.field.probability,
            "searchable": item.field.merit,
            "templates": " ".join(f"{band}:{n}/{item.field.n_ccds}" for band, n in item.field.n_covered.items()),
        }
        for item in schedule.observations
    ]
    probability = sum(item.field.probability for item in schedule.observations)
    searchable = sum(item.field.merit for item in schedule.observations)
    bare = sum(not any(item.field.n_covered.values()) for item in schedule.observations)
    dark = f"{utc(schedule.begin_mjd)} and {utc(schedule.end_mjd)}"
    lines = [
        *table_lines(SHOWN, [[row[name] for name in SHOWN] for row in rows]),
        f"{len(rows)} fields between {dark}, Moon {100 * schedule.moon_fraction:.0f} % illuminated",
        f"probability inside the CCDs {probability:.3f}, of it with templates {searchable:.3f}",
        *([] if rows else ["no field of the sky map's region can be observed in this night"]),
        *([f"{bare} fields have no template: their differences cannot be made"] if bare else []),
        *(f"left out: field {rank} at {f.ra_deg:.2f} {f.dec_deg:+.2f}: {why}" for rank, f, why in schedule.left[:10]),
        *notes,
        f"written: {', '.join(map(str, paths.values()))}",
    ]
    document = {
        "command": "plan",
        "night": night,
        "fields": rows,
        "left": [{"rank": rank, "ra": f.ra_deg, "dec": f.dec_deg, "reason": why} for rank, f, why in schedule.left],
        "probability": probability,
        "searchable": searchable,
        "moon_fraction": schedule.moon_fraction,
        "notes": [*notes],
        "products": {kind: str(path) for kind, path in paths.items()},
    }
    return Answer(document, lines)


def visit_of(bands: str, exptimes: str) -> list[tuple[str, float]]:
    """Return band and exposure time of each exposure of a field.

    Raises
    ------
    InputError
        If a band is unknown, or the times do not fit.
    """
    from imaging.io.list_rows import bands_in

    names = bands_in(bands)
    try:
        times = [float(text) for text in exptimes.split(",")]
    except ValueError:
        times = []
    if len(times) == 1:
        times *= len(names)
    if not names or len(times) != len(names) or not all(0.0 < time <= 3600.0 for time in times):
        limit = "one time, or one per band, above 0 and at most 3600 s"
        raise InputError("the exposure times do not fit the bands", value=f"{bands}: {exptimes}", limit=limit)
    return list(zip(names, times, strict=True))
