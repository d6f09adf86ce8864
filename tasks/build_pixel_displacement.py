"""Build maps of pixel displacements from the residuals of reference stars in many exposures."""

from collections.abc import Sequence

from blocks.site import Site
from imaging.errors import CcdError, InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary, read_calibration_image
from imaging.io.displacement import write_displacement
from imaging.io.tables import read_table
from imaging.masters.displacement import fit_displacement
from imaging.masters.rings import find_rings
from imaging.masters.settings import DisplacementSettings
from imaging.masters.star_offsets import star_offsets
from imaging.timing import StepTimes
from tasks.calibration_files import calibration_record, master_path
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.fitted_exposures import band_of
from tasks.jobs import StepJob
from tasks.products import ccds_with
from tasks.steps import FIT_DISPLACEMENTS
from tasks.tie_astrometry import read_ccd_tie, read_turbulence

MATCHES, TIE = "matches.parquet", "tie.json"


def tied_ccds(
    exposures: Sequence[ExposureId], site: Site, settings: DisplacementSettings
) -> dict[int, list[ExposureId]]:
    """Return CCD number to the exposures whose solution includes it.

    Raises
    ------
    InputError
        If there are too few exposures, they are of several bands, or one has no solution.
    """
    band_of(exposures, "a map of displacements", settings.minimum_exposures)
    found: dict[int, list[ExposureId]] = {}
    for exposure in exposures:
        tied = set(ccds_with(exposure, site, MATCHES)) & set(ccds_with(exposure, site, TIE))
        if not tied:
            raise InputError(
                "the exposure has no astrometric solution",
                expnum=exposure.expnum,
                remedy="run gw-workflow single-epoch --calibrate on it first",
            )
        for ccd in sorted(tied):
            found.setdefault(ccd, []).append(exposure)
    return found


def displacement_job(
    ccd: int,
    exposures: Sequence[ExposureId],
    observed: Exposure,
    site: Site,
    epoch: str,
    settings: DisplacementSettings,
) -> StepJob:
    """Plan the map of one CCD.

    Parameters
    ----------
    ccd
        CCD number.
    exposures
        Exposures whose solution includes it.
    observed
        The last of them, which selects the flat.
    site, epoch, settings
        Site, name of the calibration epoch, settings.
    """
    library = CalibrationLibrary(site.calibrations)
    inputs = {"flat": calibration_record(site, library, library.find("flat", observed, ccd))}
    for exposure in exposures:
        whole = StepJob(exposure=exposure, site=site)
        own = StepJob(exposure=exposure, ccd=ccd, site=site)
        for name, path in (
            ("matches", own.product_path(MATCHES)),
            ("solution", own.product_path(TIE)),
            ("tie", whole.product_path(TIE)),
        ):
            inputs[f"{name}_{exposure.expnum}"] = fingerprint(site, path)
    parameters = {"epoch": epoch, "band": observed.band}
    topic = f"pixel-displacement-{observed.band}"
    return StepJob(topic=topic, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(FIT_DISPLACEMENTS)
def fit_displacements(job: StepJob) -> StepResult:
    """Find the tree rings of one CCD in its flat, fit the displacements to its stars and write the map."""
    settings, times = job.settings_as(DisplacementSettings), StepTimes()
    ccd, band = job.ccd or 0, job.parameters["band"]
    notes: tuple[str, ...] = ()
    with times.step("stars"):
        numbers = sorted(int(name.removeprefix("matches_")) for name in job.inputs if name.startswith("matches_"))
        exposures = {
            number: star_offsets(
                read_table(job.input_path(f"matches_{number}")),
                read_ccd_tie(job.input_path(f"solution_{number}"))[0],
                read_turbulence(job.input_path(f"tie_{number}")),
            )
            for number in numbers
        }
    with times.step("rings"):
        try:
            rings = find_rings(read_calibration_image(job.input_path("flat"), ccd, band=band, kind="flat"), ccd)
        except CcdError as error:
            rings, notes = None, (error.sentence(),)
    with times.step("fit"):
        fit = fit_displacement(exposures, rings, ccd, settings)
    path = master_path(job.site, job.parameters["epoch"], "pixel_displacement", ccd, band)
    write_displacement(path, fit.model(path.name, ccd, band, rings))
    quality = {
        "ring_amplitude": float(fit.parameters[0]),
        "ring_amplitude_error": float(fit.errors[0]),
        "parts": " ".join(fit.parts),
        "chi2_gain": fit.gain,
        "chi2_gain_error": fit.gain_error,
        "n_stars": float(fit.n_stars),
    }
    return job.result({"pixel_displacement": path}, quality=quality, cpu_s=times.cpu_s, notes=notes)
