"""Verify: look into the products of every CCD, and say what the exposure is worth."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from blocks.site import Site
from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.exposure import exposure_from_header
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from imaging.io.images import read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import read_table, write_table
from imaging.numerics.robust import finite_median
from imaging.photometry.depth import point_source_depth_mag
from imaging.quality.settings import VerificationSettings
from imaging.quality.teff import effective_exposure, judge_exposure
from imaging.quality.verify import verify_ccd
from imaging.wcs.sphere import footprint
from imaging.wcs.tpv import TpvWcs
from tasks.pages import focal_plane_page
from tasks.products import ccds_with, product_inputs
from tasks.quality_files import quality_table, read_quality, write_quality
from tasks.records import Failure, StepJob, StepResult, plain_quality
from tasks.seam import step

ROW = "row_"

CALIBRATED = "immask.fits"
UNCALIBRATED = {"image": "measured.fits", "catalogue": "cat.parquet"}


def verifiable_ccds(exposure: ExposureId, site: Site) -> tuple[int, ...]:
    """Return the CCDs of an exposure that have products to verify: calibrated ones or, if there are none, measured."""
    return ccds_with(exposure, site, CALIBRATED) or ccds_with(exposure, site, UNCALIBRATED["image"])


def zeropoint_rows(exposure: ExposureId, site: Site) -> dict[int, dict[str, Any]]:
    """Read the adopted zero points of an exposure, by CCD number; nothing if it has not been calibrated."""
    path = StepJob(exposure=exposure, site=site).product_path("zeropoints.parquet")
    return {row["ccd"]: row for row in read_table(path).to_pylist()} if path.exists() else {}


def inspect_job(
    exposure: ExposureId, ccd: int, site: Site, zeropoint: Mapping[str, Any] | None, settings: VerificationSettings
) -> StepJob:
    """Plan the inspection of one CCD: of its calibrated products or, where it has none, of those of the single epoch.

    Parameters
    ----------
    exposure, ccd, site, settings
        What, where and how.
    zeropoint
        Its row of the zero-point table; None if it has none.

    Raises
    ------
    CcdError
        If the CCD has not been measured (reason ``no_product``).
    """
    names = ("zeropoint_mag", "zeropoint_error_mag", "flags")
    numbers = {name: zeropoint[name] for name in names} if zeropoint else {}
    job = StepJob(exposure=exposure, ccd=ccd, site=site, settings=settings, parameters={"zero_point": numbers})
    calibrated = job.product_path(CALIBRATED).exists()
    products = {"image": CALIBRATED, "catalogue": "fullcat.parquet"} if calibrated else UNCALIBRATED
    inputs = product_inputs(job, {**products, "psf": "psf.fits", "quality": "measure.json"}, "measure")
    return job.model_copy(update={"inputs": inputs})


@step("inspect")
def inspect(job: StepJob) -> StepResult:
    """Look into the final products of one CCD."""
    planes, header = read_planes(job.input_path("image"), present_only=True)
    zero_point = job.parameters["zero_point"]
    catalogue = read_table(job.input_path("catalogue"))
    settings = job.settings_as(VerificationSettings).verify
    found = verify_ccd(planes, header, catalogue, zero_point.get("flags"), settings)
    observed = exposure_from_header(header, str(job.input_path("image")))
    row: dict[str, Any] = read_quality(job.input_path("quality")) | found.numbers
    row |= {
        "expnum": observed.expnum,
        "band": observed.band,
        "night": observed.night,
        "ccd": job.ccd,
        "status": found.status,
        "reason": found.reason,
        "n_saturated": _n_saturated(planes),
        "n_astrometry": header.get("SCAMPNUM"),
        "astrometry_rms_mas": header.get("ASTRRMS", row.get("astrometry_rms_mas")),
        "zeropoint_mag": zero_point.get("zeropoint_mag"),
        "zeropoint_error_mag": zero_point.get("zeropoint_error_mag"),
        "airmass": observed.airmass,
        "exptime_s": observed.exptime_s,
        "exposure": plain_quality(asdict(observed)),
    }
    shape = next(iter(planes.values())).shape
    row["corners"] = _corners(header, shape)
    row["depth_mag"] = _depth_mag(job, row, shape)
    path = write_quality(job.product_path("quality.json"), row)
    return job.result({"quality": path}, quality={"status": found.status, "reason": found.reason})


def _n_saturated(planes: Mapping[str, np.ndarray[Any, Any]]) -> int | None:
    return int(np.count_nonzero(planes["MSK"] & int(MaskBit.SATURATE))) if "MSK" in planes else None


def _corners(header: Mapping[str, Any], shape: tuple[int, ...]) -> list[list[float]] | None:
    """Return RA and Dec of the corners, degrees; None without coordinates, which the verification has named."""
    try:
        corners: list[list[float]] = footprint(TpvWcs.from_header(header), shape[1], shape[0]).round(7).tolist()
    except InputError:
        return None
    return corners


def _depth_mag(job: StepJob, row: Mapping[str, Any], shape: tuple[int, ...]) -> float | None:
    """Return the magnitude of a point source of five sigma in the middle of the CCD; None without a zero point."""
    sigma, zeropoint = row.get("sky_sigma_electrons"), row["zeropoint_mag"]
    if not sigma or zeropoint is None:
        return None
    return point_source_depth_mag(read_psf(job.input_path("psf")), sigma, zeropoint, (shape[1] / 2, shape[0] / 2))


def verify_job(
    inspected: Mapping[int, StepResult],
    missing: Mapping[int, Failure],
    exposure: ExposureId,
    site: Site,
    settings: VerificationSettings,
) -> StepJob:
    """Plan the verdict on an exposure.

    Parameters
    ----------
    inspected
        CCD number to the result of its inspection.
    missing
        CCDs that have no products, and why.
    exposure, site, settings
        What, where and how.
    """
    inputs = {f"{ROW}{ccd:02d}": result.products["quality"] for ccd, result in sorted(inspected.items())}
    parameters = {"missing": {str(ccd): failure.message for ccd, failure in sorted(missing.items())}}
    return StepJob(exposure=exposure, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step("verify")
def verify(job: StepJob) -> StepResult:
    """Gather the quality numbers of an exposure, its missing CCDs included, and work out what it is worth."""
    rows: list[dict[str, Any]] = [read_quality(job.input_path(name)) for name in sorted(job.inputs)]
    if job.exposure is None:
        raise TypeError("the step verifies exposures")
    who = {"expnum": job.exposure.expnum, "band": job.exposure.band, "night": job.exposure.night}
    for ccd, reason in job.parameters["missing"].items():
        rows.append(who | {"ccd": int(ccd), "status": "missing", "reason": reason})
    table = quality_table(rows)
    quality, summary = job.product_path("quality.parquet"), job.product_path("summary.json")
    write_table(quality, table.sort_by("ccd"))
    present = [row for row in rows if row["status"] != "missing"]
    numbers = exposure_numbers(present, job)
    document = {
        "numbers": numbers,
        "exposure": present[0]["exposure"],
        "ccds": {str(r["ccd"]): _brief(r) for r in present},
    }
    write_text(summary, json.dumps(document, indent=1, sort_keys=True) + "\n")
    page = job.product_path("focalplane.md")
    what = f"exposure {job.exposure.expnum} ({job.exposure.band})"
    write_text(page, focal_plane_page({int(row["ccd"]): row for row in rows}, what))
    return job.result({"quality": quality, "summary": summary, "page": page}, quality=numbers)


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the choice of templates asks of a CCD."""
    return {name: row.get(name) for name in ("status", "corners", "zeropoint_mag", "depth_mag", "fwhm_arcsec")}


def exposure_numbers(rows: list[dict[str, Any]], job: StepJob) -> dict[str, Any]:
    """Return what an exposure as a whole is worth, from its CCDs' quality numbers."""
    settings = job.settings_as(VerificationSettings).effective_exposure
    middle = {
        name: finite_median([row.get(name) for row in rows])
        for name in ("fwhm_arcsec", "sky_electrons", "zeropoint_mag", "depth_mag", "airmass", "exptime_s")
    }
    band = str(rows[0]["band"])
    worth = effective_exposure(
        band,
        exptime_s=middle["exptime_s"],
        airmass=middle["airmass"],
        fwhm_arcsec=middle["fwhm_arcsec"],
        sky_electrons=middle["sky_electrons"],
        zeropoint_mag=middle["zeropoint_mag"],
    )
    numbers: dict[str, Any] = middle | {
        "t_eff": worth.total,
        "zeropoint_loss_mag": worth.zeropoint_loss_mag,
        "grade": judge_exposure(band, middle["fwhm_arcsec"], worth, settings),
        "n_ccds": len(rows),
    }
    return plain_quality(numbers)
