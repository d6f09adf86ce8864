"""Additional FITS keywords of exported images, as in Dark Energy Survey images."""

from collections.abc import Mapping
from typing import Any

from imaging.detector.ccds import AMPLIFIERS, PIXEL_SCALE_ARCSEC

FILE_KEYS = {
    "DESDCXTK": "XTALKFIL",
    "DESBIAS": "BIASFIL",
    "DESLINC": "LINCFIL",
    "DESBPM": "BPMFIL",
    "DESFIXC": "FIXCFIL",
    "DESBFC": "BFCFIL",
    "DESFLAT": "FLATFIL",
    "DESSTAR": "STARFIL",
}
"""Key of a correction to the key with the name of its calibration file."""

FPACK = {"FZALGOR": "RICE_1", "FZQMETHD": "SUBTRACTIVE_DITHER_2", "FZQVALUE": 16, "FZDTHRSD": "CHECKSUM"}
"""Compression keywords of the planes, as written by fpack."""


def des_keywords(header: Mapping[str, Any], quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of an exported image.

    Parameters
    ----------
    header
        Keywords of the final image.
    quality
        Quality metrics of the CCD, named as in :data:`imaging.schemas.quality.QUALITY`; unknown values are not
        written.

    Returns
    -------
    keywords
        Those of the header, and file names of the corrections, FWHM, ELLIPTIC, SKYSIGMA, SCAMPCHI, MAGZERO and others.
    """
    added: dict[str, Any] = {
        file_key: header[key] for key, file_key in FILE_KEYS.items() if isinstance(header.get(key), str)
    }
    added |= {f"FLATMED{name}": 1.0 for name in AMPLIFIERS}
    added |= {
        "CAMSYM": "D",
        "PIXSCAL1": PIXEL_SCALE_ARCSEC,
        "PIXSCAL2": PIXEL_SCALE_ARCSEC,
        "ELLIPTIC": quality.get("ellipticity"),
        "SKYSIGMA": quality.get("sky_sigma_electrons"),
        "NSATPIX": quality.get("n_saturated"),
        "SCAMPCHI": quality.get("astrometry_chi2"),
        "MAGZERO": (quality.get("zeropoint_mag"), "AB magnitude of one electron"),
        "MAGZERR": (quality.get("zeropoint_error_mag"), "error of MAGZERO"),
    }
    fwhm = quality.get("fwhm_arcsec")
    if "FWHM" not in header and fwhm is not None:
        added["FWHM"] = fwhm / PIXEL_SCALE_ARCSEC
    return dict(header) | added
