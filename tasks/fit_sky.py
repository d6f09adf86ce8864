"""Fit the sky of an exposure from the mini-skies of all its CCDs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.detrend.defaults import default_notes
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary, read_sky_modes
from imaging.io.damage import DAMAGE, reading
from imaging.io.images import read_planes
from imaging.io.sealed import read_sealed, write_sealed
from imaging.sky.fit import SkyFit
from imaging.sky.fit import fit_sky as fit_modes
from imaging.sky.mini_sky import MiniSky
from imaging.sky.settings import SkySettings
from tasks.calibration_files import optional_calibration
from tasks.engine.jobs import Failure, StepResult
from tasks.engine.step import step
from tasks.exposure_solution import Basis, absentees
from tasks.jobs import StepJob
from tasks.steps import FIT_SKY

MINI_SKY = "mini_sky_"


def fit_sky_job(
    detrended: Mapping[int, StepResult],
    failures: Mapping[int, Failure],
    observed: Exposure,
    exposure: ExposureId,
    site: Site,
    settings: SkySettings,
    *,
    epoch: str | None = None,
) -> StepJob:
    """Plan the sky fit of an exposure.

    Parameters
    ----------
    detrended, failures
        CCD number to the result of its detrending, and to its failure.
    observed
        Exposure of the raw file's header.
    exposure, site, settings
        Exposure, site, settings of the step.
    epoch
        Calibration epoch to use regardless of its validity; None to follow the validity.
    """
    inputs = {f"{MINI_SKY}{ccd:02d}": result.products["mini_sky"] for ccd, result in sorted(detrended.items())}
    library = CalibrationLibrary(site.calibrations)
    inputs |= optional_calibration(site, library, "sky_modes", observed, 0, epoch=epoch)
    parameters: dict[str, Any] = {"without": absentees(failures)}
    lacking = {kind for ccd in detrended or (None,) for kind in library.lacking(observed, ccd, epoch=epoch)}
    warnings = library.age_warnings(observed, epoch=epoch) + default_notes(lacking)
    if warnings:
        parameters["calibration_warnings"] = list(warnings)
    return StepJob(exposure=exposure, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(FIT_SKY)
def fit_sky(job: StepJob) -> StepResult:
    """Fit the sky modes to all CCDs of an exposure; keep an earlier fit if only repaired CCDs were added."""
    paths = job.product_paths(FIT_SKY)
    path = paths["sky"]
    basis = Basis.of(job, fit_sky.code_version, MINI_SKY)
    fit = _earlier_fit(path, basis)
    if fit is None:
        band = job.exposure.band if job.exposure else None
        modes = read_sky_modes(job.input_path("sky_modes"), band) if "sky_modes" in job.inputs else None
        fit = fit_modes(_read_mini_skies(job), modes, job.settings_as(SkySettings))
        write_sealed(path, json.dumps({"basis": basis.model_dump(), "fit": fit.to_dict()}, indent=1))
    quality = {
        "method": fit.method,
        "n_modes": len(fit.modes_used),
        "sky_electrons": fit.sky_electrons,
        "rms_fraction": fit.rms_fraction,
        "condition": fit.condition,
        "suspicious_ccds": len(fit.suspicious),
    }
    notes = (*((fit.reason,) if fit.reason else ()), *job.parameters.get("calibration_warnings", ()))
    return job.result(paths, quality=quality, notes=notes)


def read_sky_fit(path: Path) -> SkyFit:
    """Read the sky of an exposure.

    Raises
    ------
    InputError
        If the file is missing or not a sky fit.
    """
    with reading(path, "sky fit missing or damaged", "fit the sky again"):
        return SkyFit.from_dict(json.loads(read_sealed(path))["fit"])


def _earlier_fit(path: Path, basis: Basis) -> SkyFit | None:
    """Return the existing fit if only repaired CCDs were added; None otherwise."""
    try:
        earlier = Basis.model_validate(json.loads(read_sealed(path))["basis"])
        fit = read_sky_fit(path)
    except (*DAMAGE, InputError):
        return None
    return fit if fit.method == "modes" and not fit.reason and basis.joins(earlier) else None


def _read_mini_skies(job: StepJob) -> dict[int, MiniSky]:
    skies = {}
    for name in sorted(job.inputs):
        if name.startswith(MINI_SKY):
            planes, header = read_planes(job.input_path(name), ["SKY"])
            skies[int(header["CCDNUM"])] = MiniSky(int(header["CCDNUM"]), planes["SKY"])
    return skies
