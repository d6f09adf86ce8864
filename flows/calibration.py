"""Photometric calibration: final coordinates and zero points.

map calibrate (coordinates, match to the reference stars) -> solve the zero points of all CCDs
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from flows.described import described
from imaging.photometry.settings import CalibrationSettings
from tasks.calibrate import calibrate, calibrate_job
from tasks.ends import remembered
from tasks.products import ccds_with
from tasks.records import StepJob
from tasks.requests import ExposureRequest
from tasks.solutions import solve_anew
from tasks.solve import solve, solve_job
from tasks.stage import Stage
from tasks.zeropoint_page import exhibit_zeropoints


@described
@remembered
@flow(name="calibration", flow_run_name="calibration-{exposure.expnum}", task_runner=ComputeTaskRunner())
def calibration(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: tuple[int, ...] | None = None,
    overwrite: bool = False,
    settings: CalibrationSettings = CalibrationSettings(),
) -> State[dict[str, Any]]:
    """Calibrate the CCDs of an exposure that the single-epoch stage has measured.

    Parameters
    ----------
    exposure
        Which exposure, and under which version its products are filed.
    site
        Name or folder of the site.
    ccds
        CCDs to calibrate; None for all that have been measured.
    overwrite
        Whether to compute what is known to be done.
    settings
        How it is done.

    Raises
    ------
    InputError
        If there is no reference catalogue.
    """
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    stage = Stage("calibration", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = ccds_with(who, place, "measured.fits") if ccds is None else ccds

    jobs = stage.plan("calibrate", wanted, lambda ccd: calibrate_job(who, ccd, place, settings))
    calibrated = stage.map(calibrate, jobs)
    if not calibrated:
        return stage.verdict(())
    job = solve_job(calibrated, stage.failures, who, place, settings)
    if overwrite:
        solve_anew(job, "zeropoints.parquet")
    solved = stage.run(solve, job, calibrated)
    if solved is not None:
        exhibit_zeropoints(who, place)
    return stage.verdict(calibrated if solved else ())
