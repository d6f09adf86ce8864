"""Measure: sky subtraction, cosmic rays, streaks, weight, astrometry, PSF and catalogue of a CCD."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from blocks.site import Site
from imaging.detector.ccds import NX, NY, science_ccd
from imaging.detector.distortion import seed_wcs
from imaging.detrend.defaults import default_cards
from imaging.exposure import Exposure, exposure_from_header
from imaging.foreign.stacks import RADIUS_DEG
from imaging.identity import ExposureId, is_stack
from imaging.io.calibrations import CalibrationLibrary, read_calibration_image, read_colour_slope, read_sky_templates
from imaging.io.images import read_planes, write_planes
from imaging.io.keywords import COLOUR_SLOPE
from imaging.io.psf import write_psf
from imaging.io.reference import partitions_in_cone, read_reference_cone
from imaging.io.tables import write_table
from imaging.masks.tables import cosmic_ray_table, streak_table
from imaging.measure.chain import MeasuredCcd, measure_ccd
from imaging.measure.clean import CleanCalibrations, CleanCcd, clean_ccd
from imaging.measure.settings import MeasureSettings
from imaging.quality.grades import Grade, grade_value
from imaging.quantise import image_steps
from imaging.timing import StepTimes
from tasks.calibration_files import calibration_record, optional_calibration
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.fit_sky import read_sky_fit
from tasks.jobs import StepJob
from tasks.products import write_quality
from tasks.steps import MEASURE

HALF_DIAGONAL_DEG = 0.168
"""Distance from the centre of a CCD to its corner, degrees."""


def measure_planner(
    detrended: Mapping[int, StepResult],
    sky: StepResult,
    observed: Exposure,
    exposure: ExposureId,
    site: Site,
    settings: MeasureSettings,
    *,
    epoch: str | None = None,
) -> Callable[[int], StepJob]:
    """Return a function that plans the measurement of a detrended CCD of an exposure.

    Parameters
    ----------
    detrended
        CCD number to the result of its detrending.
    sky
        Result of the exposure's sky fit.
    observed
        Exposure of the raw file's header.
    exposure, site, settings
        Exposure, site, settings of the step.
    epoch
        Calibration epoch to use regardless of its validity; None to follow the validity.

    Returns
    -------
    plan
        CCD number to job. Raises ``InputError`` if a calibration or a reference catalogue is missing.
    """
    library = CalibrationLibrary(site.calibrations)

    def plan(ccd: int) -> StepJob:
        flat = library.find("flat", observed, ccd, epoch=epoch)
        inputs = {
            "image": detrended[ccd].products["image"],
            "sky": sky.products["sky"],
            "flat": calibration_record(site, library, flat),
        }
        inputs |= optional_calibration(site, library, "star_flat", observed, ccd, epoch=epoch)
        inputs |= optional_calibration(site, library, "sky_templates", observed, ccd, epoch=epoch)
        inputs |= reference_inputs(site, observed, ccd, settings.astrometry.search_radius_arcsec)
        lacking = [kind for kind in library.lacking(observed, ccd, epoch=epoch) if kind in ("star_flat", "sky_modes")]
        parameters = {"calibration_defaults": lacking} if lacking else {}
        return StepJob(exposure=exposure, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)

    return plan


def reference_inputs(
    site: Site, observed: Exposure, ccd: int, margin_arcsec: float, catalogue: str = "gaia"
) -> dict[str, FileRecord]:
    """Describe the partitions of a reference catalogue around a CCD, named by their HEALPix pixels."""
    paths = partitions_in_cone(site.reference / catalogue, *reference_cone(observed, ccd, margin_arcsec))
    return {f"{catalogue}_{path.stem}": fingerprint(site, path) for path in paths}


def reference_cone(observed: Exposure, ccd: int, margin_arcsec: float) -> tuple[float, float, float]:
    """Return RA, Dec and radius in degrees of a cone that contains a CCD, or a stack, with a margin."""
    if is_stack(observed.expnum):
        return observed.ra_deg, observed.dec_deg, RADIUS_DEG + margin_arcsec / 3600.0
    ra, dec = seed_wcs(ccd, observed.ra_deg, observed.dec_deg).pixel_to_sky(NX / 2, NY / 2)
    return float(ra), float(dec), HALF_DIAGONAL_DEG + margin_arcsec / 3600.0


@step(MEASURE)
def measure(job: StepJob) -> StepResult:
    """Subtract the sky of one CCD, mask cosmic rays and streaks, and measure its sources."""
    settings = job.settings_as(MeasureSettings)
    times = StepTimes()
    with times.step("read"):
        planes, header = read_planes(job.input_path("image"), ["SCI", "MSK"])
        sky = read_sky_fit(job.input_path("sky"))
        observed = exposure_from_header(header, str(job.input_path("image")))
        calibrations = _read_calibrations(job, observed)
        ccd = science_ccd(job.ccd or 0)
        cone = reference_cone(observed, ccd.ccdnum, settings.astrometry.search_radius_arcsec)
        reference = read_reference_cone(job.site.reference / "gaia", *cone)
    clean = clean_ccd(planes["SCI"], planes["MSK"], header, ccd, sky, calibrations, settings)
    measured = measure_ccd(clean.image, observed, ccd.ccdnum, reference, settings, clean.fwhm_pixels)
    times.add(clean.times, measured.times)
    with times.step("write"):
        products = _write(job, clean, measured)
    failure = measured.astrometry_failure
    notes = [] if failure is None else [failure.located(expnum=job.expnum, ccd=job.ccd, step="astrometry").sentence()]
    notes += trend_notes(measured.quality, observed.band)
    return job.result(products, quality=_quality(clean, measured), cpu_s=times.cpu_s, notes=tuple(notes))


def trend_notes(quality: Mapping[str, float], band: str) -> list[str]:
    """Return a note if the width of the stars changes too much with the charge at their peak."""
    trend, error = quality["psf_peak_trend_percent"], quality["psf_peak_trend_error_percent"]
    if grade_value("psf_peak_trend_percent", band, trend) in (Grade.GREEN, Grade.UNKNOWN):
        return []
    text = f"the width of the stars changes by {trend:.2f} +- {error:.2f} % per 100,000 electrons at their peak"
    return [f"{text}: check the brighter-fatter kernels and the linearity of this CCD"]


def _read_calibrations(job: StepJob, observed: Exposure) -> CleanCalibrations:
    star_flat = job.input_path("star_flat") if "star_flat" in job.inputs else None
    templates = job.input_path("sky_templates") if "sky_templates" in job.inputs else None
    ccd, band = job.ccd or 0, observed.band
    return CleanCalibrations(
        flat=read_calibration_image(job.input_path("flat"), ccd, band=band, kind="flat"),
        star_flat=read_calibration_image(star_flat, ccd, band=band, kind="star_flat") if star_flat else None,
        star_flat_name=star_flat.name if star_flat else "",
        sky_templates=read_sky_templates(templates, ccd, band) if templates else None,
    )


def _write(job: StepJob, clean: CleanCcd, measured: MeasuredCcd) -> dict[str, Path]:
    exposure, ccd = job.exposure, job.ccd or 0
    if exposure is None:
        raise TypeError("the step measures CCDs of exposures")
    paths = job.product_paths(MEASURE)
    image = clean.image
    header = image.header | measured.wcs.to_header() | {"FWHM": measured.psf.model.fwhm_pixels}
    header |= default_cards(header, job.parameters.get("calibration_defaults", ()))
    if "star_flat" in job.inputs and (slope := read_colour_slope(job.input_path("star_flat"), ccd)):
        header[COLOUR_SLOPE] = slope
    planes: dict[str, NDArray[Any]] = {"SCI": image.science, "MSK": image.mask, "WGT": image.weight}
    write_planes(paths["image"], planes, header, pack=True, steps=image_steps(image.weight))
    write_psf(paths["psf"], measured.psf.model)
    write_table(paths["catalogue"], measured.catalogue)
    write_table(paths["matches"], measured.matches)
    write_table(paths["streaks"], streak_table(clean.streaks, exposure, ccd))
    write_table(paths["cosmic_rays"], cosmic_ray_table(clean.cosmic_rays, exposure, ccd))
    write_quality(paths["quality"], _quality(clean, measured))
    return paths


def _quality(clean: CleanCcd, measured: MeasuredCcd) -> dict[str, float]:
    return dict(measured.quality) | {
        "sky_electrons": clean.sky_electrons,
        "sky_sigma_electrons": clean.noise.sigma_electrons,
        "sky_offset_electrons": clean.noise.offset_electrons,
        "noise_ratio": clean.noise.ratio,
        "n_cosmic_rays": float(clean.cosmic_rays.x.size),
        "n_streaks": float(len(clean.streaks)),
    }
