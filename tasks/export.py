"""Export: the products of a CCD under the file names and in the formats of the DES pipeline."""

from collections.abc import Mapping
from pathlib import Path

from blocks.site import Site
from imaging.astrometry.solution import BETTER_IN_CATALOGUE
from imaging.export.catalogue import des_columns, instrumental_note
from imaging.export.header import FPACK, des_keywords
from imaging.export.settings import ExportSettings
from imaging.export.text import corner_line, red_catlist, red_catlist_row, regions
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from imaging.io.images import read_planes, write_planes
from imaging.io.ldac import write_ldac
from imaging.io.psf import read_psf, write_psf
from imaging.io.tables import read_table
from imaging.sky.weight import with_source_noise
from imaging.timing import StepTimes
from imaging.wcs.tpv import TpvWcs
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.products import product_inputs, read_quality
from tasks.steps import DISK, EXPORT, LIST_EXPORTS

PLANES = ("SCI", "MSK", "WGT")


def export_job(exposure: ExposureId, ccd: int, site: Site, settings: ExportSettings) -> StepJob:
    """Plan the export of one CCD from the products of the calibration.

    Raises
    ------
    CcdError
        If the CCD has not been calibrated (reason ``no_product``).
    """
    job = StepJob(exposure=exposure, ccd=ccd, site=site, settings=settings)
    inputs = product_inputs(job, {"image": "immask.fits", "catalogue": "fullcat.parquet"}, "calibrate")
    inputs |= product_inputs(job, {"psf": "psf.fits", "measured": "measure.json"}, "measure")
    verified = job.product_path("quality.json")
    if verified.is_file():
        inputs["verified"] = fingerprint(site, verified)
    return job.model_copy(update={"inputs": inputs})


@step(EXPORT, limit=DISK)
def export(job: StepJob) -> StepResult:
    """Write image, catalogue, PSF, regions and corners of one CCD in the formats of the DES pipeline."""
    settings, times = job.settings_as(ExportSettings), StepTimes()
    exposure, ccd = job.exposure, job.ccd or 0
    if exposure is None:
        raise TypeError("the step exports CCDs of exposures")
    with times.step("read"):
        planes, header = read_planes(job.input_path("image"), PLANES)
        catalogue = read_table(job.input_path("catalogue"))
        quality = read_quality(job.input_path("measured"))
        if "verified" in job.inputs:
            quality |= read_quality(job.input_path("verified"))
    suffixes = {
        "image": "immask.fits.fz" if settings.compress else "immask_des.fits",
        "catalogue": "fullcat.fits",
        "regions": "regions.reg",
        "psf": "sextractorPSFEX.psf",
    }
    paths = {name: job.product_path(suffix) for name, suffix in suffixes.items()}
    paths["corners"] = _corner_path(job, f"{exposure.expnum}_{ccd}.out")
    keywords, wcs = des_keywords(header, quality), TpvWcs.from_header(header)
    corners = corner_line(wcs, (planes["SCI"].shape[0], planes["SCI"].shape[1]), exposure.expnum, exposure.band, ccd)
    if settings.source_noise:
        planes["WGT"] = with_source_noise(planes["WGT"], planes["SCI"])
    keywords |= {"DESWGT": ("all" if settings.source_noise else "sky", "noise in the weights, sources or not")}
    with times.step("image"):
        packed = keywords | (FPACK if settings.compress else {})
        exported = {name: planes[name] for name in PLANES}
        write_planes(paths["image"], exported, packed, compress=settings.compress, comments=[BETTER_IN_CATALOGUE])
    with times.step("catalogue"):
        zeropoint_mag = settings.instrumental_zeropoint_mag
        about = keywords | {"SEXMGZPT": (zeropoint_mag, "[mag] zero point of the MAG columns")}
        write_ldac(paths["catalogue"], des_columns(catalogue, zeropoint_mag), about, [instrumental_note(zeropoint_mag)])
        write_text(paths["regions"], regions(catalogue))
    write_psf(paths["psf"], read_psf(job.input_path("psf")))
    write_text(paths["corners"], corners)
    row = red_catlist_row(header, paths["catalogue"].name)
    return job.result(paths, quality=row | {"corners": corners}, cpu_s=times.cpu_s)


def list_job(exported: Mapping[int, StepResult], exposure: ExposureId, site: Site) -> StepJob:
    """Plan the lists of an exposure from the export results of its CCDs."""
    rows = [dict(result.quality) for _, result in sorted(exported.items())]
    return StepJob(exposure=exposure, site=site, parameters={"rows": rows})


@step(LIST_EXPORTS)
def list_exports(job: StepJob) -> StepResult:
    """Write the list of an exposure's CCDs and the file of all their corners."""
    exposure, rows = job.exposure, job.parameters["rows"]
    if exposure is None:
        raise TypeError("the step lists CCDs of an exposure")
    name = f"D{exposure.expnum:08d}_{exposure.rpnum}_red_catlist.csv"
    paths = {"list": _corner_path(job, name), "corners": _corner_path(job, f"{exposure.expnum}.out")}
    write_text(paths["list"], red_catlist(rows))
    write_text(paths["corners"], "".join(row["corners"] for row in rows))
    return job.result(paths, quality={"n_ccds": len(rows)})


def _corner_path(job: StepJob, name: str) -> Path:
    """Return the path of a product whose file name does not begin with the exposure's stem."""
    return job.product_path("x").with_name(name)
