"""Records of steps that were never done, for tests of what reads them."""

from pathlib import Path

from blocks.site import Site
from imaging.identity import ExposureId
from tasks.jobs import StepJob

EXPOSURE = ExposureId(1300001, "i", 20170818, rnum=4, pnum=5)


def record_toys(root: Path, ccds, step: str = "detrend") -> list[StepJob]:
    site = Site.at(root)
    jobs = [StepJob(exposure=EXPOSURE, ccd=ccd, site=site) for ccd in ccds]
    for job in jobs:
        path = site.records / job.subject / f"{step}-ccd{job.ccd:02d}-{'0' * 32}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return jobs
