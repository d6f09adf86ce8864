"""Build response curves from a ramp of dome flats.

map measure_linearity -> manifest
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from imaging.detector.status import working_ccds
from imaging.masters.settings import RampSettings
from tasks.build_linearity import linearity_job, measure_linearity, ramps
from tasks.calibration_files import master_path, record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.raw_files import FLAT_KINDS, raw_of_kind
from tasks.requests import Ccds, Name, Night
from tasks.steps import MEASURE_LINEARITY


@keep_result
@flow(name="build-linearity", flow_run_name="build-linearity-{night}", task_runner=ComputeTaskRunner())
def build_linearity(
    night: Night,
    site: str = "default",
    ccds: Ccds | None = None,
    epoch: Name | None = None,
    overwrite: bool = False,
    settings: RampSettings = RampSettings(),
) -> State[dict[str, Any]]:
    """Build the response curves of the amplifiers and add them to the calibration library.

    Args:
        night: Night of the ramp, YYYYMMDD; the library must have a bias for it.
        site: Name or folder of the site.
        ccds: CCDs to build for; None for all that were functional on that night and are in the files.
        epoch: Name of the calibration epoch; None for ``n`` and the night.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If the night has no ramp, or the library no bias for it.
    """
    place, name = load_site(site), epoch or f"n{night}"
    stage = Stage("build-linearity", StepJob(night=night, site=place), overwrite=overwrite)
    raws = ramps(raw_of_kind(place, night, FLAT_KINDS), night, settings)
    wanted = ccds or tuple(c for c in working_ccds(night) if all(c in raw.index.extensions for raw in raws))
    jobs = stage.plan(MEASURE_LINEARITY, wanted, lambda ccd: linearity_job(place, night, ccd, name, raws, settings))
    made = stage.map(measure_linearity, jobs)
    if made:
        paths = [master_path(place, name, "linearity", ccd) for ccd in sorted(made)]
        record_files(place, night, name, {("linearity", None): paths})
    return stage.final_state(made, epoch=name, bands=sorted({raw.exposure.band for raw in raws}))
