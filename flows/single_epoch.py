"""Single-epoch processing: from the raw exposure to images, coordinates and catalogues of its CCDs.

raw -> map detrend -> fit the sky of all CCDs -> map measure -> joint astrometric solution of all CCDs
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from flows.settings import SingleEpochSettings
from tasks.detrend import detrend, detrend_planner
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.exposure_solution import discard_solution
from tasks.fit_sky import fit_sky, fit_sky_job
from tasks.jobs import StepJob
from tasks.measure import measure, measure_planner
from tasks.raw_files import ccds_to_process, find_raw
from tasks.requests import Ccds, ExposureRequest
from tasks.steps import DETREND, MEASURE
from tasks.tie_astrometry import tie_astrometry, tie_astrometry_job


@keep_result
@flow(name="single-epoch", flow_run_name="single-epoch-{exposure.expnum}", task_runner=ComputeTaskRunner())
def single_epoch(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    overwrite: bool = False,
    settings: SingleEpochSettings = SingleEpochSettings(),
) -> State[dict[str, Any]]:
    """Process the CCDs of a raw exposure up to catalogues with a joint astrometric solution.

    Args:
        exposure: The exposure, and the version of its products.
        site: Name or folder of the site.
        ccds: CCDs to process; None for all that were functional on that night and are in the file.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If the raw file, a calibration or the reference catalogue is missing or wrong.
    """
    place = load_site(site).storing_in(exposure.destination)
    who, epoch = exposure.exposure_id(), exposure.calibration_epoch
    stage = Stage("single-epoch", StepJob(exposure=who, site=place), overwrite=overwrite)
    raw = find_raw(place, who)
    wanted = ccds_to_process(raw, ccds)

    plan = detrend_planner(raw, who, place, settings.detrend, epoch=epoch)
    detrended = stage.map(detrend, stage.plan(DETREND, wanted, plan))
    if not detrended:
        return stage.final_state(())
    job = fit_sky_job(detrended, stage.failures, raw.exposure, who, place, settings.sky, epoch=epoch)
    if overwrite:
        discard_solution(job, "skyfit.json")
    sky = stage.run(fit_sky, job, detrended)
    if sky is None:
        return stage.final_state(())

    plan = measure_planner(detrended, sky, raw.exposure, who, place, settings.measure, epoch=epoch)
    measured = stage.map(measure, stage.plan(MEASURE, sorted(detrended), plan))
    if not measured:
        return stage.final_state(())
    job = tie_astrometry_job(measured, stage.failures, raw.exposure, who, place, settings.measure, epoch=epoch)
    if overwrite:
        discard_solution(job, "tie.json")
    tied = stage.run(tie_astrometry, job, measured)
    return stage.final_state(measured if tied else ())
