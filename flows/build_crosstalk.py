"""Build the crosstalk matrix from science frames.

map measure_crosstalk -> one table -> manifest
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from blocks.folders import load_site
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.detector.status import working_ccds
from imaging.errors import InputError
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, read_crosstalk
from imaging.masters.settings import LeakSettings
from tasks.build_crosstalk import crosstalk_job, measure_crosstalk, science_frames, write_matrix
from tasks.calibration_files import record_files
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.requests import Ccds, Name
from tasks.steps import MEASURE_CROSSTALK

ExposureNumbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
"""At least one exposure number."""


@keep_result
@flow(name="build-crosstalk", flow_run_name="build-crosstalk-{epoch}", task_runner=ComputeTaskRunner())
def build_crosstalk(
    expnums: ExposureNumbers,
    epoch: Name,
    site: str = "default",
    ccds: Ccds | None = None,
    overwrite: bool = False,
    settings: LeakSettings = LeakSettings(),
) -> State[dict[str, Any]]:
    """Measure crosstalk coefficients from bright pixels of science frames and add the matrix to the library.

    Args:
        expnums: Raw exposures of the sky, of any bands and fields.
        epoch: Name of the calibration epoch.
        site: Name or folder of the site.
        ccds: CCDs whose crosstalk from others is measured; None for all that worked and are in the files.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If a raw file is missing or no exposure of the sky.
    """
    if not expnums:
        raise InputError("no exposures to measure crosstalk from", limit="at least 1")
    place = load_site(site)
    raws = science_frames(place, expnums)
    latest = max((raw.exposure for raw in raws), key=lambda exposure: exposure.night)
    wanted = ccds or tuple(c for c in working_ccds(latest.night) if all(c in raw.index.extensions for raw in raws))
    base = observatory_crosstalk()
    if (place.calibrations / MANIFEST).is_file():
        library = CalibrationLibrary(place.calibrations)
        if library.holds("crosstalk", raws[0].exposure):
            base = read_crosstalk(library.find("crosstalk", raws[0].exposure, wanted[0]))
    stage = Stage("build-crosstalk", StepJob(topic=f"crosstalk-{epoch}", site=place), overwrite=overwrite)
    jobs = stage.plan(MEASURE_CROSSTALK, wanted, lambda ccd: crosstalk_job(place, ccd, epoch, raws, settings))
    made = stage.map(measure_crosstalk, jobs)
    if not made:
        return stage.final_state(())
    path, counts = write_matrix(place, epoch, base, made, settings)
    record_files(place, latest.night, epoch, {("crosstalk", None): [path]})
    return stage.final_state(made, epoch=epoch, coefficients=counts)
