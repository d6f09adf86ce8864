"""Free disk space: remove old intermediate products, old scratch files, and leftovers of killed processes."""

import shutil
import time
from pathlib import Path
from typing import Any

from blocks.site import Site
from deployments.maintenance.step_records import prune
from deployments.server.database import address_in_use, vacuum
from imaging.errors import GWWorkflowError
from tasks.steps import intermediate_suffixes
from tasks.tidy import remove_product

DAY_S = 86400.0

RAW_ALERT_DAYS = 30.0
"""Age at which messages with alerts are removed, days; test alerts with their maps take 50 MB a day."""


def remove_intermediate(site: Site, older_than_days: float) -> tuple[int, int]:
    """Remove the intermediate products of exposures without a new file for some days.

    Final images, catalogues, differences and candidates stay. For the steps that are done the removed ones count as
    present.

    Parameters
    ----------
    site
        The site; products and scratch are both searched.
    older_than_days
        Age of the newest file of an exposure, days.

    Returns
    -------
    count, size
        Number of removed files and their bytes.
    """
    count = size = 0
    for folder in _exposure_folders(site):
        files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
        newest = max((status.st_mtime for _, status in files), default=0.0)
        if time.time() - newest < older_than_days * DAY_S:
            continue
        for path, status in files:
            if path.name.endswith(intermediate_suffixes()):
                remove_product(site, path)
                count, size = count + 1, size + status.st_size
    return count, size


def remove_partial_files(site: Site) -> tuple[int, int]:
    """Remove partial files that killed processes have left; return number and bytes."""
    count = size = 0
    for store in {site.products, site.scratch, site.state}:
        for path in store.rglob(".*.tmp"):
            status = path.stat()
            if time.time() - status.st_mtime > DAY_S:
                path.unlink(missing_ok=True)
                count, size = count + 1, size + status.st_size
    return count, size


def _remove_old(folder: Path, days: float) -> tuple[int, int]:
    """Remove the files below a folder that are older than some days; return number and bytes."""
    count = size = 0
    for path in folder.rglob("*"):
        if path.is_file() and time.time() - path.stat().st_mtime > days * DAY_S:
            size += path.stat().st_size
            path.unlink(missing_ok=True)
            count += 1
    return count, size


def _exposure_folders(site: Site) -> list[Path]:
    return sorted(path for store in {site.products, site.scratch} for path in store.glob("*/exp/*/*") if path.is_dir())


def vacuum_database(site: Site) -> dict[str, Any]:
    """Vacuum the server's database, if its address is known here; return the result as JSON."""
    address = address_in_use(site.state / "server")
    try:
        return vacuum(address).document()
    except GWWorkflowError as error:
        return {"not_vacuumed": error.sentence()}


def clean_up(site: Site, *, intermediate_days: float, scratch_days: float) -> dict[str, Any]:
    """Free disk space on a site.

    Parameters
    ----------
    site
        The site.
    intermediate_days
        Days after which intermediate products are removed.
    scratch_days
        Days after which files in scratch are removed.

    Returns
    -------
    account
        What was removed, and the free space.
    """
    n_intermediate, size = remove_intermediate(site, intermediate_days)
    n_partial, size_partial = remove_partial_files(site)
    size += size_partial
    n_scratch, size_scratch = _remove_old(site.scratch, scratch_days)
    n_alerts, size_alerts = _remove_old(site.state / "alerts", RAW_ALERT_DAYS)
    size += size_scratch + size_alerts
    site.state.mkdir(parents=True, exist_ok=True)
    return {
        "intermediate_products": n_intermediate,
        "scratch_files": n_scratch,
        "half_written_files": n_partial,
        "raw_alerts": n_alerts,
        "freed_gb": round(size / 1e9, 3),
        "records": prune(site) if n_intermediate or n_scratch else {},
        "database": vacuum_database(site),
        "free_gb": round(shutil.disk_usage(site.state).free / 1e9, 1),
    }
