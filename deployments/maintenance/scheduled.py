"""Scheduled flows of a site: watch-incoming and housekeeping."""

import json
from pathlib import Path
from threading import Event
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from blocks.folders import load_site
from blocks.skymaps import adopt_skymap
from deployments.events.watching import watch
from deployments.maintenance.cleanup import clean_up
from tasks.engine.final_state import keep_result
from tasks.requests import NightEvent

Days = Annotated[float, Field(ge=0.0, le=36500.0)]
"""An age in days."""


@keep_result
@flow(name="watch-incoming", flow_run_name="watch-incoming")
def watch_incoming(
    site: str = "default",
    minutes: Annotated[float, Field(ge=0.0, le=1440.0)] = 9.8,
    event: dict[str, Any] | None = None,
) -> State[dict[str, Any]]:
    """Create the runs that are due: registered nights, raw exposures that arrive late, new sky maps.

    Dead runs are closed.

    Args:
        site: Name or folder of the site.
        minutes: How long to watch; 0 for one look.
        event: Payload of the event that started the run; a sky map with ``night`` and ``skymap`` is stored first.
    """
    logger, place = get_run_logger(), load_site(site)
    skymap = Path(str((event or {}).get("skymap", "")))
    if event and "night" in event and skymap.is_absolute():
        adopt_skymap(place, NightEvent.night_of(None, event), skymap)
    created = watch(place, site, logger.info, stopped=Event(), seconds=60.0 * minutes)
    message = f"created {len(created)} runs"
    logger.info("%s: %s", message, ", ".join(created))
    return Completed(message=message, data={"created": created})


@keep_result
@flow(name="housekeeping", flow_run_name="housekeeping")
def housekeeping(
    site: str = "default", intermediate_days: Days = 30.0, scratch_days: Days = 14.0
) -> State[dict[str, Any]]:
    """Remove intermediate products of old exposures, old scratch files and useless records.

    Args:
        site: Name or folder of the site.
        intermediate_days: Days after which intermediate products are removed; final ones stay.
        scratch_days: Days after which files in scratch are removed.
    """
    account = clean_up(load_site(site), intermediate_days=intermediate_days, scratch_days=scratch_days)
    get_run_logger().info("%s", json.dumps(account))
    return Completed(message=f"{account['freed_gb']} GB freed, {account['free_gb']} GB free", data=account)
