"""Verification: look into every product, decide CCD by CCD what may go on, and say what the exposure is worth.

map inspect -> verify the exposure -> pictures and graded table on the run's page
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.compute import ComputeTaskRunner
from blocks.folders import load_site
from flows.described import described
from imaging.quality.settings import VerificationSettings
from tasks.ends import remembered
from tasks.exhibits import exhibit_exposure
from tasks.failures import noted_failures
from tasks.records import Failure, StepJob
from tasks.requests import ExposureRequest
from tasks.stage import Stage
from tasks.verify import inspect, inspect_job, verifiable_ccds, verify, verify_job, zeropoint_rows


@described
@remembered
@flow(name="verification", flow_run_name="verification-{exposure.expnum}", task_runner=ComputeTaskRunner())
def verification(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: tuple[int, ...] | None = None,
    overwrite: bool = False,
    settings: VerificationSettings = VerificationSettings(),
) -> State[dict[str, Any]]:
    """Verify the CCDs of an exposure; a CCD that is bad is a failure of this stage.

    Parameters
    ----------
    exposure
        Which exposure, and under which version its products are filed.
    site
        Name or folder of the site.
    ccds
        CCDs to verify; None for all that have products.
    overwrite
        Whether to compute what is known to be done.
    settings
        Limits.
    """
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    stage = Stage("verification", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = verifiable_ccds(who, place) if ccds is None else ccds
    zero_points = zeropoint_rows(who, place)

    jobs = stage.plan("inspect", wanted, lambda ccd: inspect_job(who, ccd, place, zero_points.get(ccd), settings))
    inspected = stage.map(inspect, jobs)
    for ccd, result in inspected.items():
        if result.quality["status"] == "bad":
            text = f"exposure {exposure.expnum}, CCD {ccd}, verify: {result.quality['reason']}"
            stage.miss(ccd, "verify", Failure(reason="verification", message=text, kind="ccd"))
    if not inspected:
        return stage.verdict(())
    missing = {n.ccd: n.failure for n in noted_failures(place, str(exposure.expnum)) if n.ccd is not None}
    missing |= {ccd: failure for ccd, failure in stage.failures.items() if ccd not in inspected}
    missing = {ccd: failure for ccd, failure in missing.items() if ccd not in inspected}
    verified = stage.run(verify, verify_job(inspected, missing, who, place, settings), inspected)
    if verified is not None:
        exhibit_exposure(who, place)
    return stage.verdict(set(inspected) - set(stage.failures), exposure=verified.quality if verified else {})
