"""Artifacts of flow runs: quality tables and Markdown pages."""

from typing import Any

from prefect.client.schemas.objects import State

from blocks.nights import RegisteredNight
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.tables import read_table
from imaging.pictures.markdown import LEGEND, embedded, graded_rows
from imaging.pictures.night_summary import night_summary_page
from imaging.pictures.zeropoints import NAMES
from imaging.plain_text import markdown_text
from imaging.quality.grades import grade_quality
from tasks.engine.artifacts import try_to_create_artifact
from tasks.engine.final_state import summary_of
from tasks.engine.task_runner import page_run
from tasks.jobs import StepJob
from tasks.steps import STEPS


def show_exposure(exposure: ExposureId, site: Site) -> None:
    """Create artifacts with the quality table and the focal-plane pictures of an exposure."""
    run = page_run()
    if run is None:
        return
    job = StepJob(exposure=exposure, site=site)
    table = read_table(job.product_path("quality.parquet"))
    what = f"exposure {exposure.expnum} ({exposure.band})"
    rows = graded_rows(table.to_pylist(), grade_quality(table).to_pylist())
    try_to_create_artifact(run, "table", f"quality-{exposure.expnum}", rows, f"Quality of {what}, CCD by CCD. {LEGEND}")
    page = job.product_path("focalplane.md").read_text(encoding="utf-8")
    about = f"Status, seeing, sky, astrometry, depth and zero point of {what}"
    try_to_create_artifact(run, "markdown", f"focal-plane-{exposure.expnum}", page, about)


def show_difference(exposure: ExposureId, season: int, site: Site) -> None:
    """Create artifacts with the quality and the search efficiency of an exposure's difference images."""
    run = page_run()
    if run is None:
        return
    job = StepJob(exposure=exposure, season=season, site=site)
    table = read_table(job.product_path("quality.parquet"))
    rows = graded_rows(table.to_pylist(), grade_quality(table).to_pylist())
    what = f"exposure {exposure.expnum} ({exposure.band})"
    try_to_create_artifact(
        run, "table", f"difference-{exposure.expnum}", rows, f"Quality of the difference images of {what}. {LEGEND}"
    )
    efficiency = [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
        for row in read_table(job.product_path("efficiency.parquet")).to_pylist()
    ]
    about = f"Recovered fraction of injected transients in {what}, by environment and magnitude"
    try_to_create_artifact(run, "table", f"efficiency-{exposure.expnum}", efficiency, about)


def show_candidates(registered: RegisteredNight, site: Site) -> None:
    """Create an artifact with the best candidates of a night, their stamps, and the picture of the night."""
    run = page_run()
    if run is None:
        return
    record = registered.record
    job = StepJob(night=record.night, site=site)
    page = job.product_path("candidates.md").read_text(encoding="utf-8")
    page += f"\nPage with all candidates: `{job.product_path('candidates.html')}`\n"
    try_to_create_artifact(
        run,
        "markdown",
        f"candidates-{record.night}",
        page,
        f"Candidates of {markdown_text(record.event)}, night {record.night}",
    )


def show_night_summary(night: int, state: State[dict[str, Any]], flow_cpu_s: float) -> None:
    """Create an artifact with the summary of a night: exposures, time per step, failures.

    Parameters
    ----------
    night
        The night, YYYYMMDD.
    state
        Its final state.
    flow_cpu_s
        CPU seconds of the flow's process.
    """
    run = page_run()
    if run is None:
        return
    in_flow = tuple(name for name, step in STEPS.items() if step.runs_in_flow)
    page = night_summary_page(summary_of(state), state.message or "", flow_cpu_s, in_flow)
    try_to_create_artifact(run, "markdown", f"night-{night}", page, f"Exposures, time and failures of night {night}")


def show_disk(night: int, rows: list[dict[str, Any]]) -> None:
    """Create an artifact with what became of the images of a night's exposures on disk."""
    run = page_run()
    if run is not None:
        try_to_create_artifact(run, "table", f"disk-{night}", rows, f"Images compressed and removed, night {night}")


def show_zeropoints(exposure: ExposureId, site: Site) -> None:
    """Create an artifact with focal-plane pictures of an exposure's zero points; do nothing outside of a run."""
    run = page_run()
    if run is None:
        return
    job = StepJob(exposure=exposure, site=site)
    paths = {label: job.product_path(f"{suffix}.png") for suffix, label in NAMES.items()}
    images = [embedded(path.read_bytes(), label) for label, path in paths.items() if path.is_file()]
    what = f"exposure {exposure.expnum} ({exposure.band})"
    page = f"# Zero points of {what}\n\n" + "\n\n".join(images) + "\n"
    try_to_create_artifact(
        run, "markdown", f"zero-points-{exposure.expnum}", page, f"Zero points of {what}, their deviations and stars"
    )
