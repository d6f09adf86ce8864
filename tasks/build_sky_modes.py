"""Build sky modes from the mini-skies of many exposures, and sky templates per CCD."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from blocks.site import Site
from imaging.bands import BANDS
from imaging.detector.ccds import SCIENCE_CCDS
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.calibration_write import write_calibration_image, write_image_extensions
from imaging.io.calibrations import read_sky_modes
from imaging.io.images import read_planes
from imaging.masters.settings import SkyModeSettings
from imaging.masters.sky_modes import bin_sky, find_sky_modes, fit_templates
from imaging.sky.mini_sky import MiniSky
from imaging.timing import StepTimes
from tasks.calibration_files import master_path
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.fitted_exposures import band_of
from tasks.jobs import StepJob
from tasks.products import ccds_with
from tasks.steps import FIND_MODES, MAKE_TEMPLATES


def common_ccds(exposures: Sequence[ExposureId], site: Site) -> tuple[int, ...]:
    """Return the CCDs that have been detrended in all these exposures.

    Raises
    ------
    InputError
        If the exposures are of several bands, or have no CCD in common.
    """
    band_of(exposures, "a fit of sky modes", 1)
    sets = [set(ccds_with(exposure, site, "minisky.fits")) for exposure in exposures]
    common = tuple(ccd for ccd in SCIENCE_CCDS if all(ccd in found for found in sets))
    if not common:
        raise InputError(
            "the exposures have no detrended CCD in common",
            value=", ".join(str(e.expnum) for e in exposures),
            remedy="run gw-workflow single-epoch on them first",
        )
    return common


def modes_job(
    exposures: Sequence[ExposureId], ccds: Sequence[int], site: Site, epoch: str, settings: SkyModeSettings
) -> StepJob:
    """Plan the fit of sky modes to the mini-skies of detrended exposures of one band."""
    inputs = {
        f"{exposure.expnum}_{ccd:02d}": fingerprint(site, _product(exposure, ccd, site, "minisky.fits"))
        for exposure in exposures
        for ccd in ccds
    }
    parameters = {"epoch": epoch, "band": exposures[0].band}
    return StepJob(topic=_topic(exposures), site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(FIND_MODES)
def find_modes(job: StepJob) -> StepResult:
    """Fit the sky modes of a band to the mini-skies of many exposures."""
    skies: dict[int, dict[int, MiniSky]] = {}
    for name in sorted(job.inputs):
        expnum, ccd = (int(part) for part in name.split("_"))
        planes, _ = read_planes(job.input_path(name), ["SKY"])
        skies.setdefault(expnum, {})[ccd] = MiniSky(ccd, planes["SKY"])
    found = find_sky_modes(skies, job.settings_as(SkyModeSettings))
    band = job.parameters["band"]
    path = master_path(job.site, job.parameters["epoch"], "sky_modes", 0, band)
    images = {f"CCD{ccd:02d}": values for ccd, values in found.modes.values.items()}
    write_image_extensions(path, images, {"BAND": band, "NEXP": len(skies)})
    quality: dict[str, float] = {"rms_fraction": found.rms_fraction, "n_modes": float(found.modes.n_modes)}
    for expnum, amplitudes in found.amplitudes.items():
        quality |= {f"amplitude_{expnum}_{k}": float(value) for k, value in enumerate(amplitudes)}
    return job.result({"modes": path}, quality=quality)


def template_job(
    exposures: Sequence[ExposureId], ccd: int, site: Site, epoch: str, modes: StepResult, settings: SkyModeSettings
) -> StepJob:
    """Plan the sky templates of one CCD; bands with fringes need the detrended images, others only the modes."""
    band = exposures[0].band
    inputs = {"modes": modes.products["modes"]}
    amplitudes: dict[str, list[float]] = {}
    if BANDS[band].has_fringes:
        for exposure in exposures:
            inputs[str(exposure.expnum)] = fingerprint(site, _product(exposure, ccd, site, "detrend.fits"))
            amplitudes[str(exposure.expnum)] = _amplitudes(modes.quality, exposure.expnum)
    parameters = {"epoch": epoch, "band": band, "amplitudes": amplitudes}
    return StepJob(topic=_topic(exposures), ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(MAKE_TEMPLATES)
def make_templates(job: StepJob) -> StepResult:
    """Write the sky templates of one CCD: fitted to binned detrended images in bands with fringes, else the modes."""
    settings, times, ccd = job.settings_as(SkyModeSettings), StepTimes(), job.ccd or 0
    templates = read_sky_modes(job.input_path("modes"), job.parameters["band"]).values[ccd]
    amplitudes: Mapping[str, list[float]] = job.parameters["amplitudes"]
    if amplitudes:
        binned = []
        for expnum in amplitudes:
            with times.step("read"):
                planes, _ = read_planes(job.input_path(expnum), ["SCI", "MSK"])
            with times.step("bin"):
                binned.append(bin_sky(planes["SCI"], planes["MSK"], settings.fringe_bin))
        with times.step("fit"):
            templates = fit_templates(binned, [np.array(values) for values in amplitudes.values()], settings)
    path = master_path(job.site, job.parameters["epoch"], "sky_templates", ccd, job.parameters["band"])
    write_calibration_image(path, templates, {"CCDNUM": ccd, "BAND": job.parameters["band"]})
    return job.result({"templates": path}, cpu_s=times.cpu_s)


def _topic(exposures: Sequence[ExposureId]) -> str:
    return f"sky-modes-{exposures[0].band}"


def _product(exposure: ExposureId, ccd: int, site: Site, suffix: str) -> Path:
    return StepJob(exposure=exposure, ccd=ccd, site=site).product_path(suffix)


def _amplitudes(quality: Mapping[str, object], expnum: int) -> list[float]:
    n = int(float(str(quality["n_modes"])))
    return [float(str(quality[f"amplitude_{expnum}_{k}"])) for k in range(n)]
