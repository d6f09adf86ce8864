"""Check the products of a CCD: completeness, consistency and quality numbers."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from blocks.site import Site
from imaging.bits import MaskBit
from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.detrend.defaults import KEY, LINEARITY_KNOWN
from imaging.errors import InputError
from imaging.exposure import exposure_from_header
from imaging.foreign.cards import FIRST_MJD_CARD, SOURCE
from imaging.foreign.patch import covered_polygon
from imaging.identity import ExposureId
from imaging.io.images import read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import read_table
from imaging.photometry.depth import point_source_depth_mag
from imaging.quality.settings import VerificationSettings
from imaging.quality.verify import verify_ccd
from imaging.wcs.sphere import footprint
from imaging.wcs.tpv import TpvWcs
from tasks.engine.jobs import StepResult, plain_quality
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.products import ccds_with, product_inputs, read_quality, write_quality
from tasks.steps import CHECK_PRODUCTS

CALIBRATED = "immask.fits"
UNCALIBRATED = {"image": "measured.fits", "catalogue": "cat.parquet"}


def verifiable_ccds(exposure: ExposureId, site: Site) -> tuple[int, ...]:
    """Return the CCDs of an exposure that have products to verify: calibrated ones or, if there are none, measured."""
    return ccds_with(exposure, site, CALIBRATED) or ccds_with(exposure, site, "measure.json")


def zeropoint_rows(exposure: ExposureId, site: Site) -> dict[int, dict[str, Any]]:
    """Return the adopted zero points of an exposure, CCD number to table row; empty if it has not been calibrated."""
    path = StepJob(exposure=exposure, site=site).product_path("zeropoints.parquet")
    return {row["ccd"]: row for row in read_table(path).to_pylist()} if path.exists() else {}


def check_products_job(
    exposure: ExposureId, ccd: int, site: Site, zeropoint: Mapping[str, Any] | None, settings: VerificationSettings
) -> StepJob:
    """Plan the check of one CCD: of its calibrated products, or of those of the single epoch if it has none.

    Parameters
    ----------
    exposure, ccd, site, settings
        Exposure and CCD, site, limits.
    zeropoint
        Row of the zero-point table; None if there is none.

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


@step(CHECK_PRODUCTS)
def check_products(job: StepJob) -> StepResult:
    """Check the final products of one CCD."""
    planes, header = read_planes(job.input_path("image"), present_only=True)
    zero_point = job.parameters["zero_point"]
    catalogue = read_table(job.input_path("catalogue"))
    settings = job.settings_as(VerificationSettings).verify
    source = str(header.get(SOURCE, "")).strip()
    shape = next(iter(planes.values())).shape
    is_patch = FIRST_MJD_CARD in header
    size: dict[str, Any] = {"shape": shape, "part": min(1.0, shape[0] * shape[1] / (NX * NY))} if source else {}
    if is_patch:
        size |= _grid_of_stack(header, shape)
    found = verify_ccd(planes, header, catalogue, zero_point.get("flags"), settings, **size)
    observed = exposure_from_header(header, str(job.input_path("image")))
    row: dict[str, Any] = read_quality(job.input_path("quality")) | found.numbers
    row |= {
        "expnum": observed.expnum,
        "band": observed.band,
        "night": observed.night,
        "ccd": job.ccd,
        "status": found.status,
        "reason": found.reason,
        "source": source,
        "header_replaced": str(header.get("CAMVALS", "")).strip(),
        "calibration_defaults": str(header.get(KEY, "")).strip(),
        "linearity_known": None if LINEARITY_KNOWN not in header else int(header[LINEARITY_KNOWN]),
        "n_saturated": _n_saturated(planes),
        "n_astrometry": header.get("SCAMPNUM"),
        "astrometry_rms_mas": header.get("ASTRRMS", row.get("astrometry_rms_mas")),
        "clouds_rms": header.get("TRANSRMS", 0.0),
        "clouds_error": header.get("TRANSERR", 0.0),
        "zeropoint_mag": zero_point.get("zeropoint_mag"),
        "zeropoint_error_mag": zero_point.get("zeropoint_error_mag"),
        "airmass": observed.airmass,
        "exptime_s": observed.exptime_s,
        "exposure": plain_quality(asdict(observed)),
    }
    row.pop("coordinates", None)
    row["corners"] = _corners(header, planes, patch=is_patch)
    if is_patch:
        row["first_mjd"] = float(header[FIRST_MJD_CARD])
    row["depth_mag"] = _depth_mag(job, row, shape)
    paths = job.product_paths(CHECK_PRODUCTS)
    write_quality(paths["quality"], row)
    return job.result(paths, quality={"status": found.status, "reason": found.reason})


def _n_saturated(planes: Mapping[str, np.ndarray[Any, Any]]) -> int | None:
    return int(np.count_nonzero(planes["MSK"] & int(MaskBit.SATURATE))) if "MSK" in planes else None


def _grid_of_stack(header: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, float]:
    """Return the pixel scale of a stack and its share of the area of a CCD; pixels without data do not count."""
    try:
        area = float(TpvWcs.from_header(header).pixel_area_arcsec2(shape[1] / 2, shape[0] / 2))
    except InputError:
        return {}  # reported separately
    ratio = area / PIXEL_SCALE_ARCSEC**2
    share = min(1.0, ratio * shape[0] * shape[1] / (NX * NY))
    return {"part": share, "scale_arcsec": math.sqrt(area), "ignored_bits": int(MaskBit.EDGE)}


def _corners(
    header: Mapping[str, Any], planes: Mapping[str, np.ndarray[Any, Any]], *, patch: bool
) -> list[list[float]] | None:
    """Return RA and Dec of the corners, degrees; None without coordinates, which is reported separately.

    Those of a stack are the corners of the polygon around the pixels with data.
    """
    try:
        wcs = TpvWcs.from_header(header)
    except InputError:
        return None
    ny, nx = next(iter(planes.values())).shape
    if patch and "WGT" in planes and (planes["WGT"] > 0).any():
        corners = np.stack(wcs.pixel_to_sky(*covered_polygon(planes["WGT"] > 0).T), axis=-1)
    else:
        corners = footprint(wcs, nx, ny)
    rounded: list[list[float]] = corners.round(7).tolist()
    return rounded


def _depth_mag(job: StepJob, row: Mapping[str, Any], shape: tuple[int, ...]) -> float | None:
    """Return the 5 sigma point-source depth at the centre of the CCD, mag; None without a zero point."""
    sigma, zeropoint = row.get("sky_sigma_electrons"), row["zeropoint_mag"]
    if not sigma or zeropoint is None:
        return None
    return point_source_depth_mag(read_psf(job.input_path("psf")), sigma, zeropoint, (shape[1] / 2, shape[0] / 2))
