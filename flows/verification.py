"""Verification: check every product, accept or reject each CCD, and grade the exposure.

map check_products -> verify the exposure -> pictures and graded table on the page of the run
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from imaging.quality.settings import VerificationSettings
from tasks.artifacts import show_exposure
from tasks.check_products import check_products, check_products_job, verifiable_ccds, zeropoint_rows
from tasks.engine.failures import noted_failures
from tasks.engine.final_state import keep_result
from tasks.engine.jobs import Failure
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.requests import Ccds, ExposureRequest
from tasks.steps import CHECK_PRODUCTS, VERIFY
from tasks.verify import verify, verify_job


@keep_result
@flow(name="verification", flow_run_name="verification-{exposure.expnum}", task_runner=ComputeTaskRunner())
def verification(
    exposure: ExposureRequest,
    site: str = "default",
    ccds: Ccds | None = None,
    overwrite: bool = False,
    settings: VerificationSettings = VerificationSettings(),
) -> State[dict[str, Any]]:
    """Verify the CCDs of an exposure; a CCD with bad status is a failure of this stage.

    Args:
        exposure: The exposure, and the version of its products.
        site: Name or folder of the site.
        ccds: CCDs to verify; None for all that have products.
        overwrite: Recompute cached steps.
        settings: Limits of the quality numbers.
    """
    place = load_site(site).storing_in(exposure.destination)
    who = exposure.exposure_id()
    stage = Stage("verification", StepJob(exposure=who, site=place), overwrite=overwrite)
    wanted = verifiable_ccds(who, place) if ccds is None else ccds
    zero_points = zeropoint_rows(who, place)

    jobs = stage.plan(
        CHECK_PRODUCTS, wanted, lambda ccd: check_products_job(who, ccd, place, zero_points.get(ccd), settings)
    )
    checked = stage.map(check_products, jobs)
    for ccd, result in checked.items():
        if result.quality["status"] == "bad":
            text = f"exposure {exposure.expnum}, CCD {ccd}, {VERIFY.name}: {result.quality['reason']}"
            stage.miss(ccd, VERIFY.name, Failure(reason="verification", message=text, kind="ccd"))
    if not checked:
        return stage.final_state(())
    missing = {n.unit: n.failure for n in noted_failures(place, str(exposure.expnum)) if n.unit is not None}
    missing |= {ccd: failure for ccd, failure in stage.failures.items() if ccd not in checked}
    missing = {ccd: failure for ccd, failure in missing.items() if ccd not in checked}
    verified = stage.run(verify, verify_job(checked, missing, who, place, settings), checked)
    if verified is not None:
        show_exposure(who, place)
    return stage.final_state(set(checked) - set(stage.failures), exposure=verified.quality if verified else {})
