"""Raw files with the headers of the observatory, written by astropy alone, for tests."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time

FILTERS = {
    "g": "g DECam SDSS c0001 4720.0 1520.0",
    "r": "r DECam SDSS c0002 6415.0 1480.0",
    "i": "i DECam SDSS c0003 7835.0 1470.0",
    "z": "z DECam SDSS c0004 9260.0 1520.0",
}


def primary(expnum: int, *, mjd: float = 60211.05, band: str = "i", ra: str = "13:09:48.1", **cards) -> fits.Header:
    """Return the primary header of a science exposure of 2023-09-23, with some cards changed; None removes one."""
    time = Time(mjd, format="mjd")
    values = {
        "EXTEND": True,
        "NEXTEND": 2,
        "PROCTYPE": "RAW",
        "PRODTYPE": "image",
        "FILENAME": f"DECam_{expnum:08d}.fits",
        "INSTRUME": "DECam",
        "EXPTIME": 80.0,
        "OBSID": f"ct4m{time.strftime('%Y%m%dt%H%M%S')}",
        "DATE-OBS": time.isot,
        "MJD-OBS": mjd,
        "TIMESYS": "UTC",
        "EXPNUM": expnum,
        "OBJECT": "desgw field 7",
        "OBSTYPE": "object",
        "PROPID": "2022B-715089",
        "FILTER": FILTERS.get(band, band),
        "RA": ra,
        "DEC": "-23:22:53.0",
        "TELRA": ra,
        "TELDEC": "-23:22:53.0",
        "AIRMASS": 1.23,
        "DTPROPID": "2022B-715089",
    }
    header = fits.Header()
    for key, value in (values | {k.replace("_", "-"): v for k, v in cards.items()}).items():
        if value is not None:
            header[key] = value
    return header


def write_frame(path: Path, expnum: int, *, ccds=(3, 25), compressed: bool = True, shape=(48, 40), **cards) -> Path:
    """Write a raw file of small CCDs; ``cards`` as in :func:`primary`."""
    rng = np.random.default_rng(expnum)
    hdus = [fits.PrimaryHDU(header=primary(expnum, **({"NEXTEND": len(ccds)} | cards)))]
    for ccd in ccds:
        pixels = rng.integers(1000, 3000, shape).astype(np.uint16)
        header = fits.Header({"CCDNUM": ccd})
        hdus.append(fits.CompImageHDU(pixels, header) if compressed else fits.ImageHDU(pixels, header))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path
