"""Tie the astrometry of an exposure: one joint solution of all CCDs, and streaks extrapolated across CCDs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from blocks.site import Site
from imaging.astrometry.solution import NOT_TIED, ExposureAstrometry, TiedCcd
from imaging.astrometry.tie import tie_exposure
from imaging.astrometry.turbulence import Turbulence
from imaging.detector.ccds import NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary
from imaging.io.damage import DAMAGE, reading
from imaging.io.displacement import read_displacement
from imaging.io.sealed import read_sealed, write_sealed
from imaging.io.tables import read_table
from imaging.masks.streak_links import link_streaks
from imaging.masks.streak_model import Streak
from imaging.masks.tables import streaks_from_table
from imaging.measure.settings import MeasureSettings
from imaging.wcs.tpv import TpvWcs
from tasks.calibration_files import optional_calibration
from tasks.engine.jobs import Failure, StepResult
from tasks.engine.step import step
from tasks.exposure_solution import Basis, absentees
from tasks.jobs import StepJob
from tasks.steps import TIE_ASTROMETRY

MATCHES, STREAKS, COORDINATES, DISPLACEMENT = "matches_", "streaks_", "coordinates_", "displacement_"


def tie_astrometry_job(
    measured: Mapping[int, StepResult],
    failures: Mapping[int, Failure],
    observed: Exposure,
    exposure: ExposureId,
    site: Site,
    settings: MeasureSettings,
    *,
    epoch: str | None = None,
    imported: bool = False,
) -> StepJob:
    """Plan the joint astrometric solution of an exposure.

    Parameters
    ----------
    measured, failures
        CCD number to the result of its measurement, and to its failure.
    observed
        Exposure of the raw file's header.
    exposure, site, settings
        Exposure, site, settings of the step.
    epoch
        Calibration epoch to use regardless of its validity; None to follow the validity.
    imported
        Whether another pipeline calibrated the images; their own coordinates are then corrected, not the nominal ones,
        and no displacements are taken out.
    """
    inputs = {}
    library = None if imported else CalibrationLibrary(site.calibrations)
    for ccd, result in sorted(measured.items()):
        inputs[f"{MATCHES}{ccd:02d}"] = result.products["matches"]
        inputs[f"{STREAKS}{ccd:02d}"] = result.products["streaks"]
        if library is None:
            inputs[f"{COORDINATES}{ccd:02d}"] = result.products["quality"]
        else:
            found = optional_calibration(site, library, "pixel_displacement", observed, ccd, epoch=epoch)
            inputs |= {f"{DISPLACEMENT}{ccd:02d}": record for record in found.values()}
    parameters = {"pointing": [observed.ra_deg, observed.dec_deg], "without": absentees(failures)}
    parameters |= {"band": observed.band}
    return StepJob(exposure=exposure, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(TIE_ASTROMETRY)
def tie_astrometry(job: StepJob) -> StepResult:
    """Solve the astrometry of all CCDs jointly, and predict streaks on CCDs where they were too faint to detect."""
    settings = job.settings_as(MeasureSettings)
    basis = Basis.of(job, tie_astrometry.code_version, MATCHES, DISPLACEMENT)
    ccds = sorted(basis.inputs)
    stated = _stated_coordinates(job, ccds)
    seeds = {ccd: seed_wcs(ccd, *job.parameters["pointing"]) for ccd in ccds}
    seeds |= {ccd: TpvWcs.from_header(c["nominal"]) for ccd, c in stated.items()}
    parts = {ccd: TiedCcd.model_validate(c["part"]) for ccd, c in stated.items() if c["part"] is not None}
    matches = {ccd: read_table(job.input_path(f"{MATCHES}{ccd:02d}")) for ccd in ccds if ccd not in parts}
    whole = {ccd: seed for ccd, seed in seeds.items() if ccd not in parts}
    displacements = {
        ccd: read_displacement(job.input_path(f"{DISPLACEMENT}{ccd:02d}"), ccd, job.parameters["band"])
        for ccd in ccds
        if f"{DISPLACEMENT}{ccd:02d}" in job.inputs
    }
    tied = tie_exposure(matches, whole, (NY, NX), settings.astrometry, displacements) if whole else NOT_TIED
    astrometry = tied.joined(parts)
    found = streaks_from_table(pa.concat_tables(read_table(job.input_path(f"{STREAKS}{ccd:02d}")) for ccd in ccds))
    linked = link_streaks(found, seeds, settings.streaks)
    kept = _kept_ccds(job, basis)
    products = job.product_paths(TIE_ASTROMETRY)
    for ccd in ccds:
        path = products[f"tie_{ccd:02d}"] = ccd_tie_path(job, ccd)
        if ccd not in kept:
            streaks = [asdict(streak) for streak in linked.predicted.get(ccd, ())]
            part = {"solution": astrometry.ccds[ccd].model_dump(), "predicted_streaks": streaks}
            write_sealed(path, json.dumps(part, indent=1))
    summary = astrometry.model_dump(exclude={"ccds"})
    trails = [asdict(trail) for trail in linked.trails]
    document: dict[str, object] = {"basis": basis.model_dump(), "astrometry": summary, "trails": trails}
    write_sealed(products["tie"], json.dumps(document, indent=1))
    return job.result(products, quality=_quality(astrometry) | {"n_trails": len(trails)})


def _stated_coordinates(job: StepJob, ccds: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the coordinates of imported images: ``nominal`` of their headers, ``part`` of those that are final."""
    names = {ccd: f"{COORDINATES}{ccd:02d}" for ccd in ccds}
    paths = {ccd: job.input_path(name) for ccd, name in names.items() if name in job.inputs}
    return {ccd: dict(json.loads(read_sealed(path))["coordinates"]) for ccd, path in paths.items()}


def ccd_tie_path(job: StepJob, ccd: int) -> Path:
    """Return the path of one CCD's part of the joint solution."""
    return job.model_copy(update={"ccd": ccd}).product_path("tie.json")


def read_ccd_tie(path: Path) -> tuple[TiedCcd, list[Streak]]:
    """Read one CCD's coordinates and the streaks predicted on it.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    with reading(path, "tie of a CCD missing or damaged", "tie the exposure again"):
        document = json.loads(read_sealed(path))
        streaks = [Streak(**item) for item in document["predicted_streaks"]]
        return TiedCcd.model_validate(document["solution"]), streaks


def read_turbulence(path: Path) -> Turbulence:
    """Read the statistics of the turbulence of an exposure from its tie.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    with reading(path, "tie of an exposure missing or damaged", "tie the exposure again"):
        stated = json.loads(read_sealed(path))["astrometry"]
        return TypeAdapter(Turbulence).validate_python(stated["turbulence"])


def _kept_ccds(job: StepJob, basis: Basis) -> set[int]:
    """Return the CCDs whose part of an earlier solution is kept, because only repaired CCDs were added to it."""
    try:
        document = json.loads(read_sealed(job.product_path("tie.json")))
        earlier = Basis.model_validate(document["basis"])
        if not basis.joins(earlier):
            return set()
        for ccd in earlier.inputs:
            read_ccd_tie(ccd_tie_path(job, ccd))
    except (*DAMAGE, InputError):
        return set()
    return set(earlier.inputs)


def _quality(astrometry: ExposureAstrometry) -> dict[str, float]:
    return {
        "n_stars": astrometry.n_stars,
        "scatter_mas": astrometry.scatter_mas,
        "turbulence_mas": astrometry.turbulence.amplitude_mas,
        "pointing_offset_east_arcsec": astrometry.pointing_offset_arcsec[0],
        "pointing_offset_north_arcsec": astrometry.pointing_offset_arcsec[1],
    }
