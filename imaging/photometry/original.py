"""Tables of the original pipeline's photometric calibration, with its names and columns.

Its conventions: ``ZP`` is minus the zero point (so that a magnitude is ``-2.5 log10(flux) - ZP``), ``ZPrms`` is the
zero point's standard error, ``NewZPFlag`` is the sum of 1 (the exposure's value is adopted), -1000 (outlier) and -9999
(too many outliers). Differences: exposure numbers and running numbers are 64-bit, and unknown values are empty, never
-999.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.identity import ExposureId
from imaging.photometry.match import MAG_PER_RELATIVE_FLUX
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.tables import column

FloatArray = NDArray[np.float64]
Row = dict[str, Any]

FALLBACK, OUTLIER, MANY_OUTLIERS = 1, -1000, -9999
"""Flags of the original pipeline."""

HALF_STAR_SPREAD = 0.01
"""SPREAD_MODEL at which CLASS_STAR, a neural network in the original pipeline, is one half."""


def zero_row(exposure: ExposureId, zeropoint: Mapping[str, Any]) -> Row:
    """Return the line of ``Zero_``: the CCD's own zero point.

    Parameters
    ----------
    exposure
        The exposure.
    zeropoint
        Row of the CCD in the table of zero points.
    """
    return {
        "FILENAME": f"{exposure.ccd_stem(int(zeropoint['ccd']))}_fullcat.fits",
        "Nall": zeropoint["n_matched"],
        "Nclipped": zeropoint["n_used"],
        "ZP": _minus(zeropoint["own_zeropoint_mag"]),
        "ZPrms": zeropoint["own_zeropoint_error_mag"],
        "magType": zeropoint.get("magType", "mag_psf"),
    }


def all_zp_row(exposure: ExposureId, zeropoints: Sequence[Mapping[str, Any]]) -> Row:
    """Return the line of ``allZP_``: the zero point of the exposure."""
    known = [row["own_zeropoint_error_mag"] for row in zeropoints if row["own_zeropoint_error_mag"] is not None]
    error = float(1.0 / np.sqrt(np.sum(1.0 / np.square(known)))) if known else None
    return {
        "EXPNUM": exposure.expnum,
        "REQNUM": exposure.rnum,
        "ATTNUM": exposure.pnum,
        "NumStarsAll": sum(row["n_matched"] for row in zeropoints),
        "NumStarsClipped": sum(row["n_used"] for row in zeropoints),
        "sigclipZP": _minus(zeropoints[0]["exposure_zeropoint_mag"]),
        "stdsigclipzp": error,
    }


def catalogue_list_row(exposure: ExposureId, ccd: int, header: Mapping[str, Any]) -> Row:
    """Return the line of a CCD in ``red_catlist``.

    Parameters
    ----------
    exposure
        The exposure.
    ccd
        CCD number.
    header
        Header of the CCD's final image, with its centre and corners.
    """
    places = ["RA_CENT", "DEC_CENT", *(f"{axis}C{number}" for number in range(1, 5) for axis in ("RA", "DEC"))]
    return {
        "EXPNUM": exposure.expnum,
        "FILENAME": f"{exposure.ccd_stem(ccd)}_fullcat.fits",
        "NITE": exposure.night,
        "BAND": exposure.band,
        "CCDNUM": ccd,
        "AIRMASS": header.get("AIRMASS"),
        "EXPTIME": header.get("EXPTIME"),
    } | {name: header.get(name) for name in places}


def merged_rows(
    exposure: ExposureId, zeropoints: Sequence[Mapping[str, Any]], catalogue_list: Mapping[int, Row]
) -> dict[int, Row]:
    """Return the lines of ``Merged_``: properties and adopted zero point of each CCD.

    Parameters
    ----------
    exposure
        The exposure.
    zeropoints
        Rows of the table of zero points, of all CCDs.
    catalogue_list
        CCD number to its line of ``red_catlist``.
    """
    adopted = [row["zeropoint_mag"] for row in zeropoints if row["zeropoint_mag"] is not None]
    median = float(np.median(adopted)) if adopted else None
    outliers = sum(bool(row["flags"] & ZeropointFlag.OUTLIER) for row in zeropoints)
    percent = 100.0 * outliers / len(zeropoints)
    rows = {}
    for row in zeropoints:
        ccd = int(row["ccd"])
        # The original uses the deviation of the CCD's own value, before it is replaced by the exposure's.
        value = row["own_zeropoint_mag"] if row["own_zeropoint_mag"] is not None else row["zeropoint_mag"]
        difference = None if value is None or median is None else median - value
        flags = original_flags(int(row["flags"]))
        rows[ccd] = (
            catalogue_list.get(ccd, {})
            | zero_row(exposure, row)
            | {
                "NewZP": _minus(row["zeropoint_mag"]),
                "NewZPrms": row["zeropoint_error_mag"],
                "NewZPFlag1": flags[0],
                "DiffZP": difference,
                "NewZPFlag2": flags[1],
                "Percent1": percent,
                "NewZPFlag3": flags[2],
                "NewZPFlag": sum(flags),
                "DiffZP1": None if difference is None else 1000.0 * difference,
            }
        )
    return rows


def merged_all_row(exposure: ExposureId, ccd: int, merged: Mapping[str, Any]) -> Row:
    """Return the line of ``Merg_allZP_``: the adopted zero point of a CCD."""
    return {
        "FILENAME": merged["FILENAME"],
        "EXPNUM": exposure.expnum,
        "CCDNUM": ccd,
        "NewZP": merged["NewZP"],
        "NewZPrms": merged["NewZPrms"],
        "NewZPFlag": merged["NewZPFlag"],
    }


def original_flags(flags: int) -> tuple[int, int, int]:
    """Return the original pipeline's three flags of a zero point: fallback, outlier, too many outliers."""
    fallback = flags & (ZeropointFlag.TOO_FEW_STARS | ZeropointFlag.OUTLIER | ZeropointFlag.UNCALIBRATED)
    return (
        FALLBACK if fallback else 0,
        OUTLIER if flags & ZeropointFlag.OUTLIER else 0,
        MANY_OUTLIERS if flags & ZeropointFlag.MANY_OUTLIERS else 0,
    )


def calibrated_catalogue(catalogue: pa.Table, merged: Mapping[str, Any], fwhm_pixels: float) -> pa.Table:
    """Return the table of ``_ZP``: a CCD's sources with magnitudes.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`, with the final positions.
    merged
        The CCD's line of ``Merged_``.
    fwhm_pixels
        Width of the PSF.
    """
    n = catalogue.num_rows
    zeropoint, error = merged["NewZP"], merged["NewZPrms"]
    fwhm_deg = column(catalogue, "fwhm_image").astype(float) * PIXEL_SCALE_ARCSEC / 3600.0
    columns: dict[str, Any] = {
        "ID": np.arange(1, n + 1),
        "EXPNUM": column(catalogue, "expnum"),
        "CCDNUM": column(catalogue, "ccd"),
        "NUMBER": column(catalogue, "number").astype(np.int64),
        "ALPHAWIN_J2000": column(catalogue, "ra"),
        "DELTAWIN_J2000": column(catalogue, "dec"),
    }
    for kind in ("auto", "psf"):
        flux, flux_error = (column(catalogue, f"flux_{kind}{end}").astype(float) for end in ("", "_error"))
        columns |= {f"FLUX_{kind.upper()}": _or_null(flux), f"FLUXERR_{kind.upper()}": _or_null(flux_error)}
        mag, mag_error = _magnitudes(flux, flux_error, zeropoint)
        columns |= {f"MAG_{kind.upper()}": mag, f"MAGERR_{kind.upper()}": mag_error}
    spread, spread_error = (column(catalogue, name).astype(float) for name in ("spread_model", "spread_model_error"))
    flag = pa.scalar(int(merged["NewZPFlag"]), pa.int64())
    columns |= {
        "SPREAD_MODEL": _or_null(spread),
        "SPREADERR_MODEL": _or_null(spread_error),
        "FWHM_WORLD": _or_null(fwhm_deg),
        "FWHMPSF_IMAGE": np.full(n, fwhm_pixels),
        "FWHMPSF_WORLD": np.full(n, fwhm_pixels * PIXEL_SCALE_ARCSEC / 3600.0),
        "CLASS_STAR": _or_null(0.5 ** np.square(spread / np.maximum(HALF_STAR_SPREAD, 3.0 * spread_error))),
        "FLAGS": column(catalogue, "flags").astype(np.int64),
        "IMAFLAGS_ISO": column(catalogue, "mask").astype(np.int64),
        "ZeroPoint": pa.repeat(pa.scalar(zeropoint, pa.float64()), n),
        "ZeroPoint_rms": pa.repeat(pa.scalar(error, pa.float64()), n),
        "ZeroPoint_FLAGS": pa.repeat(flag, n),
    }
    names = ("ID", "EXPNUM", "CCDNUM", "NUMBER", "ALPHAWIN_J2000", "DELTAWIN_J2000", *_FLUXES, *_MAGNITUDES)
    return pa.table({name: columns[name] for name in (*names, *(name for name in columns if name not in names))})


_FLUXES = ("FLUX_AUTO", "FLUXERR_AUTO", "FLUX_PSF", "FLUXERR_PSF")
_MAGNITUDES = ("MAG_AUTO", "MAGERR_AUTO", "MAG_PSF", "MAGERR_PSF")


def _magnitudes(flux: FloatArray, error: FloatArray, zeropoint: float | None) -> tuple[pa.Array, pa.Array]:
    """Return magnitudes and errors, null without positive flux or zero point."""
    bright = np.where(flux > 0, flux, np.nan)
    mag = -2.5 * np.log10(bright) - (np.nan if zeropoint is None else zeropoint)
    return _or_null(mag), _or_null(MAG_PER_RELATIVE_FLUX * error / bright)


def _or_null(values: FloatArray) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
