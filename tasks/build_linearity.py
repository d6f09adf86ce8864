"""Build response curves: the linearity of the amplifiers of one CCD from a ramp of dome flats."""

from collections.abc import Iterable, Sequence

from blocks.site import Site
from imaging.detector.ccds import science_ccd
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.errors import InputError
from imaging.io.calibration_write import write_linearity
from imaging.io.calibrations import CalibrationLibrary, read_bad_pixels, read_calibration_image, read_crosstalk
from imaging.masters.adu_frames import adu_frame
from imaging.masters.ramp import RampFrame, fit_ramp, frame_signals
from imaging.masters.settings import RampSettings
from imaging.timing import StepTimes
from tasks.calibration_files import calibration_record, master_path, optional_calibration
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import RawFile
from tasks.raw_frames import frame_inputs, read_frames
from tasks.steps import DISK, MEASURE_LINEARITY


def ramps(raws: Iterable[RawFile], night: int, settings: RampSettings) -> list[RawFile]:
    """Return the dome flats of a night that belong to a ramp: of each band with many exposure times, all.

    Raises
    ------
    InputError
        If no band has enough exposure times.
    """
    times: dict[str, set[float]] = {}
    flats = list(raws)
    for raw in flats:
        times.setdefault(raw.exposure.band, set()).add(round(raw.exposure.exptime_s, 3))
    bands = {band for band, found in times.items() if len(found) >= settings.minimum_times}
    if not bands:
        value = ", ".join(f"{band}: {len(found)}" for band, found in sorted(times.items())) or "no dome flats"
        raise InputError(
            "the night has no ramp of dome flats",
            value=f"night {night}, exposure times per band: {value}",
            limit=f"at least {settings.minimum_times} exposure times in a band",
            remedy="give a night with such a ramp, or import a linearity table with import-calibrations",
        )
    return [raw for raw in flats if raw.exposure.band in bands]


def linearity_job(
    site: Site, night: int, ccd: int, epoch: str, raws: Sequence[RawFile], settings: RampSettings
) -> StepJob:
    """Plan the response curves of one CCD from a ramp; bias, bad pixels and crosstalk are those of the library.

    Raises
    ------
    InputError
        If the library has no bias for the night.
    """
    library, exposure = CalibrationLibrary(site.calibrations), raws[0].exposure
    extra = optional_calibration(site, library, "crosstalk", exposure, ccd)
    matrix = read_crosstalk(site.path(extra["crosstalk"].path)) if extra else observatory_crosstalk()
    inputs, extensions = frame_inputs(site, raws, [ccd, *matrix.sources_of(ccd)])
    inputs["bias"] = calibration_record(site, library, library.find("bias", exposure, ccd))
    inputs |= extra | optional_calibration(site, library, "bad_pixels", exposure, ccd)
    parameters = {"epoch": epoch, "extensions": extensions}
    return StepJob(night=night, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(MEASURE_LINEARITY, limit=DISK)
def measure_linearity(job: StepJob) -> StepResult:
    """Measure the response curves of one CCD."""
    settings, times, ccd = job.settings_as(RampSettings), StepTimes(), science_ccd(job.ccd or 0)
    bias = read_calibration_image(job.input_path("bias"), ccd.ccdnum, kind="bias")
    bad = read_bad_pixels(job.input_path("bad_pixels"), ccd.ccdnum) if "bad_pixels" in job.inputs else None
    matrix = read_crosstalk(job.input_path("crosstalk")) if "crosstalk" in job.inputs else observatory_crosstalk()
    frames, saturation = {}, {}
    with times.step("signals"):
        for expnum, exposure, raws in read_frames(job):
            frame = adu_frame(ccd, raws, exposure.night, settings.detrend, crosstalk=matrix, bias=bias)
            signals = frame_signals(frame, bad, settings)
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
