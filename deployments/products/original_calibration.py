"""Export the calibration of an exposure in the original's formats: CSV tables, star and veto lists."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from blocks.site import Site
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.errors import InputError
from imaging.exposure import exposure_from_header
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from imaging.io.colour_terms import COLOUR_TERMS, read_colour_terms
from imaging.io.images import read_header
from imaging.io.original_tables import write_csv
from imaging.io.reference import read_reference_cone
from imaging.io.tables import read_table
from imaging.photometry.colours import band_magnitudes, gaia_release, published_colour_terms
from imaging.photometry.magnitudes import PSF_MAGNITUDES, check_magnitudes
from imaging.photometry.original import (
    all_zp_row,
    calibrated_catalogue,
    catalogue_list_row,
    merged_all_row,
    merged_rows,
    zero_row,
)
from imaging.photometry.star_lists import StarList, StarListSettings, calibration_stars, list_text, veto_stars
from imaging.wcs.sphere import separation_deg
from tasks.jobs import StepJob
from tasks.magnitude_zeropoints import zeropoints_path
from tasks.products import ccds_with

FloatArray = NDArray[np.float64]

VETO_MARGIN_DEG = 0.02
"""Margin around a CCD's corners for stars whose veto radius reaches into it: 54 arcseconds at magnitude 3."""


@dataclass(frozen=True)
class Calibrated:
    """A calibrated exposure as the original's tables.

    Attributes
    ----------
    exposure
        The exposure.
    zeropoints
        CCD number to its row of the table of zero points.
    merged
        CCD number to its line of ``Merged_``.
    catalogues
        CCD number to its table of ``_ZP``.
    headers
        CCD number to the header of its final image.
    """

    exposure: ExposureId
    zeropoints: dict[int, dict[str, Any]]
    merged: dict[int, dict[str, Any]]
    catalogues: dict[int, pa.Table] = field(default_factory=dict)
    headers: dict[int, dict[str, Any]] = field(default_factory=dict)


def read_calibrated(
    exposure: ExposureId, site: Site, ccds: Sequence[int] | None = None, magnitudes: str = PSF_MAGNITUDES
) -> Calibrated:
    """Read the calibration of an exposure.

    Parameters
    ----------
    exposure, site
        Exposure and site.
    ccds
        CCDs; None for all calibrated ones.
    magnitudes
        Magnitudes of the zero points.

    Raises
    ------
    InputError
        If the exposure has not been calibrated with these magnitudes, or one of the CCDs was not.
    """
    check_magnitudes(magnitudes)
    job = StepJob(exposure=exposure, site=site)
    path = zeropoints_path(exposure, site, magnitudes)
    if not path.is_file():
        raise InputError(
            "exposure has not been calibrated",
            expnum=exposure.expnum,
            value=path.name,
            remedy=f"run gw-workflow calibrate --magsType {magnitudes} first",
        )
    rows = {int(row["ccd"]): row | {"magType": magnitudes} for row in read_table(path).to_pylist()}
    found = set(ccds_with(exposure, site, "fullcat.parquet")) & set(rows)
    wanted = sorted(found if ccds is None else ccds)
    if missing := sorted(set(wanted) - found):
        raise InputError("CCDs have not been calibrated", expnum=exposure.expnum, value=missing, limit=sorted(found))
    headers = {ccd: dict(read_header(_of(job, ccd, "immask.fits"))) for ccd in wanted}
    listed = {ccd: catalogue_list_row(exposure, ccd, header) for ccd, header in headers.items()}
    merged = merged_rows(exposure, list(rows.values()), listed)
    catalogues = {
        ccd: calibrated_catalogue(
            read_table(_of(job, ccd, "fullcat.parquet")), merged[ccd], float(headers[ccd].get("FWHM", np.nan))
        )
        for ccd in wanted
    }
    return Calibrated(exposure, rows, {ccd: merged[ccd] for ccd in wanted}, catalogues, headers)


def export_tables(calibrated: Calibrated, folder: Path) -> list[Path]:
    """Write the original's comma-separated tables of an exposure; return their paths.

    Raises
    ------
    StorageError
        If one cannot be written.
    """
    exposure = calibrated.exposure
    stem = f"D{exposure.expnum:08d}"
    written = {f"allZP_{stem}_{exposure.rpnum}.csv": [all_zp_row(exposure, list(calibrated.zeropoints.values()))]}
    for ccd, merged in calibrated.merged.items():
        name = f"{stem}_{ccd:02d}_{exposure.rpnum}"
        written[f"Zero_{name}.csv"] = [zero_row(exposure, calibrated.zeropoints[ccd])]
        written[f"Merged_{name}.csv"] = [merged]
        written[f"Merg_allZP_{name}.csv"] = [merged_all_row(exposure, ccd, merged)]
    tables: dict[str, pa.Table | list[dict[str, Any]]] = dict(written)
    tables |= {f"{stem}_{ccd:02d}_{exposure.rpnum}_ZP.csv": table for ccd, table in calibrated.catalogues.items()}
    tables[f"{stem}_{exposure.rpnum}_ZP.csv"] = pa.concat_tables(calibrated.catalogues.values())
    for name, table in tables.items():
        write_csv(folder / name, table)
    return [folder / name for name in tables]


def export_star_lists(
    calibrated: Calibrated, others: Sequence[Calibrated], site: Site, folder: Path, settings: StarListSettings
) -> list[Path]:
    """Write the lists of calibration stars and of vetoes of every CCD of an exposure; return their paths.

    Parameters
    ----------
    calibrated
        Exposure with the CCDs of the lists.
    others
        Exposures whose stars are listed (templates); without any, this exposure.
    site
        Site with the reference catalogue.
    folder
        Output folder.
    settings
        Limits.

    Raises
    ------
    InputError
        If there is no reference catalogue.
    StorageError
        If a list cannot be written.
    """
    exposure, paths = calibrated.exposure, []
    catalogues = [table for other in (others or [calibrated]) for table in other.catalogues.values()]
    stars = calibration_stars(catalogues, settings)
    for ccd, header in calibrated.headers.items():
        ra, dec = float(header["RA_CENT"]), float(header["DEC_CENT"])
        corner_ra, corner_dec = _corners(header)
        near = _apart(stars.ra, ra) <= _apart(corner_ra, ra).max()
        near &= np.abs(stars.dec - dec) <= np.abs(corner_dec - dec).max()
        name = f"{exposure.expnum}_{ccd:02d}_{exposure.rpnum}.LIST"
        veto = _vetoes(exposure, header, site, settings)
        for kind, chosen in (("SNSTAR", stars.select(near)), ("SNVETO", veto)):
            paths.append(folder / f"{kind}_{name}")
            write_text(paths[-1], list_text(chosen, exposure.band, exposure.rpnum))
    return paths


def _vetoes(exposure: ExposureId, header: dict[str, Any], site: Site, settings: StarListSettings) -> StarList:
    observed = exposure_from_header(header, str(exposure.expnum))
    ra, dec = float(header["RA_CENT"]), float(header["DEC_CENT"])
    radius = float(separation_deg(ra, dec, *_corners(header)).max()) + VETO_MARGIN_DEG
    table = read_reference_cone(site.reference / "gaia", ra, dec, radius)
    path = site.calibrations / COLOUR_TERMS
    terms = read_colour_terms(path) if path.is_file() else published_colour_terms(gaia_release(table))
    stars = reference_at_epoch(table, observed.mjd_mid, AstrometrySettings())
    magnitudes = band_magnitudes(table, exposure.band, terms)
    return veto_stars(stars.ra, stars.dec, magnitudes.mag, stars.g_mag, settings)


def _corners(header: dict[str, Any]) -> tuple[FloatArray, FloatArray]:
    """Return right ascensions and declinations of a CCD's corners, degrees."""
    ra, dec = (np.array([float(header[f"{axis}C{k}"]) for k in range(1, 5)]) for axis in ("RA", "DEC"))
    return ra, dec


def _apart(ra: FloatArray, centre: float) -> FloatArray:
    """Return the distances of right ascensions from a centre, degrees, the short way round."""
    return np.abs((ra - centre + 180.0) % 360.0 - 180.0)


def _of(job: StepJob, ccd: int, suffix: str) -> Path:
    return job.model_copy(update={"ccd": ccd}).product_path(suffix)
