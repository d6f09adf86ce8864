"""Export: the products of an exposure under the file names and in the formats of the DES pipeline.

map export (image, catalogue, regions, PSF, corners) -> list the CCDs
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from imaging.export.settings import ExportSettings
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.export import export, export_job, list_exports, list_job
from tasks.jobs import StepJob
from tasks.products import ccds_with
from tasks.requests import Ccds, ExposureRequest
from tasks.steps import EXPORT


@keep_result
@flow(name="export", flow_run_name="export-{exposure.expnum}", task_runner=ComputeTaskRunner())
def export_exposure(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    overwrite: bool = False,
    settings: ExportSettings = ExportSettings(),
) -> State[dict[str, Any]]:
    """Export the calibrated CCDs of an exposure into the folder of its products.

    Args:
        exposure: The exposure, and the version of its products.
        site: Name or folder of the site.
        ccds: CCDs to export; None for all calibrated ones.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.
    """
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    stage = Stage("export", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = ccds_with(who, place, "immask.fits") if ccds is None else ccds
    exported = stage.map(export, stage.plan(EXPORT, wanted, lambda ccd: export_job(who, ccd, place, settings)))
    if not exported:
        return stage.final_state(())
    listed = stage.run(list_exports, list_job(exported, who, place), exported)
    return stage.final_state(exported if listed else ())
