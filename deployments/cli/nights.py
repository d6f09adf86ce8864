"""Commands for a night: night, status, rank."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import (
    ABOVE_ZERO,
    DEFAULTS,
    Common,
    Destination,
    NightNumber,
    Overwrite,
    SettingsFile,
    Workers,
    find_site,
    read_settings,
)
from deployments.cli.output import Answer
from deployments.cli.registration import NOTHING_GIVEN, GivenNight, decide_if_possible, registered, starts
from deployments.cli.running import quiet_console, run_flow
from imaging.errors import InputError

if TYPE_CHECKING:
    from deployments.checks.status import SiteStatus
    from deployments.cli.options import FoundSite
    from imaging.candidates.settings import CandidateSettings


def night(
    night: NightNumber,
    /,
    *,
    given: GivenNight = NOTHING_GIVEN,
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Process a night: its exposures, their differences, the ranked candidates; --skymap or --event registers it."""
    quiet_console(verbose=common.verbose)  # before Prefect is imported
    from blocks.night_runs import PROCESS, read_runs
    from blocks.nights import read_night
    from flows.settings import NightSettings

    found = find_site(common)
    chosen = {} if settings is None else {"settings": read_settings(settings, NightSettings)}
    if given != NOTHING_GIVEN:
        done = registered(found, night, given, update=True)
        sys.stderr.writelines(f"gw-workflow: {line}\n" for line in (done.line(), *done.told()))
    runs = [run for run in read_runs(read_night(found.site, night)) if run.flow == PROCESS]
    may_be_done = bool(runs) and runs[-1].end == "completed"  # else to look for what there is to do costs CPU time

    parameters = {"night": night, "site": found.name, **chosen, "overwrite": overwrite}
    flow, about = "flows.night:process_night", {"night": night}
    return run_flow("night", common, found.site, flow, parameters, workers=workers, plain=may_be_done, about=about)


def status(
    night: NightNumber | None = None,
    /,
    *,
    watch: Annotated[
        bool, Parameter(name="--watch", negative="", help="Refresh until nothing runs, or until interrupted.")
    ] = False,
    interval: Annotated[
        float, Parameter(name="--interval", validator=ABOVE_ZERO, help="Seconds between two refreshes.")
    ] = 2.0,
    common: Common = DEFAULTS,
) -> Answer:
    """Show the progress of the exposures: steps done, failures with reasons, running flows."""
    from deployments.checks.status import site_status

    site = find_site(common).site
    if watch and not common.json:
        watch_status(lambda: site_status(site, night), interval)
    report = site_status(site, night)
    return Answer({"command": "status", **report.document()}, () if watch else report.lines())


def watch_status(look: Callable[[], "SiteStatus"], interval_s: float) -> None:
    """Refresh the status in place until nothing runs, or until interrupted.

    Parameters
    ----------
    look
        Returns the status.
    interval_s
        Seconds between two refreshes.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with suppress(KeyboardInterrupt), Live(console=Console(), auto_refresh=False) as shown:
        while True:
            report = look()
            shown.update(Text("\n".join(report.lines())), refresh=True)
            if not report.running:
                return
            time.sleep(interval_s)


Weights = Annotated[
    tuple[str, ...],
    Parameter(name="--weight", help="Weight of a part, such as skymap=2; repeatable."),
]


def rank(
    night: NightNumber,
    /,
    *,
    skymap: Annotated[Path | None, Parameter(name="--skymap", help="New sky map of the night.")] = None,
    weight: Weights = (),
    announce: Annotated[
        bool, Parameter(name="--announce", negative="", help="Only store the new map; the server ranks.")
    ] = False,
    destination: Destination = "persistent",
    overwrite: Overwrite = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Rank the candidates of a processed night again, from its tables, without processing images."""
    from tasks.ranked_tables import last_settings

    found = find_site(common)
    place = found.site.storing_in(destination)
    settings = None if not weight else weighted(last_settings(night, place), weight)
    file = None if skymap is None else str(skymap.resolve())
    if announce:
        if file is None or weight:
            raise InputError("--announce needs a sky map and takes no weights", remedy="give --skymap FILE alone")
        return announce_skymap(found, night, Path(file))

    parameters = {
        "night": night,
        "skymap": file,
        "site": found.name,
        "settings": settings,
        "destination": destination,
        "overwrite": overwrite,
    }
    about = {"night": night, "skymap": file}
    return run_flow("rank", common, found.site, "flows.ranking:rank_night", parameters, about=about)


def weighted(settings: "CandidateSettings", weights: tuple[str, ...]) -> "CandidateSettings":
    """Return settings with some weights of the rank changed.

    Parameters
    ----------
    settings
        The settings.
    weights
        Texts such as ``skymap=2``.

    Raises
    ------
    InputError
        If a part is unknown or a weight is not a number.
    """
    from imaging.candidates.rank import PARTS

    changes = {}
    for text in weights:
        part, _, number = text.partition("=")
        try:
            changes[f"weight_{part}"] = float(number)
        except ValueError:
            part = ""
        if part not in PARTS:
            raise InputError("invalid weight", value=text, limit=f"PART=NUMBER, PART of {', '.join(PARTS)}")
    return settings.with_values(rank=settings.rank.with_values(**changes))


def announce_skymap(found: "FoundSite", night: int, skymap: Path) -> Answer:
    """Store a new sky map of a night; the server ranks its candidates, now or when it runs again.

    Raises
    ------
    InputError
        If the night is not registered, or the file is not a sky map.
    """
    from blocks.skymaps import adopt_skymap

    registered = adopt_skymap(found.site, night, skymap)
    record, runs = registered.record, decide_if_possible(found, registered)
    document = {"command": "rank", "announced": runs is not None, "runs": runs, "night": night, "skymap": str(skymap)}
    return Answer(
        document, (f"night {night}: {skymap.name} stored, revision {record.revision}; {starts(night, runs)}",)
    )
