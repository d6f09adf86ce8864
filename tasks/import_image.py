"""Import the image of a CCD, or a stack, that another pipeline has calibrated, up to the products of ``measure``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.errors import CcdError
from imaging.foreign.identity import ForeignCcd, ImageHead
from imaging.foreign.noise import CORRELATION
from imaging.foreign.stacks import identify_any
from imaging.identity import ExposureId
from imaging.image import LoadedImage
from imaging.io.calibrated import Plane, Stated
from imaging.io.foreign_images import CcdPlanes
from imaging.io.images import write_planes
from imaging.io.psf import read_psf, write_psf
from imaging.io.reference import read_reference_cone
from imaging.io.tables import write_table
from imaging.masks.tables import cosmic_ray_table, streak_table
from imaging.measure.imported import ImportedCcd, import_ccd
from imaging.measure.imported_stack import import_stack
from imaging.measure.settings import MeasureSettings
from imaging.quantise import image_steps
from imaging.timing import StepTimes
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.imported import ImportRecord
from tasks.jobs import StepJob
from tasks.measure import reference_cone, reference_inputs
from tasks.products import write_quality
from tasks.steps import IMPORT_IMAGE

PARAMETERS = {
    *("zeropoint_mag", "gain", "mask_bits", "mjd"),
    *("extension", "mask_extension", "weight_extension", "weight_power"),
}
"""What a record states about an image beside its files."""


def import_image_job(
    record: ImportRecord, exposure: ExposureId, ccd: int, site: Site, settings: MeasureSettings
) -> StepJob:
    """Plan the import of one CCD.

    Parameters
    ----------
    record, exposure, ccd
        Imported exposure, its identity, and CCD number.
    site, settings
        Site, settings of the measurement.

    Raises
    ------
    CcdError
        If a file is missing (reason ``no_source``).
    InputError
        If the reference catalogue is missing.
    """
    image = next(each for each in record.images if each.ccd == ccd)
    inputs = {}
    for name in ("image", "mask", "weight", "psf"):
        path = getattr(image, name)
        if path is not None:
            try:
                inputs[name] = fingerprint(site, Path(path))
            except OSError as error:
                remedy = "put it back, or import the image from another place"
                raise CcdError(
                    "a file of an imported image is missing",
                    reason="no_source",
                    expnum=exposure.expnum,
                    ccd=ccd,
                    value=path,
                    remedy=remedy,
                ) from error
    inputs |= reference_inputs(site, record.exposure, ccd, settings.astrometry.search_radius_arcsec)
    stated = image.model_dump(include=PARAMETERS)
    return StepJob(exposure=exposure, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=stated)


@step(IMPORT_IMAGE)
def import_image(job: StepJob) -> StepResult:
    """Convert the image of one CCD to this project's conventions, and measure its sources."""
    settings = job.settings_as(MeasureSettings)
    times = StepTimes()
    with times.step("read"):
        loaded, shown = read_foreign(job)
        cone = reference_cone(shown.exposure, shown.ccd, settings.astrometry.search_radius_arcsec)
        reference = read_reference_cone(job.site.reference / "gaia", *cone)
        psf = read_psf(job.input_path("psf")) if "psf" in job.inputs else None
    given = {"psf": psf, "zeropoint_mag": job.parameters["zeropoint_mag"]}
    if shown.first_mjd is None:
        imported = import_ccd(loaded, shown, reference, settings, **given)
    else:
        imported = import_stack(loaded, shown, reference, settings, **given, gain=job.parameters["gain"])
    times.add(imported.times)
    with times.step("write"):
        products = _write(job, imported)
    failure = imported.measured.astrometry_failure
    notes = loaded.notes
    if failure is not None:
        notes += (failure.located(expnum=job.expnum, ccd=job.ccd, step="astrometry").sentence(),)
    return job.result(products, quality=imported.quality, cpu_s=times.cpu_s, notes=notes)


def read_foreign(job: StepJob) -> tuple[LoadedImage, ForeignCcd]:
    """Read the image of a job, and what its header shows.

    Raises
    ------
    InputError
        If it is not understood.
    CcdError
        If it is of another exposure or CCD than the record says (reason ``another_image``).
    """
    given = job.parameters
    extensions = {n: given[f"{n}_extension"] or given["extension"] for n in ("mask", "weight")}
    planes = {n: Plane(job.input_path(n), extension) for n, extension in extensions.items() if n in job.inputs}
    if "weight" in planes:
        planes["weight"] = replace(planes["weight"], power=given["weight_power"])
    image = Plane(job.input_path("image"), given["extension"])
    place = CcdPlanes(image, planes.get("mask"), planes.get("weight"))
    loaded = place.read(Stated(given["gain"], given["zeropoint_mag"], given["mask_bits"]))
    shown = identify_any(ImageHead.of(loaded), job.ccd or 1, given["mjd"])
    if (shown.exposure.expnum, shown.ccd) != (job.expnum, job.ccd):
        value = f"exposure {shown.exposure.expnum}, CCD {shown.ccd}: {loaded.label}"
        remedy = "import the images again"
        raise CcdError("the file holds another image than before", reason="another_image", value=value, remedy=remedy)
    return loaded, shown


def _write(job: StepJob, imported: ImportedCcd) -> dict[str, Path]:
    exposure, ccd = job.exposure, job.ccd or 0
    if exposure is None:
        raise TypeError("the step imports CCDs of exposures")
    paths = job.product_paths(IMPORT_IMAGE)
    image, measured = imported.image, imported.measured
    header = image.header | measured.wcs.to_header() | {"FWHM": measured.psf.model.fwhm_pixels}
    planes: dict[str, Any] = {"SCI": image.science, "MSK": image.mask, "WGT": image.weight}
    if imported.correlation is not None:
        planes[CORRELATION] = imported.correlation
    write_planes(paths["image"], planes, header, pack=True, steps=image_steps(image.weight))
    write_psf(paths["psf"], measured.psf.model)
    write_table(paths["catalogue"], measured.catalogue)
    write_table(paths["matches"], measured.matches)
    write_table(paths["streaks"], streak_table(list(imported.streaks), exposure, ccd))
    write_table(paths["cosmic_rays"], cosmic_ray_table(imported.cosmic_rays, exposure, ccd))
    part = imported.part_solution()
    coordinates = {"nominal": imported.nominal.to_header(), "part": None if part is None else part.model_dump()}
    write_quality(paths["quality"], dict(imported.quality) | {"coordinates": coordinates})
    return paths
