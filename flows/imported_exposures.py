"""Exposures whose images others have calibrated, one after the other through all stages."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.exposure import process_exposure
from flows.settings import ExposureSettings
from flows.side_by_side import run_side_by_side
from imaging.errors import InputError
from tasks.engine.final_state import WITH_FAILURES, error_of, failed_state, keep_result, summary_of
from tasks.engine.task_runner import ComputeTaskRunner, with_options
from tasks.requests import ExposureRequest

AT_ONCE = 2
"""Exposures processed at the same time: while one waits for its last CCD, the next keeps the cores busy."""


@keep_result
@flow(name="import-exposures", task_runner=ComputeTaskRunner())
def import_exposures(
    exposures: Annotated[Sequence[ExposureRequest], Field(min_length=1)],
    site: str = "default",
    overwrite: bool = False,
    settings: ExposureSettings = ExposureSettings(),
) -> State[dict[str, Any]]:
    """Import exposures that gw-workflow import-images has recorded, up to verified final images.

    Args:
        exposures: The exposures, and the version of their products.
        site: Name or folder of the site.
        overwrite: Recompute cached steps.
        settings: Settings of each stage.

    Raises:
        InputError: If what is wrong concerns all images, such as a missing reference catalogue.
    """
    run = with_options(process_exposure)
    processed = run_side_by_side(
        lambda request: run(request, site, overwrite=overwrite, settings=settings, return_state=True),
        exposures,
        AT_ONCE,
    )
    return _state(processed)


def _state(processed: Mapping[int, State[Any]]) -> State[dict[str, Any]]:
    """Return the final state: failed if no CCD of any exposure can be used."""
    told = {str(e): {"state": s.name, "message": s.message} | summary_of(s) for e, s in processed.items()}
    done = sum(len(summary.get("done", ())) for summary in told.values())
    why = [f["message"] for summary in told.values() for f in summary.get("failures", {}).values()]
    why += [f"exposure {e}: {s.message}" for e, s in processed.items() if not s.is_completed() and not why]
    refused = next((e for s in processed.values() if isinstance(e := error_of(s), InputError)), None)
    if refused is not None and not done:
        raise refused
    message = f"{len(processed)} exposures, {done} CCDs imported" + (f", {len(why)} not: {why[0]}" if why else "")
    if not done:
        return failed_state(message, {"exposures": told})
    return Completed(name=WITH_FAILURES if why else None, message=message, data={"exposures": told})
