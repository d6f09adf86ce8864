"""Scheduled flows of a site: watch-incoming and housekeeping."""

import json
import time
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.folders import load_site
from deployments.events.watching import watch
from deployments.maintenance.cleanup import clean_up
from deployments.server.dead_runs import SILENCE_S, DeadRuns
from tasks.engine.final_state import keep_result


@keep_result
@flow(name="watch-incoming", flow_run_name="watch-incoming")
def watch_incoming(site: str = "default", minutes: float = 9.0, pause_s: float = 15.0) -> State[dict[str, Any]]:
    """Announce pending nights, and raw exposures that arrive after the run of their night has started.

    Dead runs are marked as crashed.

    Args:
        site: Name or folder of the site.
        minutes: How long to watch; the run ends earlier when no exposure is expected.
        pause_s: Seconds between two looks.
    """
    dead_runs = DeadRuns()
    closed = dead_runs.look()
    nights, exposures = watch(load_site(site), minutes, pause_s)
    if dead_runs.has_suspects:
        time.sleep(SILENCE_S)
        closed += dead_runs.look()
    message = f"announced {len(nights)} nights and {len(exposures)} exposures"
    get_run_logger().info("%s: %s, %s; closed: %s", message, nights, exposures, closed)
    return Completed(message=message, data={"nights": nights, "exposures": exposures, "closed": closed})


@keep_result
@flow(name="housekeeping", flow_run_name="housekeeping")
def housekeeping(
    site: str = "default", intermediate_days: float = 30.0, scratch_days: float = 14.0
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
