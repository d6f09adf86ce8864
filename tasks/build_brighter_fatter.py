"""Build brighter-fatter kernels of one CCD from pairs of dome flats."""

from collections.abc import Iterable, Sequence

import numpy as np

from blocks.site import Site
from imaging.detector.ccds import science_ccd
from imaging.detrend.amplifiers import AmplifierFigures
from imaging.errors import InputError
from imaging.io.calibration_write import write_brighter_fatter
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, read_bad_pixels, read_linearity
from imaging.masters.adu_frames import AduFrame, adu_frame
from imaging.masters.repulsion import FlatCovariance, fit_repulsion, pair_covariance
from imaging.masters.settings import RepulsionSettings
from imaging.timing import StepTimes
from tasks.calibration_files import master_path, optional_calibration
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import RawFile
from tasks.raw_frames import frame_inputs, read_frames
from tasks.steps import DISK, MEASURE_REPULSION


def flat_pairs(raws: Iterable[RawFile], night: int) -> list[tuple[RawFile, RawFile]]:
    """Return pairs of successive dome flats of one band and exposure time.

    Raises
    ------
    InputError
        If there is none.
    """
    groups: dict[tuple[str, float], list[RawFile]] = {}
    for raw in sorted(raws, key=lambda raw: raw.exposure.mjd):
        groups.setdefault((raw.exposure.band, round(raw.exposure.exptime_s, 3)), []).append(raw)
    pairs = [pair for found in groups.values() for pair in zip(found[::2], found[1::2], strict=False)]
    if not pairs:
        raise InputError(
            "the night has no pairs of dome flats",
            value=night,
            limit="two of one band and exposure time",
            remedy="give a night with dome flats",
        )
    # Long exposures first: the effect grows with the level, and each CCD leaves out pairs that are too bright for it.
    return sorted(pairs, key=lambda pair: (-pair[0].exposure.exptime_s, pair[0].exposure.expnum))


def repulsion_job(
    site: Site,
    night: int,
    ccd: int,
    epoch: str,
    pairs: Sequence[tuple[RawFile, RawFile]],
    settings: RepulsionSettings,
) -> StepJob:
    """Plan the kernels of one CCD; linearity and bad pixels are those of the library, if it has them."""
    inputs, extensions = frame_inputs(site, [raw for pair in pairs for raw in pair], [ccd])
    if (site.calibrations / MANIFEST).is_file():
        library, exposure = CalibrationLibrary(site.calibrations), pairs[0][0].exposure
        inputs |= optional_calibration(site, library, "linearity", exposure, ccd)
        inputs |= optional_calibration(site, library, "bad_pixels", exposure, ccd)
    parameters = {"epoch": epoch, "extensions": extensions}
    return StepJob(night=night, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(MEASURE_REPULSION, limit=DISK)
def measure_repulsion(job: StepJob) -> StepResult:
    """Measure the kernels of one CCD from as many pairs of suitable level as the settings allow."""
    settings, times, ccd = job.settings_as(RepulsionSettings), StepTimes(), science_ccd(job.ccd or 0)
    bad = read_bad_pixels(job.input_path("bad_pixels"), ccd.ccdnum) != 0 if "bad_pixels" in job.inputs else None
    linear = read_linearity(job.input_path("linearity"), ccd.ccdnum) if "linearity" in job.inputs else None
    found: list[FlatCovariance] = []
    n_pairs = 0
    with times.step("covariances"):
        first: AduFrame | None = None
        for _, exposure, raws in read_frames(job):
            frame = adu_frame(ccd, raws, exposure.night, settings.detrend)
            if first is None:
                first = frame
                continue
            measured = [
                pair_covariance(
                    first.science[:, a.columns],
                    frame.science[:, a.columns],
                    None if bad is None else bad[:, a.columns],
                    a.gain,
                    _slope(linear.adu, linear.linear[a.name], first, a) if linear is not None else 1.0,
                    float(
                        np.hypot(first.overscans[a.name].noise_adu, frame.overscans[a.name].noise_adu) / np.sqrt(2.0)
                    ),
                    settings.clip_sigma,
                )
                for a in frame.amplifiers
                if a.usable and _suits(first, frame, a, settings)
            ]
            first, found, n_pairs = None, found + measured, n_pairs + bool(measured)
            if n_pairs >= settings.maximum_pairs:
                break
    with times.step("fit"):
        kernel = fit_repulsion(found, ccd.ccdnum, settings)
    path = master_path(job.site, job.parameters["epoch"], "brighter_fatter", ccd.ccdnum)
    write_brighter_fatter(path, ccd, kernel, {"CCDNUM": ccd.ccdnum, "DETPOS": ccd.detpos, "NITE": job.night})
    quality = {"n_pairs": float(n_pairs), "level_electrons": float(np.mean([each.mean_electrons for each in found]))}
    quality |= {"right_pixels": float(kernel.right[0, 0]), "top_pixels": float(kernel.top[0, 0])}
    return job.result({"brighter_fatter": path}, quality=quality, cpu_s=times.cpu_s)


def _level(frame: AduFrame, a: AmplifierFigures) -> float:
    return float(np.median(frame.science[::8, a.columns][:, ::8]))


def _slope(adu: np.ndarray, linear: np.ndarray, frame: AduFrame, a: AmplifierFigures) -> float:
    """Return the derivative of the response curve at the level of a frame."""
    level = _level(frame, a)
    above, below = np.interp([1.1 * level, 0.9 * level], adu, linear)
    return float((above - below) / (0.2 * level))


def _suits(first: AduFrame, second: AduFrame, a: AmplifierFigures, settings: RepulsionSettings) -> bool:
    """Whether two flats have one level, which is neither too low nor too near to saturation."""
    one, other = _level(first, a), _level(second, a)
    low, high = settings.level_electrons
    inside = low <= one * a.gain <= min(high, settings.saturation_share * a.saturation_electrons)
    return inside and abs(one / other - 1.0) <= settings.level_tolerance
