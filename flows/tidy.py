"""Tidy up behind exposures of earlier runs: remove the intermediate images, compress those of earlier versions.

for each exposure: remove what only the next step reads -> map tidy (compress)
"""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from blocks.site import Site
from tasks.artifacts import show_disk
from tasks.engine.final_state import final_state, keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest
from tasks.tidy import remove_intermediates, tidy, tidy_jobs


@keep_result
@flow(name="tidy", flow_run_name="tidy-{night}", task_runner=ComputeTaskRunner())
def tidy_exposures(
    night: int,
    exposures: Sequence[ExposureRequest],
    site: str = "default",
) -> State[dict[str, Any]]:
    """Compress the images of processed exposures and remove the intermediate ones; no pixel changes.

    Args:
        night: Night for whose run this is done, YYYYMMDD.
        exposures: Exposures, with their versions.
        site: Name or folder of the site.
    """
    first = load_site(site)
    stage = Stage("tidy", StepJob(night=night, site=first), overwrite=True)
    rows = [tidy_one(stage, exposure, first.storing_in(exposure.destination)) for exposure in exposures]
    show_disk(night, rows)
    what = f"night {night}, tidied exposures"
    return final_state(what, [row["expnum"] for row in rows], stage.others, summary={"exposures": rows})


def tidy_one(stage: Stage, exposure: ExposureRequest, place: Site) -> dict[str, Any]:
    """Tidy up behind one exposure; return what became of its images.

    Parameters
    ----------
    stage
        Stage in which failures are recorded.
    exposure, place
        The exposure, and the site with its products.
    """
    who = exposure.exposure_id()
    n_removed, removed = remove_intermediates(who, place)
    done = stage.map_all(tidy, tidy_jobs(who, exposure.season, place))
    before, after = (sum(int(r.quality[name] or 0) for r in done) for name in ("bytes_before", "bytes_after"))
    return {
        "expnum": exposure.expnum,
        "removed_files": n_removed,
        "removed_gb": round(removed / 1e9, 3),
        "compressed_ccds": len(done),
        "before_gb": round(before / 1e9, 3),
        "after_gb": round(after / 1e9, 3),
        "cpu_s": round(sum(r.total_cpu_s for r in done), 1),
    }
