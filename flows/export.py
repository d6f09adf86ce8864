"""Export: the products of an exposure under the names and in the formats of the original.

map export (image, catalogue, regions, PSF, corners) -> list the CCDs
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from flows.described import described
from imaging.export.settings import ExportSettings
from tasks.ends import remembered
from tasks.export import export, export_job, list_exports, list_job
from tasks.products import ccds_with
from tasks.records import StepJob
from tasks.requests import ExposureRequest
from tasks.stage import Stage


@described
@remembered
@flow(name="export", flow_run_name="export-{exposure.expnum}", task_runner=ComputeTaskRunner())
def export_exposure(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: tuple[int, ...] | None = None,
    overwrite: bool = False,
    settings: ExportSettings = ExportSettings(),
) -> State[dict[str, Any]]:
    """Export the CCDs of an exposure that have been calibrated, beside the products that they are made from.

    Parameters
    ----------
    exposure
        Which exposure, and under which version its products are filed.
    site
        Name or folder of the site.
    ccds
        CCDs to export; None for all that have been calibrated.
    overwrite
        Whether to write again what is known to be written.
    settings
        How it is done.
    """
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    stage = Stage("export", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = ccds_with(who, place, "immask.fits") if ccds is None else ccds
    exported = stage.map(export, stage.plan("export", wanted, lambda ccd: export_job(who, ccd, place, settings)))
    if not exported:
        return stage.verdict(())
    listed = stage.run(list_exports, list_job(exported, who, place), exported)
    return stage.verdict(exported if listed else ())
