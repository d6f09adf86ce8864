"""All stages of one exposure, in sequence.

single epoch (or import of calibrated images) -> calibration -> verification (-> difference, for a search exposure)
"""

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from blocks.folders import load_site
from blocks.imports import is_imported
from flows.calibration import calibration
from flows.settings import ExposureSettings
from flows.single_epoch import single_epoch
from flows.verification import verification
from tasks.engine.final_state import keep_result, merged_state
from tasks.engine.limits import slot
from tasks.engine.progress import progress_artifact
from tasks.engine.task_runner import ComputeTaskRunner, current_run, with_options
from tasks.requests import Ccds, ExposureRequest
from tasks.steps import EXPOSURES, stage_work

StageName = Literal["single_epoch", "calibration", "verification"]
STAGES: tuple[StageName, ...] = ("single_epoch", "calibration", "verification")


@keep_result
@flow(name="process-exposure", flow_run_name="process-exposure-{exposure.expnum}", task_runner=ComputeTaskRunner())
def process_exposure(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    stages: Annotated[tuple[StageName, ...], Field(min_length=1)] = STAGES,
    overwrite: bool = False,
    settings: ExposureSettings = ExposureSettings(),
) -> State[dict[str, Any]]:
    """Process one exposure through its stages; a CCD that fails does not affect the others.

    Args:
        exposure: The exposure, and the version of its products.
        site: Name or folder of the site.
        ccds: CCDs to process; None for all.
        stages: Stages to run; they run in pipeline order.
        overwrite: Recompute cached steps.
        settings: Settings of each stage.

    Raises:
        InputError: If an input of the exposure is missing or wrong.
    """
    place = load_site(site).storing_in(exposure.destination)
    first = single_epoch
    if is_imported(place, exposure.exposure_id()):
        from flows.import_images import import_images  # with readers of foreign images, which others need not

        first = import_images
    runs: dict[StageName, tuple[Any, Any]] = {
        "single_epoch": (first, settings.single_epoch),
        "calibration": (calibration, settings.calibration),
        "verification": (verification, settings.verification),
    }
    states: dict[str, State[Any]] = {}
    what = f"exposure {exposure.expnum}"
    with slot(EXPOSURES), progress_artifact(what, stage_work([exposure.expnum], stages)) as listener:
        for name in STAGES:
            if name not in stages:
                continue
            run, options = runs[name]
            run = with_options(run, page_run=current_run(), listener=listener)
            state = run(exposure, site, ccds, overwrite, settings=options, return_state=True)
            states[name] = state
            if not state.is_completed():
                break
    return merged_state(what, states)
