"""Build the sky modes of a band from detrended exposures.

mini-skies of all exposures -> find the modes -> map templates -> manifest
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from imaging.masters.settings import SkyModeSettings
from tasks.build_sky_modes import common_ccds, find_modes, make_templates, modes_job, template_job
from tasks.calibration_files import master_path, record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.fitted_exposures import fitted_exposures
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest, Name, Night
from tasks.steps import MAKE_TEMPLATES


@keep_result
@flow(name="build-sky-modes", flow_run_name="build-sky-modes-{epoch}", task_runner=ComputeTaskRunner())
def build_sky_modes(
    exposures: Annotated[tuple[ExposureRequest, ...], Field(min_length=1)],
    epoch: Name,
    site: str = "default",
    first: Night | None = None,
    last: Night | None = None,
    overwrite: bool = False,
    settings: SkyModeSettings = SkyModeSettings(),
) -> State[dict[str, Any]]:
    """Build sky modes and templates of one band and add them to the calibration library.

    Args:
        exposures: Exposures of one band and of different fields, processed at least up to detrending.
        epoch: Name of the calibration epoch.
        site: Name or folder of the site.
        first: First night for which it holds, YYYYMMDD; None, with the last, for all within the limits of age.
        last: Last night for which it holds, YYYYMMDD.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If there are no exposures, they are of several bands or stable periods, or have no CCD in common.
    """
    place, identities, validity = fitted_exposures(exposures, site, first, last, settings.minimum_exposures)
    ccds = common_ccds(identities, place)
    band, night = identities[0].band, max(who.night for who in identities)
    job = modes_job(identities, ccds, place, epoch, settings)
    stage = Stage("build-sky-modes", StepJob(topic=job.topic, site=place), overwrite=overwrite)
    found = stage.run(find_modes, job, ccds)
    if found is None:
        return stage.final_state(())
    plan = stage.plan(MAKE_TEMPLATES, ccds, lambda ccd: template_job(identities, ccd, place, epoch, found, settings))
    made = stage.map(make_templates, plan)
    if made:
        templates = [master_path(place, epoch, "sky_templates", ccd, band) for ccd in sorted(made)]
        modes = [master_path(place, epoch, "sky_modes", 0, band)]
        record_files(
            place,
            night,
            epoch,
            {("sky_modes", band): modes, ("sky_templates", band): templates},
            validity=validity,
        )
    return stage.final_state(made, epoch=epoch, band=band, rms_fraction=found.quality["rms_fraction"])
