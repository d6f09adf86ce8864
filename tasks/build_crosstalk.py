"""Build the crosstalk matrix: coefficients of each victim from bright pixels of science frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from blocks.raw_index import raw_files
from blocks.site import Site
from imaging.detector.ccds import AMPLIFIERS, CCDS, AmplifierName, science_ccd
from imaging.detector.crosstalk import CrosstalkMatrix, CrosstalkTerm, Place, format_crosstalk, observatory_crosstalk
from imaging.errors import CcdError, InputError
from imaging.io.atomic import write_text
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, read_bad_pixels, read_crosstalk
from imaging.io.manifest import Kind
from imaging.masters.adu_frames import adu_frame
from imaging.masters.leaks import Contrast, Leak, contrast, find_leak, fit_leaks, updated_matrix
from imaging.masters.settings import LeakSettings
from imaging.timing import StepTimes
from tasks.calibration_files import master_path, optional_calibration
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import RawFile, indexed_raw
from tasks.raw_frames import frame_inputs, read_frames
from tasks.steps import DISK, MEASURE_CROSSTALK


def science_frames(site: Site, expnums: Sequence[int]) -> list[RawFile]:
    """Find the raw files of science exposures.

    Raises
    ------
    InputError
        If one is missing or no exposure of the sky.
    """
    known = raw_files(site)
    exposures = known.exposures()
    for expnum in expnums:
        if expnum not in exposures:
            raise InputError("raw file missing", expnum=expnum, remedy="make it known with gw-workflow add-raw")
        if exposures[expnum].obstype.lower() != "object":
            kind = exposures[expnum].obstype
            raise InputError("not an exposure of the sky", expnum=expnum, value=kind, limit="object")
    return [indexed_raw(site, known, expnum) for expnum in expnums]


def crosstalk_job(site: Site, ccd: int, epoch: str, raws: Sequence[RawFile], settings: LeakSettings) -> StepJob:
    """Plan the measurement of the crosstalk into one CCD, from the sources that the present matrix has."""
    extra: dict[str, FileRecord] = {}
    kinds: tuple[Kind, ...] = ("crosstalk", "bad_pixels")
    if (site.calibrations / MANIFEST).is_file():
        library, exposure = CalibrationLibrary(site.calibrations), raws[0].exposure
        for kind in kinds:
            extra |= optional_calibration(site, library, kind, exposure, ccd)
    base = read_crosstalk(site.path(extra["crosstalk"].path)) if "crosstalk" in extra else observatory_crosstalk()
    inputs, extensions = frame_inputs(site, raws, [ccd, *base.sources_of(ccd)])
    parameters = {"extensions": extensions}
    topic = f"crosstalk-{epoch}"
    return StepJob(topic=topic, ccd=ccd, site=site, inputs=inputs | extra, settings=settings, parameters=parameters)


@step(MEASURE_CROSSTALK, limit=DISK)
def measure_crosstalk(job: StepJob) -> StepResult:
    """Measure the coefficients of the crosstalk into one CCD; their names are those of :func:`pair_name`."""
    settings, times, ccd = job.settings_as(LeakSettings), StepTimes(), science_ccd(job.ccd or 0)
    base = read_crosstalk(job.input_path("crosstalk")) if "crosstalk" in job.inputs else observatory_crosstalk()
    bad = read_bad_pixels(job.input_path("bad_pixels"), ccd.ccdnum) != 0 if "bad_pixels" in job.inputs else None
    sources = {name: _sources(base, (ccd.ccdnum, name)) for name in AMPLIFIERS}
    leaks: dict[AmplifierName, list[Leak]] = {name: [] for name in AMPLIFIERS}
    with times.step("frames"):
        for _, exposure, raws in read_frames(job):
            frames: dict[int, Contrast] = {}
            for number, raw in raws.items():
                frame = adu_frame(CCDS[number], {number: raw}, exposure.night, settings.detrend)
                frames[number] = contrast(frame)
            for name in AMPLIFIERS:
                given = [(frames[n], a, term) for (n, a), term in sources[name].items() if n in frames]
                if len(given) == len(sources[name]) and frames[ccd.ccdnum].amplifier(name).usable:
                    leaks[name].append(find_leak(frames[ccd.ccdnum], bad, name, given, settings))
    quality: dict[str, float] = {}
    with times.step("fit"):
        for name in AMPLIFIERS:
            guess = np.array([0.0 if term is None else term.coefficient for term in sources[name].values()])
            values, errors = fit_leaks(leaks[name], guess, settings)
            for source, value, error in zip(sources[name], values, errors, strict=True):
                quality[pair_name((ccd.ccdnum, name), source)] = float(value)
                quality[f"{pair_name((ccd.ccdnum, name), source)} error"] = float(error)
    return job.result(quality=quality, cpu_s=times.cpu_s)


def pair_name(victim: Place, source: Place) -> str:
    """Return the name of a coefficient: ``ccd25B ccd25A`` as in the observatory's table, the victim first."""
    return " ".join(f"ccd{ccd:02d}{amplifier}" for ccd, amplifier in (victim, source))


def write_matrix(
    site: Site, epoch: str, base: CrosstalkMatrix, results: Mapping[int, StepResult], settings: LeakSettings
) -> tuple[Path, dict[str, int]]:
    """Write the matrix with the measured coefficients; return its path and how many were taken and kept.

    Raises
    ------
    CcdError
        With reason ``too_few_stars`` if no coefficient was measured well enough.
    """
    names = {pair_name(victim, source): (victim, source) for victim, source in _pairs(base, results)}
    measured = {}
    for result in results.values():
        for name, pair in names.items():
            value, error = result.quality.get(name), result.quality.get(f"{name} error")
            if isinstance(value, float) and isinstance(error, float):
                measured[pair] = (value, error)
    matrix, errors = updated_matrix(base, measured, settings.maximum_error)
    if not errors:
        raise CcdError(
            "no crosstalk coefficient was measured well enough",
            reason="too_few_stars",
            step="measure_crosstalk",
            value=f"least error {min((error for _, error in measured.values()), default=float('nan')):.1e}",
            limit=f"{settings.maximum_error:.0e}",
            remedy="give more exposures, with saturated stars",
        )
    path = master_path(site, epoch, "crosstalk", 0)
    write_text(path, format_crosstalk(matrix.terms, errors))
    return path, {"measured": len(errors), "kept": len(matrix.terms) - len(errors)}


def _sources(base: CrosstalkMatrix, victim: Place) -> dict[Place, CrosstalkTerm | None]:
    """Return the sources of a victim with their terms: those of the matrix, and its CCD's other amplifier."""
    found: dict[Place, CrosstalkTerm | None] = {(victim[0], "B" if victim[1] == "A" else "A"): None}
    found |= {term.source: term for term in base.into(victim[0]) if term.victim == victim}
    return {source: term for source, term in found.items() if not CCDS[source[0]].is_focus}


def _pairs(base: CrosstalkMatrix, ccds: Mapping[int, object]) -> list[tuple[Place, Place]]:
    return [((ccd, a), source) for ccd in ccds for a in AMPLIFIERS for source in _sources(base, (ccd, a))]
