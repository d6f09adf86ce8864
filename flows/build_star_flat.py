"""Build the star flat of a band from calibrated exposures.

zero points of single stars of all exposures -> fit -> map write -> manifest
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from imaging.masters.settings import StarFlatSettings
from tasks.build_star_flat import fit_job, fit_star_flats, fitted_ccds, write_job, write_star_flat
from tasks.calibration_files import master_path, record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.fitted_exposures import fitted_exposures
from tasks.jobs import StepJob
from tasks.products import observed_latest
from tasks.requests import ExposureRequest, Name, Night
from tasks.steps import WRITE_STAR_FLAT


@keep_result
@flow(name="build-star-flat", flow_run_name="build-star-flat-{epoch}", task_runner=ComputeTaskRunner())
def build_star_flat(
    exposures: Annotated[tuple[ExposureRequest, ...], Field(min_length=1)],
    epoch: Name,
    site: str = "default",
    first: Night | None = None,
    last: Night | None = None,
    overwrite: bool = False,
    settings: StarFlatSettings = StarFlatSettings(),
) -> State[dict[str, Any]]:
    """Build the star flat of one band and add it to the calibration library.

    Args:
        exposures: Calibrated, dithered exposures of one band, taken on photometric nights.
        epoch: Name of the calibration epoch.
        site: Name or folder of the site.
        first: First night for which it holds, YYYYMMDD; None, with the last, for all within the limits of age.
        last: Last night for which it holds, YYYYMMDD.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If there are too few exposures, of several bands or stable periods, or one has not been calibrated.
    """
    place, identities, validity = fitted_exposures(exposures, site, first, last, settings.minimum_exposures)
    job = fit_job(identities, place, settings)
    stage = Stage("build-star-flat", StepJob(topic=job.topic, site=place), overwrite=overwrite)
    fit = stage.run(fit_star_flats, job, ())
    if fit is None:
        return stage.final_state(())
    observed = observed_latest(identities, place)
    plan = stage.plan(WRITE_STAR_FLAT, fitted_ccds(fit), lambda ccd: write_job(ccd, observed, place, epoch, fit))
    made = stage.map(write_star_flat, plan)
    if made:
        paths = [master_path(place, epoch, "star_flat", ccd, observed.band) for ccd in sorted(made)]
        record_files(place, observed.night, epoch, {("star_flat", observed.band): paths}, validity=validity)
    return stage.final_state(made, epoch=epoch, band=observed.band)
