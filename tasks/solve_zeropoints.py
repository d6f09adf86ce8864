"""Solve the zero points of an exposure from those of its CCDs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from blocks.site import Site
from imaging.errors import StorageError
from imaging.exposure import exposure_from_header
from imaging.identity import ExposureId
from imaging.io.atomic import write_bytes
from imaging.io.images import read_header
from imaging.io.tables import read_table, write_table
from imaging.photometry.settings import CalibrationSettings
from imaging.photometry.solve import solve_exposure_zeropoints
from imaging.photometry.zeropoint import CcdZeropoint
from imaging.pictures.zeropoints import zeropoint_pictures
from imaging.schemas.zeropoints import ZEROPOINTS
from tasks.calibrate import own_zeropoint
from tasks.engine.jobs import Failure, StepResult
from tasks.engine.step import step
from tasks.exposure_solution import Basis, absentees
from tasks.jobs import StepJob
from tasks.steps import SOLVE_ZEROPOINTS

MATCHES = "matches_"
BASIS = b"basis"


def solve_zeropoints_job(
    calibrated: Mapping[int, StepResult],
    failures: Mapping[int, Failure],
    exposure: ExposureId,
    site: Site,
    settings: CalibrationSettings,
) -> StepJob:
    """Plan the solution of an exposure's zero points.

    Parameters
    ----------
    calibrated, failures
        CCD number to the result of its calibration, and to its failure.
    exposure, site, settings
        Exposure, site, settings of the step.
    """
    inputs = {f"{MATCHES}{c:02d}": r.products["zero_point_matches"] for c, r in sorted(calibrated.items())}
    inputs["image"] = next(iter(calibrated.values())).products["image"]
    own = {str(ccd): _plain(own_zeropoint(result)) for ccd, result in sorted(calibrated.items())}
    parameters: dict[str, Any] = {"own": own, "without": absentees(failures)}
    units = {str(ccd): result.quality.get("unit_mag") or 0.0 for ccd, result in sorted(calibrated.items())}
    if any(units.values()):
        parameters["units_mag"] = units
    return StepJob(exposure=exposure, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(SOLVE_ZEROPOINTS)
def solve_zeropoints(job: StepJob) -> StepResult:
    """Solve the zero points of all CCDs of an exposure jointly, flag outliers, and draw them."""
    observed = exposure_from_header(read_header(job.input_path("image")), str(job.input_path("image")))
    own = {int(ccd): CcdZeropoint(**values) for ccd, values in job.parameters["own"].items()}
    settings = job.settings_as(CalibrationSettings).photometry
    units = {int(ccd): float(value) for ccd, value in job.parameters.get("units_mag", {}).items()}
    table = solve_exposure_zeropoints(own, observed, settings, units)
    products = job.product_paths(SOLVE_ZEROPOINTS)
    path = products["zero_points"]
    basis = Basis.of(job, solve_zeropoints.code_version, MATCHES)
    table = _keep_earlier(table, path, basis)
    write_table(path, table.replace_schema_metadata({BASIS: json.dumps(basis.model_dump()).encode()}))
    rows = table.to_pylist()
    pictures = zeropoint_pictures(rows, f"exposure {observed.expnum} ({observed.band})")
    for suffix, png in pictures.items():
        products[suffix] = job.product_path(f"{suffix}.png")
        write_bytes(products[suffix], png)
    quality = {
        "exposure_zeropoint_mag": rows[0]["exposure_zeropoint_mag"],
        "n_ccds": len(rows),
        "n_flagged": sum(row["flags"] != 0 for row in rows),
    }
    return job.result(products, quality=quality)


def _keep_earlier(table: pa.Table, path: Path, basis: Basis) -> pa.Table:
    """Return the new rows with those of an earlier solution kept, if only repaired CCDs were added to it."""
    try:
        earlier = read_table(path)
        joins = basis.joins(Basis.model_validate_json((earlier.schema.metadata or {})[BASIS]))
    except (StorageError, KeyError, ValidationError):
        return table
    if not joins:
        return table
    kept = {row["ccd"]: row for row in earlier.to_pylist()}
    rows = [kept.get(row["ccd"], row) for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, schema=ZEROPOINTS)


def _plain(own: CcdZeropoint) -> dict[str, float | int | None]:
    return {
        "zeropoint_mag": own.zeropoint_mag,
        "zeropoint_error_mag": own.zeropoint_error_mag,
        "scatter_mag": own.scatter_mag,
        "n_matched": own.n_matched,
        "n_used": own.n_used,
    }
