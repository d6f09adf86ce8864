"""Verify an exposure: collect the quality numbers of its CCDs, and grade the exposure."""

import json
from collections.abc import Mapping
from typing import Any

from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from imaging.io.sealed import write_sealed
from imaging.io.tables import write_table
from imaging.numerics.robust import finite_median
from imaging.quality.grades import grade_value, worst
from imaging.quality.settings import VerificationSettings
from imaging.quality.teff import effective_exposure, judge_exposure
from tasks.engine.jobs import Failure, StepResult, plain_quality
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.products import quality_table, read_quality
from tasks.steps import VERIFY

ROW = "row_"


def verify_job(
    checked: Mapping[int, StepResult],
    missing: Mapping[int, Failure],
    exposure: ExposureId,
    site: Site,
    settings: VerificationSettings,
) -> StepJob:
    """Plan the verification of an exposure.

    Parameters
    ----------
    checked
        CCD number to the result of its check.
    missing
        CCD number to failure, for CCDs without products.
    exposure, site, settings
        Exposure, site, limits.
    """
    inputs = {f"{ROW}{ccd:02d}": result.products["quality"] for ccd, result in sorted(checked.items())}
    parameters = {"missing": {str(ccd): failure.message for ccd, failure in sorted(missing.items())}}
    return StepJob(exposure=exposure, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(VERIFY)
def verify(job: StepJob) -> StepResult:
    """Collect the quality numbers of an exposure, including its missing CCDs, and compute its grade."""
    rows: list[dict[str, Any]] = [read_quality(job.input_path(name)) for name in sorted(job.inputs)]
    if job.exposure is None:
        raise TypeError("the step verifies exposures")
    who = {"expnum": job.exposure.expnum, "band": job.exposure.band, "night": job.exposure.night}
    for ccd, reason in job.parameters["missing"].items():
        rows.append(who | {"ccd": int(ccd), "status": "missing", "reason": reason})
    table = quality_table(rows)
    paths = job.product_paths(VERIFY)
    write_table(paths["quality"], table.sort_by("ccd"))
    present = [row for row in rows if row["status"] != "missing"]
    numbers = exposure_numbers(present, job)
    document = {
        "numbers": numbers,
        "exposure": present[0]["exposure"],
        "ccds": {str(r["ccd"]): _brief(r) for r in present},
    }
    write_sealed(paths["summary"], json.dumps(document, indent=1, sort_keys=True) + "\n")
    from imaging.pictures.focal_plane_page import focal_plane_page  # with Matplotlib, which a cached step needs not

    what = f"exposure {job.exposure.expnum} ({job.exposure.band})"
    write_text(paths["page"], focal_plane_page({int(row["ccd"]): row for row in rows}, what))
    return job.result(paths, quality=numbers)


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quality numbers of a CCD that the choice of templates uses."""
    brief = {
        name: row.get(name) for name in ("status", "corners", "zeropoint_mag", "depth_mag", "fwhm_arcsec", "source")
    }
    return brief | ({"first_mjd": row["first_mjd"]} if row.get("first_mjd") else {})


def exposure_numbers(rows: list[dict[str, Any]], job: StepJob) -> dict[str, Any]:
    """Return the quality numbers of an exposure as a whole, from those of its CCDs."""
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
        "calibration_grade": str(worst(grade_value("linearity_known", band, r.get("linearity_known")) for r in rows)),
        "grade": judge_exposure(band, middle["fwhm_arcsec"], worth, settings),
        "n_ccds": len(rows),
    }
    return plain_quality(numbers)
