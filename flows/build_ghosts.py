"""Fit the ghosts of bright stars of a band to processed exposures.

final images of all exposures around bright stars -> fit of the families of donuts -> manifest
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from imaging.masters.settings import GhostSettings
from tasks.build_ghosts import fit_ghosts, ghosts_job
from tasks.calibration_files import master_path, record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.fitted_exposures import fitted_exposures
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest, Name, Night


@keep_result
@flow(name="build-ghosts", flow_run_name="build-ghosts-{epoch}", task_runner=ComputeTaskRunner())
def build_ghosts(
    exposures: Annotated[tuple[ExposureRequest, ...], Field(min_length=1)],
    epoch: Name,
    site: str = "default",
    first: Night | None = None,
    last: Night | None = None,
    overwrite: bool = False,
    settings: GhostSettings = GhostSettings(),
) -> State[dict[str, Any]]:
    """Fit the ghosts of bright stars of one band and add the model to the calibration library.

    Args:
        exposures: Verified exposures of one band, best of different fields with stars of 4 to 9 mag.
        epoch: Name of the calibration epoch.
        site: Name or folder of the site.
        first: First night for which it holds, YYYYMMDD; None, with the last, for all within the limits of age.
        last: Last night for which it holds, YYYYMMDD.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If there are too few exposures or bright stars, exposures are of several bands or stable periods or
            have not been verified, or no ghost is seen.
    """
    place, identities, validity = fitted_exposures(exposures, site, first, last, settings.minimum_exposures)
    job, ccds = ghosts_job(identities, place, epoch, settings)
    stage = Stage("build-ghosts", StepJob(topic=job.topic, site=place), overwrite=overwrite)
    made = stage.run(fit_ghosts, job, ccds)
    if made is None:
        return stage.final_state(())
    band, night = identities[0].band, max(who.night for who in identities)
    path = master_path(place, epoch, "ghosts", 0, band)
    record_files(place, night, epoch, {("ghosts", band): [path]}, validity=validity)
    return stage.final_state(ccds, epoch=epoch, band=band, families=made.quality)
