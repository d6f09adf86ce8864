"""Build response curves: the linearity of the amplifiers of one CCD from a ramp of dome flats."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from blocks.site import Site
from imaging.detector.ccds import science_ccd
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.errors import InputError
from imaging.io.calibration_write import write_linearity
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, read_calibration_image, read_crosstalk
from imaging.masters.adu_frames import adu_frame
from imaging.masters.ramp import RampFrame, fit_ramp, frame_signals
from imaging.masters.settings import RampSettings
from imaging.timing import StepTimes
from tasks.calibration_files import calibration_record, master_path, optional_calibration
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import OFTEN, RawFile
from tasks.raw_frames import frame_inputs, read_frames
from tasks.steps import DISK, MEASURE_LINEARITY


def ramp_frames(flats: Iterable[RawFile], settings: RampSettings) -> list[RawFile]:
    """Return the dome flats of a night that belong to a ramp; none without one.

    They are those of the bands with many exposure times, without series of one time, whose lamp may be another one.
    """
    found = []
    for _, frames in _by_band(flats):
        series = [list(same) for _, same in groupby(frames, _exptime)]
        turns = [raw for same in series if len(same) < OFTEN for raw in same]
        for possible in (turns, frames):
            if len({*map(_exptime, possible)}) >= settings.minimum_times:
                found += possible
                break
    return found


def ramps(flats: Sequence[RawFile], night: int, settings: RampSettings) -> list[RawFile]:
    """Return the dome flats of a night that belong to a ramp, as :func:`ramp_frames`.

    Raises
    ------
    InputError
        If no band has enough exposure times.
    """
    found = ramp_frames(flats, settings)
    if not found:
        times = [f"{band}: {len({*map(_exptime, frames)})}" for band, frames in _by_band(flats)]
        raise InputError(
            "the night has no ramp of dome flats",
            value=f"night {night}, exposure times per band: {', '.join(times) or 'no dome flats'}",
            limit=f"at least {settings.minimum_times} exposure times in a band",
            remedy="give a night with such a ramp, or import a linearity table with import-calibrations",
        )
    return found


def _exptime(raw: RawFile) -> float:
    return round(raw.exposure.exptime_s, 3)


def _by_band(flats: Iterable[RawFile]) -> list[tuple[str, list[RawFile]]]:
    """Return the frames of each band in order of time."""
    ordered = sorted(flats, key=lambda raw: (raw.exposure.band, raw.exposure.mjd))
    return [(band, list(frames)) for band, frames in groupby(ordered, lambda raw: raw.exposure.band)]


def linearity_job(
    site: Site,
    night: int,
    ccd: int,
    epoch: str,
    raws: Sequence[RawFile],
    settings: RampSettings,
    bias: FileRecord | None = None,
) -> StepJob:
    """Plan the response curves of one CCD from a ramp; the crosstalk is that of the library, where it has one.

    Parameters
    ----------
    site, night, ccd, epoch, raws, settings
        Site; night of the ramp, YYYYMMDD; CCD; name of the calibration epoch; frames of the ramp; settings.
    bias
        Master bias of the CCD; None for that of the library.

    Raises
    ------
    InputError
        If no bias is given and the library has none for the night.
    """
    exposure, extra = raws[0].exposure, {}
    if (site.calibrations / MANIFEST).is_file() or bias is None:
        library = CalibrationLibrary(site.calibrations)
        extra = optional_calibration(site, library, "crosstalk", exposure, ccd)
        bias = bias or calibration_record(site, library, library.find("bias", exposure, ccd))
    matrix = read_crosstalk(site.path(extra["crosstalk"].path)) if extra else observatory_crosstalk()
    inputs, extensions = frame_inputs(site, raws, [ccd, *matrix.sources_of(ccd)])
    inputs |= {"bias": bias} | extra
    parameters = {"epoch": epoch, "extensions": extensions}
    return StepJob(night=night, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(MEASURE_LINEARITY, limit=DISK)
def measure_linearity(job: StepJob) -> StepResult:
    """Measure the response curves of one CCD."""
    settings, times, ccd = job.settings_as(RampSettings), StepTimes(), science_ccd(job.ccd or 0)
    bias = read_calibration_image(job.input_path("bias"), ccd.ccdnum, kind="bias")
    matrix = read_crosstalk(job.input_path("crosstalk")) if "crosstalk" in job.inputs else observatory_crosstalk()
    frames, saturation = {}, {}
    with times.step("signals"):
        for expnum, exposure, raws in read_frames(job):
            frame = adu_frame(ccd, raws, exposure.night, settings.detrend, crosstalk=matrix, bias=bias)
            signals = frame_signals(frame, settings)
            frames[expnum] = RampFrame(exposure.band, exposure.mjd, exposure.exptime_s, signals)
            saturation = {a.name: a.saturation_adu for a in frame.amplifiers}
    with times.step("fit"):
        fit = fit_ramp(frames, ccd.ccdnum, saturation, settings)
    path = master_path(job.site, job.parameters["epoch"], "linearity", ccd.ccdnum)
    write_linearity(path, ccd, fit.table, {"CCDNUM": ccd.ccdnum, "DETPOS": ccd.detpos, "NITE": job.night})
    quality = {f"highest_{name.lower()}_adu": value for name, value in fit.highest_adu.items()}
    quality |= {"error": fit.error, "scatter": fit.scatter}
    quality |= {"shutter_s": fit.shutter_s, "shutter_error_s": fit.shutter_error_s, "n_exposures": float(len(frames))}
    notes = tuple(f"CCD {ccd.ccdnum}, linearity: exposure {n} left out, unlike the others" for n in fit.left_out)
    return job.result({"linearity": path}, quality=quality, cpu_s=times.cpu_s, notes=notes)
