"""Build the maps of pixel displacements of a band from processed exposures.

tree rings of the flat, residuals of reference stars of all exposures -> map per CCD -> manifest
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from imaging.masters.settings import DisplacementSettings
from tasks.build_pixel_displacement import displacement_job, fit_displacements, tied_ccds
from tasks.calibration_files import master_path, record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.fitted_exposures import fitted_exposures
from tasks.jobs import StepJob
from tasks.products import observed_latest
from tasks.requests import ExposureRequest, Name, Night
from tasks.steps import FIT_DISPLACEMENTS


@keep_result
@flow(
    name="build-pixel-displacement", flow_run_name="build-pixel-displacement-{epoch}", task_runner=ComputeTaskRunner()
)
def build_pixel_displacement(
    exposures: Annotated[tuple[ExposureRequest, ...], Field(min_length=1)],
    epoch: Name,
    site: str = "default",
    first: Night | None = None,
    last: Night | None = None,
    overwrite: bool = False,
    settings: DisplacementSettings = DisplacementSettings(),
) -> State[dict[str, Any]]:
    """Build the maps of pixel displacements of one band and add them to the calibration library.

    Args:
        exposures: Calibrated exposures of one band, best with different pointings.
        epoch: Name of the calibration epoch.
        site: Name or folder of the site.
        first: First night for which they hold, YYYYMMDD; None, with the last, for all within the limits of age.
        last: Last night for which they hold, YYYYMMDD.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If there are too few exposures, of several bands or stable periods, or one has not been calibrated.
    """
    place, identities, validity = fitted_exposures(exposures, site, first, last, settings.minimum_exposures)
    by_ccd = tied_ccds(identities, place, settings)
    observed = observed_latest(identities, place)
    topic = f"pixel-displacement-{observed.band}"
    stage = Stage("build-pixel-displacement", StepJob(topic=topic, site=place), overwrite=overwrite)

    def job(ccd: int) -> StepJob:
        return displacement_job(ccd, by_ccd[ccd], observed, place, epoch, settings)

    made = stage.map(fit_displacements, stage.plan(FIT_DISPLACEMENTS, sorted(by_ccd), job))
    if made:
        paths = [master_path(place, epoch, "pixel_displacement", ccd, observed.band) for ccd in sorted(made)]
        record_files(place, observed.night, epoch, {("pixel_displacement", observed.band): paths}, validity=validity)
    return stage.final_state(made, epoch=epoch, band=observed.band)
