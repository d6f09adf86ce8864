"""Show what there is to look at on a run's page: graded tables and the pages that the steps have made."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext

from blocks.nights import RegisteredNight
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.tables import read_table
from imaging.quality.grades import grade_quality
from tasks.pages import graded_rows
from tasks.records import StepJob

LEGEND = "🟢 good, 🟡 fair, 🟠 poor, 🔴 bad."


def exhibit_exposure(exposure: ExposureId, site: Site) -> None:
    """Put an exposure's graded quality table and its focal-plane pictures on the page of the current run."""
    if FlowRunContext.get() is None:
        return
    job = StepJob(exposure=exposure, site=site)
    table = read_table(job.product_path("quality.parquet"))
    what = f"exposure {exposure.expnum} ({exposure.band})"
    create_table_artifact(
        graded_rows(table.to_pylist(), grade_quality(table).to_pylist()),
        key=f"quality-{exposure.expnum}",
        description=f"Quality of {what}, CCD by CCD. {LEGEND}",
    )
    create_markdown_artifact(
        job.product_path("focalplane.md").read_text(encoding="utf-8"),
        key=f"focal-plane-{exposure.expnum}",
        description=f"Status, seeing, sky, astrometry, depth and zero point of {what}",
    )


def exhibit_difference(exposure: ExposureId, season: int, site: Site) -> None:
    """Put the quality of an exposure's differences on the page of the current run."""
    if FlowRunContext.get() is None:
        return
    table = read_table(StepJob(exposure=exposure, season=season, site=site).product_path("quality.parquet"))
    create_table_artifact(
        graded_rows(table.to_pylist(), grade_quality(table).to_pylist()),
        key=f"difference-{exposure.expnum}",
        description=f"Quality of the differences of exposure {exposure.expnum} ({exposure.band}). {LEGEND}",
    )


def exhibit_night(registered: RegisteredNight, site: Site) -> None:
    """Put the best candidates of a night, with stamps, and its picture on the page of the current run."""
    if FlowRunContext.get() is None:
        return
    record = registered.record
    job = StepJob(night=record.night, site=site)
    page = job.product_path("candidates.md").read_text(encoding="utf-8")
    create_markdown_artifact(
        f"{page}\nThe page with all candidates: `{job.product_path('candidates.html')}`\n",
        key=f"candidates-{record.night}",
        description=f"Candidates of {record.event}, night {record.night}",
    )
