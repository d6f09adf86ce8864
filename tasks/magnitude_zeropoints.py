"""Solve the zero points of an exposure for other magnitudes than those of the PSF."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from blocks.site import Site
from imaging.exposure import exposure_from_header
from imaging.identity import ExposureId
from imaging.io.images import read_header
from imaging.io.keywords import COLOUR_SLOPE
from imaging.io.tables import read_table, write_table
from imaging.photometry.magnitudes import PSF_MAGNITUDES, matches_of
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.solve import solve_exposure_zeropoints
from imaging.photometry.zeropoint import at_reference_colour, ccd_zeropoint
from tasks.jobs import StepJob
from tasks.steps import CALIBRATE, SOLVE_ZEROPOINTS


def zeropoints_path(exposure: ExposureId, site: Site, magnitudes: str = PSF_MAGNITUDES) -> Path:
    """Return the path of the table of an exposure's zero points for some magnitudes."""
    suffix = SOLVE_ZEROPOINTS.products["zero_points"]
    if magnitudes != PSF_MAGNITUDES:
        suffix = suffix.replace(".", f"_{magnitudes}.")
    return StepJob(exposure=exposure, site=site).product_path(suffix)


def solve_magnitudes(exposure: ExposureId, site: Site, magnitudes: str, settings: PhotometrySettings) -> dict[str, Any]:
    """Solve and write the zero points of a calibrated exposure for some magnitudes.

    Parameters
    ----------
    exposure, site
        Exposure and site; all CCDs of the table of its zero points are solved together.
    magnitudes
        Name of the magnitudes.
    settings
        Settings of the solution.

    Returns
    -------
    summary
        Names of the magnitudes to the zero point of the exposure, mag, for these and those of the PSF; the table's
        path.
    """
    known = read_table(zeropoints_path(exposure, site)).to_pylist()
    own, observed = {}, None
    for row in known:
        job = StepJob(exposure=exposure, ccd=row["ccd"], site=site)
        tables: dict[str, pa.Table] = {
            name: read_table(job.product_path(CALIBRATE.products[name])) for name in ("zero_point_matches", "catalogue")
        }
        matches = matches_of(tables["zero_point_matches"], tables["catalogue"], magnitudes, settings)
        path = job.product_path(CALIBRATE.products["image"])
        header = read_header(path)
        own[row["ccd"]] = ccd_zeropoint(at_reference_colour(matches, float(header.get(COLOUR_SLOPE, 0.0))), settings)[0]
        observed = observed or exposure_from_header(header, str(path))
    if observed is None:
        return {}
    table = solve_exposure_zeropoints(own, observed, settings)
    write_table(zeropoints_path(exposure, site, magnitudes), table)
    return {
        PSF_MAGNITUDES: known[0]["exposure_zeropoint_mag"],
        magnitudes: table.column("exposure_zeropoint_mag")[0].as_py(),
        "file": str(zeropoints_path(exposure, site, magnitudes)),
    }
