"""Commands for a night: night, register-night, status."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, Overwrite, Workers, find_site
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from deployments.cli.settings_files import SettingsFile, read_settings

if TYPE_CHECKING:
    from blocks.site import Site
    from deployments.registry import Registration
    from deployments.status import SiteStatus

NightNumber = Annotated[int, Parameter(help="Local date at the beginning of the night, YYYYMMDD.")]


def night(
    night: NightNumber,
    /,
    *,
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Process a registered night: its exposures, their differences, the ranked candidates."""
    from blocks.nights import read_night
    from flows.settings import NightSettings

    found = find_site(common)
    chosen = {} if settings is None else {"settings": read_settings(settings, NightSettings)}
    read_night(found.site, night)

    parameters = {"night": night, "site": found.name, **chosen, "overwrite": overwrite}
    flow, about = "flows.night:process_night", {"night": night}
    return run_flow("night", common, found.site, flow, parameters, workers=workers, about=about)


def register_night(
    night: NightNumber,
    /,
    *,
    event: Annotated[str, Parameter(name="--event", help="Name of the gravitational-wave event.")],
    skymap: Annotated[Path, Parameter(name="--skymap", help="Sky map: FITS, multi-order or flat.")],
    exposures: Annotated[Path, Parameter(name="--exposures", help="Exposure list: comma-separated values.")],
    update: Annotated[
        bool, Parameter(name="--update", negative="", help="Add exposures or a new sky map to a registered night.")
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Store a night, copy what its sky map needs of catalogues on slow storage, and announce it to the server."""
    from deployments import registry
    from deployments.prefetching import prefetch_remembered
    from imaging.io.skymaps import read_skymap

    site = find_site(common).site
    registration = registry.register_night(
        site, night, event=event, skymap=skymap, exposures=exposures, check_skymap=read_skymap, update=update
    )
    notes: list[str] = []
    if registration.changed:
        prefetch_remembered(site, read_skymap(registration.night.skymap), notes.append)
    announced = announce_if_possible(site, registration) if registration.changed else None
    record = registration.night.record
    document = {
        "command": "register-night",
        "changed": registration.changed,
        "announced": announced,
        "prefetched": notes,
        **record.model_dump(mode="json"),
    }
    if not registration.changed:
        return Answer(document, (f"night {night} is registered already, nothing has changed",))
    what = f"night {night}, {record.event}: {len(record.exposures)} exposures, {len(record.templates)} templates"
    where = "announced" if announced else "will be announced when gw-workflow serve runs"
    return Answer(document, (f"{what}; revision {record.revision}; {where}", *notes))


def announce_if_possible(site: "Site", registration: "Registration") -> bool:
    """Announce a night to the server of ``PREFECT_API_URL`` or to the site's own; False if none takes it now."""
    from deployments.registry import announce

    return tell_server(site, lambda: announce(registration.night))


def tell_server(site: "Site", tell: Callable[[], object]) -> bool:
    """Tell the server of ``PREFECT_API_URL`` or the site's own something that is stored; False if none takes it now.

    Parameters
    ----------
    site
        The site.
    tell
        Emits the event to the server that Prefect's settings name.
    """
    from deployments.server import is_healthy, known_address, server_for

    named = os.environ.get("PREFECT_API_URL")
    if not (is_healthy(named) if named else known_address(site)):
        return False
    try:
        with server_for(site):
            tell()
    except Exception as error:  # noqa: BLE001 (whatever went wrong, it is stored and taken up later)
        sys.stderr.write(f"gw-workflow: the server did not take the announcement ({type(error).__name__}: {error})\n")
        return False
    return True


def status(
    night: NightNumber | None = None,
    /,
    *,
    watch: Annotated[
        bool, Parameter(name="--watch", negative="", help="Show it again and again until nothing runs, or interrupted.")
    ] = False,
    interval: Annotated[float, Parameter(name="--interval", help="Seconds between two looks.")] = 2.0,
    common: Common = DEFAULTS,
) -> Answer:
    """Tell how far the exposures have come: stages done, what failed and why, what is running."""
    from deployments.status import site_status

    site = find_site(common).site
    if watch and not common.json:
        watch_status(lambda: site_status(site, night), interval)
    report = site_status(site, night)
    return Answer({"command": "status", **report.document()}, () if watch else report.lines())


def watch_status(look: Callable[[], "SiteStatus"], interval_s: float) -> None:
    """Show the status in one place of the terminal until nothing runs any more, or until interrupted.

    Parameters
    ----------
    look
        Returns the status.
    interval_s
        Seconds between two looks.
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
