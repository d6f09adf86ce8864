"""Build brighter-fatter kernels from pairs of dome flats.

map measure_repulsion -> manifest
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from imaging.detector.status import working_ccds
from imaging.masters.settings import RepulsionSettings
from tasks.build_brighter_fatter import flat_pairs, measure_repulsion, repulsion_job
from tasks.calibration_files import master_path, record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.raw_files import FLAT_KINDS, raw_of_kind
from tasks.requests import Ccds, Name, Night
from tasks.steps import MEASURE_REPULSION


@keep_result
@flow(name="build-brighter-fatter", flow_run_name="build-brighter-fatter-{night}", task_runner=ComputeTaskRunner())
def build_brighter_fatter(
    night: Night,
    site: str = "default",
    ccds: Ccds | None = None,
    epoch: Name | None = None,
    overwrite: bool = False,
    settings: RepulsionSettings = RepulsionSettings(),
) -> State[dict[str, Any]]:
    """Build the brighter-fatter kernels of the CCDs and add them to the calibration library.

    Args:
        night: Night of the dome flats, YYYYMMDD.
        site: Name or folder of the site.
        ccds: CCDs to build for; None for all that were functional on that night and are in the files.
        epoch: Name of the calibration epoch; None for ``n`` and the night.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If the night has no pairs of dome flats.
    """
    place, name = load_site(site), epoch or f"n{night}"
    stage = Stage("build-brighter-fatter", StepJob(night=night, site=place), overwrite=overwrite)
    pairs = flat_pairs(raw_of_kind(place, night, FLAT_KINDS), night)
    raws = [raw for pair in pairs for raw in pair]
    wanted = ccds or tuple(c for c in working_ccds(night) if all(c in raw.index.extensions for raw in raws))
    jobs = stage.plan(MEASURE_REPULSION, wanted, lambda ccd: repulsion_job(place, night, ccd, name, pairs, settings))
    made = stage.map(measure_repulsion, jobs)
    if made:
        paths = [master_path(place, name, "brighter_fatter", ccd) for ccd in sorted(made)]
        record_files(place, night, name, {("brighter_fatter", None): paths})
    return stage.final_state(made, epoch=name, bands=sorted({raw.exposure.band for raw in raws}))
