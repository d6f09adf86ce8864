"""All stages of one exposure, one after the other.

single epoch -> calibration -> verification (-> difference, for a search exposure)
"""

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from flows.calibration import calibration
from flows.described import described
from flows.settings import ExposureSettings
from flows.single_epoch import single_epoch
from flows.verification import verification
from tasks.ends import remembered
from tasks.limits import EXPOSURES, slot
from tasks.requests import ExposureRequest
from tasks.run_page import on_this_page
from tasks.run_progress import progress_on_page, stage_work
from tasks.verdict import merged_verdict

StageName = Literal["single_epoch", "calibration", "verification"]
STAGES: tuple[StageName, ...] = ("single_epoch", "calibration", "verification")


@described
@remembered
@flow(name="process-exposure", flow_run_name="process-exposure-{exposure.expnum}", task_runner=ComputeTaskRunner())
def process_exposure(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: tuple[int, ...] | None = None,
    stages: tuple[StageName, ...] = STAGES,
    overwrite: bool = False,
    settings: ExposureSettings = ExposureSettings(),
) -> State[dict[str, Any]]:
    """Process one exposure through its stages; a CCD that fails in one of them costs itself only.

    Parameters
    ----------
    exposure
        Which exposure, and under which version its products are filed.
    site
        Name or folder of the site.
    ccds
        CCDs to process; None for all there are.
    stages
        Stages to run, in their natural order.
    overwrite
        Whether to compute what is known to be done.
    settings
        How it is done, stage by stage.

    Raises
    ------
    InputError
        If the exposure's input is missing or wrong.
    """
    runs: dict[StageName, tuple[Any, Any]] = {
        "single_epoch": (single_epoch, settings.single_epoch),
        "calibration": (calibration, settings.calibration),
        "verification": (verification, settings.verification),
    }
    states: dict[str, State[Any]] = {}
    what = f"exposure {exposure.expnum}"
    with slot(EXPOSURES), on_this_page(), progress_on_page(what, stage_work([exposure.expnum], stages)):
        for name in STAGES:
            if name not in stages:
                continue
            run, options = runs[name]
            state = run(exposure, site, ccds, overwrite, options, return_state=True)
            states[name] = state
            if not state.is_completed():
                break
    return merged_verdict(what, states)
