"""Images that others have calibrated: to the same products as those of raw exposures.

map import_image -> joint astrometric solution of all CCDs (-> calibration -> verification, as for every exposure)
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from flows.settings import SingleEpochSettings
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.exposure_solution import discard_solution
from tasks.import_image import import_image, import_image_job
from tasks.imported import read_import
from tasks.jobs import StepJob
from tasks.requests import Ccds, ExposureRequest
from tasks.steps import IMPORT_IMAGE
from tasks.tie_astrometry import tie_astrometry, tie_astrometry_job


@keep_result
@flow(name="import-images", flow_run_name="import-images-{exposure.expnum}", task_runner=ComputeTaskRunner())
def import_images(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    overwrite: bool = False,
    settings: SingleEpochSettings = SingleEpochSettings(),
) -> State[dict[str, Any]]:
    """Import the CCDs of an exposure that another pipeline has calibrated, up to a joint astrometric solution.

    Args:
        exposure: The exposure, which gw-workflow import-images has recorded, and the version of its products.
        site: Name or folder of the site.
        ccds: CCDs to import; None for all.
        overwrite: Recompute cached steps.
        settings: Settings of the stage, of which those of the measurement are used.

    Raises:
        InputError: If the exposure is not recorded, or an image of every CCD is wrong.
    """
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    record = read_import(place, who)
    stage = Stage("single-epoch", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = record.ccds if ccds is None else ccds

    jobs = stage.plan(IMPORT_IMAGE, wanted, lambda ccd: import_image_job(record, who, ccd, place, settings.measure))
    imported = stage.map(import_image, jobs)
    if not imported:
        return stage.final_state(())
    job = tie_astrometry_job(imported, stage.failures, record.exposure, who, place, settings.measure, imported=True)
    if overwrite:
        discard_solution(job, "tie.json")
    tied = stage.run(tie_astrometry, job, imported)
    return stage.final_state(imported if tied else ())
