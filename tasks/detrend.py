"""Detrend: from raw pixels to flat-fielded electrons, per CCD."""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blocks.site import Site
from imaging.detector.ccds import science_ccd
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.detrend.chain import detrend_ccd
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError
from imaging.identity import ExposureId
from imaging.image import RawCcd
from imaging.io.calibrations import CalibrationLibrary, Kind, read_crosstalk
from imaging.io.detrend_calibrations import detrend_calibration_paths, read_detrend_calibrations
from imaging.io.images import write_planes
from imaging.io.raw import RawExtension, read_exposure, read_raw_ccd
from imaging.quantise import sky_step
from tasks.calibration_files import calibration_record
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import RawFile
from tasks.steps import DETREND, DISK


def detrend_planner(
    raw: RawFile, exposure: ExposureId, site: Site, settings: DetrendSettings, *, epoch: str | None = None
) -> Callable[[int], StepJob]:
    """Return a function that plans the detrending of a CCD of an exposure.

    Parameters
    ----------
    raw
        The raw file.
    exposure, site, settings
        Exposure, site, settings of the step.
    epoch
        Calibration epoch to use regardless of its validity; None to follow the validity.

    Returns
    -------
    plan
        CCD number to job. Raises ``InputError`` if a calibration of the CCD is missing or outside its validity.

    Raises
    ------
    InputError
        If there is no calibration library.
    """
    library = CalibrationLibrary(site.calibrations)

    def plan(ccd: int) -> StepJob:
        paths = detrend_calibration_paths(library, raw.exposure, ccd, epoch=epoch)
        matrix = read_crosstalk(paths["crosstalk"]) if "crosstalk" in paths else observatory_crosstalk()
        sources = matrix.sources_of(ccd)
        present = [ccd, *(source for source in sources if source in raw.index.extensions)]
        inputs: dict[str, FileRecord] = {k: calibration_record(site, library, path) for k, path in paths.items()}
        inputs["raw"] = raw.record(site, present)
        extensions = [astuple(raw.extension(number)) for number in present]
        return StepJob(
            exposure=exposure,
            ccd=ccd,
            site=site,
            inputs=inputs,
            settings=settings,
            parameters={"extensions": extensions},
        )

    return plan


@step(DETREND, limit=DISK)
def detrend(job: StepJob) -> StepResult:
    """Remove the instrumental signature from one CCD, mask bad pixels, and bin its sky into a mini-sky."""
    ccd = science_ccd(job.ccd or 0)
    path = job.input_path("raw")
    own, *others = (RawExtension(*values) for values in job.parameters["extensions"])
    raw = read_raw_ccd(path, own, job.expnum or 0)
    sources = {e.ccdnum: found for e in others if (found := _read_source(job, e)) is not None}
    observed = read_exposure(path)
    kinds: list[Kind] = [name for name in job.inputs if name != "raw"]  # type: ignore[misc]
    calibrations = read_detrend_calibrations({kind: job.input_path(kind) for kind in kinds}, ccd.ccdnum, observed.band)
    settings = job.settings_as(DetrendSettings)
    detrended = detrend_ccd(ccd, raw, sources, observed, calibrations, settings)
    paths = job.product_paths(DETREND)
    read_noise = min(amplifier.read_noise_electrons for amplifier in detrended.amplifiers)
    steps = {"SCI": sky_step(detrended.mini_sky.values, read_noise)}
    planes: dict[str, NDArray[Any]] = {"SCI": detrended.science, "MSK": detrended.mask}
    write_planes(paths["image"], planes, detrended.header, pack=True, steps=steps)
    write_planes(paths["mini_sky"], {"SKY": detrended.mini_sky.values.astype(np.float32)}, {"CCDNUM": ccd.ccdnum})
    quality = detrended.quality | {"crosstalk_sources_missing": float(len(others) - len(sources))}
    replaced = detrended.header.get("CAMVALS")
    notes = (
        (f"{job.label}: {replaced}: no possible values in the raw header; the camera's are used",) if replaced else ()
    )
    return job.result(paths, quality=quality, cpu_s=detrended.times.cpu_s, notes=notes)


def _read_source(job: StepJob, extension: RawExtension) -> RawCcd | None:
    """Read a CCD with crosstalk into this one; None if it is damaged: then this crosstalk is not corrected."""
    try:
        return read_raw_ccd(job.input_path("raw"), extension, job.expnum or 0)
    except CcdError:
        return None
