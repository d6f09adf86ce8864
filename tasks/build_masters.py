"""Build master calibrations: bias, dome flat and bad-pixel map per CCD, and their entries in the library."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from blocks.site import Site
from imaging.bits import BpmBit
from imaging.detector.ccds import science_ccd
from imaging.errors import InputError
from imaging.io.calibration_write import write_calibration_image
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, read_calibration_image, read_linearity
from imaging.io.manifest import Kind
from imaging.masters.bad_pixels import find_bad_pixels
from imaging.masters.frames import Master, master_bias, master_flat, relative_levels
from imaging.masters.settings import MasterSettings
from imaging.timing import StepTimes
from tasks.calibration_files import master_path, optional_calibration, record_files
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import RawFile
from tasks.raw_frames import frame_inputs, read_frames
from tasks.steps import DISK, FINISH_MASTERS, MAKE_BIAS, MAKE_FLAT

BIAS_STEP_ADU, FLAT_STEP = 0.02, 1.0 / 16384.0
"""Quantisation steps of the files: 1 % of the read noise, and 0.07 mmag, which averages out over a source."""


def bias_job(
    site: Site, night: int, ccd: int, epoch: str, raws: Sequence[RawFile], settings: MasterSettings
) -> StepJob:
    """Plan the master bias of one CCD from a night's bias exposures.

    Raises
    ------
    InputError
        If there are too few exposures.
    """
    chosen = _enough(raws, night, "bias", settings)
    inputs, extensions = frame_inputs(site, chosen, [ccd])
    parameters = {"epoch": epoch, "extensions": extensions}
    return StepJob(night=night, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(MAKE_BIAS, limit=DISK)
def make_bias(job: StepJob) -> StepResult:
    """Combine the bias exposures of one CCD."""
    settings, times, ccd = job.settings_as(MasterSettings), StepTimes(), science_ccd(job.ccd or 0)
    with times.step("read"):
        raws = {expnum: raws[ccd.ccdnum] for expnum, _, raws in read_frames(job)}
    with times.step("combine"):
        master = master_bias(ccd, raws, job.night or 0, settings)
    path = master_path(job.site, job.parameters["epoch"], "bias", ccd.ccdnum)
    header = {
        "CCDNUM": ccd.ccdnum,
        "DETPOS": ccd.detpos,
        "NITE": job.night,
        "BUNIT": "adu",
        "NCOMBINE": len(master.levels),
    }
    write_calibration_image(path, master.image, header, step=BIAS_STEP_ADU)
    quality = {"n_exposures": len(master.levels), "noise_adu": master.noise, "n_rejected": master.n_rejected}
    return job.result({"bias": path}, quality=quality, cpu_s=times.cpu_s, notes=_left_out(job, "bias", master))


def flat_job(
    site: Site,
    night: int,
    ccd: int,
    epoch: str,
    built: Mapping[str, FileRecord],
    raws: Sequence[RawFile],
    settings: MasterSettings,
) -> StepJob:
    """Plan the dome flat of one CCD and band from a night's flat exposures, all of one band.

    Parameters
    ----------
    site, night, ccd, epoch, raws, settings
        Site; night of the data, YYYYMMDD; CCD; name of the calibration epoch; the flats; settings.
    built
        Kind to master of this CCD: the bias, and the linearity where the night has given one. Otherwise the linearity
        is that of the library, where it has one.

    Raises
    ------
    InputError
        If there are too few exposures.
    """
    chosen = _enough(raws, night, "dome flat", settings)
    inputs, extensions = frame_inputs(site, chosen, [ccd])
    inputs |= built
    if "linearity" not in built and (site.calibrations / MANIFEST).is_file():
        library = CalibrationLibrary(site.calibrations)
        inputs |= optional_calibration(site, library, "linearity", chosen[0].exposure, ccd)
    parameters = {"epoch": epoch, "band": chosen[0].exposure.band, "extensions": extensions}
    return StepJob(night=night, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(MAKE_FLAT, limit=DISK)
def make_flat(job: StepJob) -> StepResult:
    """Combine the dome flats of one CCD and band, normalised to 1 over this CCD."""
    settings, times, ccd = job.settings_as(MasterSettings), StepTimes(), science_ccd(job.ccd or 0)
    with times.step("read"):
        raws = {expnum: (raws[ccd.ccdnum], exposure) for expnum, exposure, raws in read_frames(job)}
        bias = read_calibration_image(job.input_path("bias"), ccd.ccdnum)
        linear = read_linearity(job.input_path("linearity"), ccd.ccdnum) if "linearity" in job.inputs else None
    with times.step("combine"):
        master = master_flat(ccd, raws, bias, linear, settings)
    path = job.product_path(f"flat_{job.parameters['band']}_c{ccd.ccdnum:02d}_unit.fits")
    write_calibration_image(path, master.image, {"CCDNUM": ccd.ccdnum, "BAND": job.parameters["band"]})
    quality: dict[str, float] = {f"level_{expnum}": level for expnum, level in master.levels.items()}
    quality |= {"n_rejected": master.n_rejected}
    notes = _left_out(job, f"{job.parameters['band']} flat", master)
    return job.result({"flat": path}, quality=quality, cpu_s=times.cpu_s, notes=notes)


def finish_jobs(
    site: Site,
    night: int,
    epoch: str,
    biases: Mapping[int, StepResult],
    flats: Mapping[str, Mapping[int, StepResult]],
    settings: MasterSettings,
) -> list[StepJob]:
    """Plan the last step of every CCD: flats on the common scale of the camera, and the bad-pixel map.

    Parameters
    ----------
    site, night, epoch, settings
        Site; night of the data, YYYYMMDD; name of the calibration epoch; settings.
    biases, flats
        Results of the previous steps: CCD number to bias, band to CCD number to flat. CCDs without a bias or flat are
        skipped.
    """
    scales = {
        band: relative_levels({ccd: _levels(flat) for ccd, flat in by_ccd.items()}) for band, by_ccd in flats.items()
    }
    complete = [ccd for ccd in sorted(biases) if all(ccd in by_ccd for by_ccd in flats.values())]
    return [
        StepJob(
            night=night,
            ccd=ccd,
            site=site,
            inputs={"bias": biases[ccd].products["bias"]}
            | {f"flat_{band}": by_ccd[ccd].products["flat"] for band, by_ccd in flats.items()},
            settings=settings,
            parameters={"epoch": epoch, "scales": {band: scales[band][ccd] for band in flats}},
        )
        for ccd in complete
    ]


@step(FINISH_MASTERS)
def finish_masters(job: StepJob) -> StepResult:
    """Scale the flats of one CCD to the camera and find its bad pixels."""
    settings, ccd, epoch = job.settings_as(MasterSettings), science_ccd(job.ccd or 0), job.parameters["epoch"]
    bias, products, bad = read_calibration_image(job.input_path("bias"), ccd.ccdnum), {}, None
    for band, scale in job.parameters["scales"].items():
        flat = read_calibration_image(job.input_path(f"flat_{band}"), ccd.ccdnum, band=band)
        found = find_bad_pixels(bias, flat, settings)
        bad = found if bad is None else bad | found
        path = products[f"flat_{band}"] = master_path(job.site, epoch, "flat", ccd.ccdnum, band)
        header = {"CCDNUM": ccd.ccdnum, "DETPOS": ccd.detpos, "NITE": job.night, "BAND": band}
        write_calibration_image(path, flat * flat.dtype.type(scale), header, step=FLAT_STEP)
    if bad is None:
        raise InputError("there is no flat to build from", ccd=ccd.ccdnum)
    path = products["bad_pixels"] = master_path(job.site, epoch, "bad_pixels", ccd.ccdnum)
    write_calibration_image(path, bad, {"CCDNUM": ccd.ccdnum, "DETPOS": ccd.detpos, "NITE": job.night})
    defects = int(~(BpmBit.EDGE | BpmBit.NEAREDGE))
    return job.result(products, quality={"n_bad_pixels": int(((bad & defects) != 0).sum())})


def record_masters(
    site: Site,
    night: int,
    epoch: str,
    ccds: Sequence[int],
    bands: Iterable[str],
    *,
    curves: Collection[int] = (),
    validity: tuple[int, int] | None = None,
) -> Path:
    """Add the bias, flats, bad-pixel maps and linearity of an epoch to the library's manifest.

    Parameters
    ----------
    site, night, epoch
        Site; night of the data, YYYYMMDD; name of the calibration epoch.
    ccds, bands
        CCDs and bands that were built.
    curves
        Those of the CCDs whose linearity was built.
    validity
        First and last night, YYYYMMDD, for which they hold; None for all nights, within the limits of age.

    Returns
    -------
    manifest
        Path of the manifest.
    """
    kinds: list[tuple[Kind, str | None]] = [("bias", None), ("bad_pixels", None), *(("flat", band) for band in bands)]
    built = {
        (kind, band): [master_path(site, epoch, kind, ccd, band or "") for ccd in sorted(ccds)] for kind, band in kinds
    }
    if linear := sorted(set(curves) & set(ccds)):
        built["linearity", None] = [master_path(site, epoch, "linearity", ccd) for ccd in linear]
    return record_files(site, night, epoch, built, validity=validity)


def _left_out(job: StepJob, kind: str, master: Master) -> tuple[str, ...]:
    """Return notes on the frames that were left out, with the reasons."""
    return tuple(f"CCD {job.ccd}, {kind}: exposure {number} left out, {why}" for number, why in master.left_out.items())


def _levels(flat: StepResult) -> dict[int, float]:
    return {
        int(name.removeprefix("level_")): float(value)
        for name, value in flat.quality.items()
        if name.startswith("level_") and isinstance(value, float)
    }


def _enough(raws: Sequence[RawFile], night: int, kind: str, settings: MasterSettings) -> Sequence[RawFile]:
    """Return the exposures to combine; raise ``InputError`` if there are too few."""
    if len(raws) < settings.minimum_exposures:
        raise InputError(
            f"too few exposures of the kind {kind}",
            value=f"{len(raws)} on night {night}",
            limit=f"at least {settings.minimum_exposures}",
            remedy="give a night with calibration exposures",
        )
    return raws[: settings.maximum_exposures]
