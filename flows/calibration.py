"""Photometric calibration: final coordinates and zero points.

map calibrate (coordinates, match to reference stars) -> solve the zero points of all CCDs
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from imaging.photometry.magnitudes import PSF_MAGNITUDES, check_magnitudes
from imaging.photometry.settings import CalibrationSettings
from tasks.artifacts import show_zeropoints
from tasks.calibrate import calibrate, calibrate_job
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.exposure_solution import discard_solution
from tasks.jobs import StepJob
from tasks.magnitude_zeropoints import solve_magnitudes
from tasks.products import ccds_with
from tasks.requests import Ccds, ExposureRequest
from tasks.solve_zeropoints import solve_zeropoints, solve_zeropoints_job
from tasks.steps import CALIBRATE


@keep_result
@flow(name="calibration", flow_run_name="calibration-{exposure.expnum}", task_runner=ComputeTaskRunner())
def calibration(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    overwrite: bool = False,
    magnitudes: str = PSF_MAGNITUDES,
    settings: CalibrationSettings = CalibrationSettings(),
) -> State[dict[str, Any]]:
    """Calibrate the measured CCDs of an exposure.

    Args:
        exposure: The exposure, and the version of its products.
        site: Name or folder of the site.
        ccds: CCDs to calibrate; None for all that have been measured.
        overwrite: Recompute cached steps.
        magnitudes: Magnitudes for which zero points are solved besides: mag_psf (none besides), mag_auto, mag_aper_1
            to mag_aper_12. All other products use those of mag_psf.
        settings: Settings of the stage.

    Raises:
        InputError: If there is no reference catalogue, or the magnitudes are unknown.
    """
    check_magnitudes(magnitudes)
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    stage = Stage("calibration", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = ccds_with(who, place, "measure.json") if ccds is None else ccds

    jobs = stage.plan(CALIBRATE, wanted, lambda ccd: calibrate_job(who, ccd, place, settings))
    calibrated = stage.map(calibrate, jobs)
    if not calibrated:
        return stage.final_state(())
    job = solve_zeropoints_job(calibrated, stage.failures, who, place, settings)
    if overwrite:
        discard_solution(job, "zeropoints.parquet")
    solved = stage.run(solve_zeropoints, job, calibrated)
    if solved is not None:
        show_zeropoints(who, place)
    if solved is None or magnitudes == PSF_MAGNITUDES:
        return stage.final_state(calibrated if solved else ())
    zeropoints = solve_magnitudes(who, place, magnitudes, settings.photometry)
    return stage.final_state(calibrated, zeropoints=zeropoints)
