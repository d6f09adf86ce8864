"""Build star flats: a smooth response per CCD, fitted to zero points of single stars of many exposures."""

from collections.abc import Sequence

from blocks.site import Site
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibration_write import write_calibration_image
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, read_calibration_image
from imaging.io.keywords import COLOUR_SLOPE, MEANINGS
from imaging.io.tables import read_table
from imaging.masters.settings import StarFlatSettings
from imaging.masters.star_flat import StarFlatFit, StarZeropoints, exposure_zeropoint, fit_star_flat, passband_slopes
from imaging.tables import column
from tasks.build_masters import FLAT_STEP
from tasks.calibration_files import master_path, optional_calibration
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.fitted_exposures import band_of
from tasks.jobs import StepJob
from tasks.products import calibrated_ccds
from tasks.steps import FIT_STAR_FLATS, WRITE_STAR_FLAT

MATCHES = "zpmatches.parquet"


def fit_job(exposures: Sequence[ExposureId], site: Site, settings: StarFlatSettings) -> StepJob:
    """Plan the fit of the star flats of a band from the zero-point matches of calibrated exposures.

    Raises
    ------
    InputError
        If there are too few exposures, they are of several bands, or one has not been calibrated.
    """
    band = band_of(exposures, "a star flat", settings.minimum_exposures)
    inputs = {}
    for exposure in exposures:
        for ccd in calibrated_ccds(exposure, site, MATCHES):
            path = StepJob(exposure=exposure, ccd=ccd, site=site).product_path(MATCHES)
            inputs[f"{exposure.expnum}_{ccd:02d}"] = fingerprint(site, path)
    return StepJob(topic=f"star-flat-{band}", site=site, inputs=inputs, settings=settings)


@step(FIT_STAR_FLATS)
def fit_star_flats(job: StepJob) -> StepResult:
    """Fit the response of every CCD to stars; CCDs with too few stars are left out, with a note."""
    settings = job.settings_as(StarFlatSettings)
    by_exposure: dict[int, dict[int, StarZeropoints]] = {}
    for name in sorted(job.inputs):
        expnum, ccd = (int(part) for part in name.split("_"))
        stars = _read_stars(job, name)
        if stars.x.size:
            by_exposure.setdefault(expnum, {})[ccd] = stars
    zeropoints = {expnum: exposure_zeropoint(stars) for expnum, stars in by_exposure.items()}
    quality: dict[str, float] = {}
    fits: dict[int, StarFlatFit] = {}
    notes: list[str] = []
    for ccd in sorted({ccd for stars in by_exposure.values() for ccd in stars}):
        seen = {expnum: stars[ccd] for expnum, stars in by_exposure.items() if ccd in stars}
        try:
            fits[ccd] = fit_star_flat(seen, zeropoints, ccd, settings)
        except CcdError as error:
            notes.append(error.sentence())
            continue
    for ccd, slope in passband_slopes(fits).items():
        fit = fits[ccd].at_reference_colour(slope)
        quality |= {f"c{ccd:02d}_{k}": value for k, value in enumerate(fit.coefficients_mag)}
        quality |= {f"colour_slope_c{ccd:02d}": round(slope, 6)}
        quality |= {f"stars_c{ccd:02d}": float(fit.n_stars), f"scatter_mag_c{ccd:02d}": fit.scatter_mag}
    return job.result(quality=quality, notes=tuple(notes))


def fitted_ccds(fit: StepResult) -> tuple[int, ...]:
    """Return the CCDs in a result of :func:`fit_star_flats`."""
    return tuple(sorted(int(name[len("stars_c") :]) for name in fit.quality if name.startswith("stars_c")))


def write_job(ccd: int, observed: Exposure, site: Site, epoch: str, fit: StepResult) -> StepJob:
    """Plan the star flat of one CCD: the library's star flat of the exposures times the fitted response.

    Parameters
    ----------
    ccd
        CCD number.
    observed
        The last of the exposures, which selects the star flat that was applied to them.
    site, epoch
        Site, and name of the calibration epoch.
    fit
        Result of :func:`fit_star_flats`.
    """
    inputs = {}
    if (site.calibrations / MANIFEST).is_file():
        library = CalibrationLibrary(site.calibrations)
        inputs = optional_calibration(site, library, "star_flat", observed, ccd)
    numbered = {name: value for name, value in fit.quality.items() if name.startswith(f"c{ccd:02d}_")}
    terms = [float(str(numbered[f"c{ccd:02d}_{k}"])) for k in range(len(numbered))]
    slope = float(str(fit.quality[f"colour_slope_c{ccd:02d}"]))
    parameters = {"epoch": epoch, "band": observed.band, "coefficients_mag": terms, "colour_slope": slope}
    return StepJob(topic=f"star-flat-{observed.band}", ccd=ccd, site=site, inputs=inputs, parameters=parameters)


@step(WRITE_STAR_FLAT)
def write_star_flat(job: StepJob) -> StepResult:
    """Write the star flat of one CCD."""
    ccd, band = job.ccd or 0, job.parameters["band"]
    response = StarFlatFit(tuple(job.parameters["coefficients_mag"]), 0, 0.0).response()
    if "star_flat" in job.inputs:
        response *= read_calibration_image(job.input_path("star_flat"), ccd, band=band)
    path = master_path(job.site, job.parameters["epoch"], "star_flat", ccd, band)
    slope = (job.parameters["colour_slope"], MEANINGS[COLOUR_SLOPE])
    write_calibration_image(path, response, {"CCDNUM": ccd, "BAND": band, COLOUR_SLOPE: slope}, step=FLAT_STEP)
    return job.result({"star_flat": path})


def _read_stars(job: StepJob, name: str) -> StarZeropoints:
    names = ("x", "y", "zeropoint_mag", "zeropoint_error_mag", "colour_mag")
    table = read_table(job.input_path(name), [*names, "source_id", "used"])
    used = column(table, "used").astype(bool)
    x, y, zeropoint, error, colour = (column(table, key).astype(float)[used] for key in names)
    return StarZeropoints(x, y, zeropoint, error, colour, column(table, "source_id")[used])
