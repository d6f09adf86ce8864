"""The flow that fetches what a night lacks from the archive, in a deployment of its own."""

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from blocks.folders import load_site
from blocks.nights import read_night
from deployments.archive.download import CONNECTIONS, Downloader, folder_of
from deployments.archive.night import lacking
from deployments.archive.search import archive_client
from tasks.engine.final_state import WITH_FAILURES, failed_state, keep_result
from tasks.requests import Night


@keep_result
@flow(name="fetch-archive", flow_run_name="fetch-archive-{night}")
def fetch_archive(
    night: Night, site: str = "default", connections: Annotated[int, Field(ge=1, le=16)] = CONNECTIONS
) -> State[dict[str, Any]]:
    """Fetch what a registered night lacks: raw exposures, frames for calibrations, templates.

    A night that is not registered, or an archive that cannot be searched, is an InputError.

    Args:
        night: The registered night, YYYYMMDD.
        site: Name or folder of the site.
        connections: Files at a time.
    """
    logger, place = get_run_logger(), load_site(site)
    with archive_client() as client:
        lack = lacking(client, place, read_night(place, night))
        placed = [(file, folder_of(place, file)) for file in lack.files]
        account = Downloader(client, logger.info).fetch(placed, connections)
    for line in (*lack.notes, *(f"{name}: {reason}" for name, reason in account.failed.items())):
        logger.warning("%s", line)
    n_there = len(account.fetched) + len(account.present)
    summary = {"fetched": len(account.fetched), "present": len(account.present), "failed": account.failed}
    message = f"night {night}: {len(account.fetched)} files fetched, {len(account.failed)} failed"
    if account.failed and not n_there:
        return failed_state(message, summary)
    return Completed(name=WITH_FAILURES if account.failed else None, message=message, data=summary)
