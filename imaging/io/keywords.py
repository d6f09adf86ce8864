"""Meanings of the header keywords of image products, and the keywords that belong to each plane."""

import re
from typing import Any

from imaging.bits import MEANINGS as BIT_MEANINGS
from imaging.bits import MaskBit

IDENTITY = ("EXPNUM", "CCDNUM", "BAND", "DATE-OBS", "TIMESYS", "MJD-OBS", "EXPTIME")
"""Keywords that every plane of a file has, besides its coordinates."""

_COORDINATE = re.compile(
    r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|CRDER|CSYER)\d|(CD|PC|PV|PS)\d+_\d+|RADESYS|EQUINOX|LONPOLE|LATPOLE|WCSAXES"
    r"|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
)

COLOUR_SLOPE = "COLSLOPE"
"""Keyword of star flats, and of images that were divided by them."""

ELECTRONS = "electron"
"""Unit of pixels, as astropy spells it; FITS and VOUnits have no word for it."""

MASK_BITS: dict[str, Any] = {
    f"MSKBIT{number:02d}": (bit.name, f"{bit.value}: {BIT_MEANINGS[bit]}") for number, bit in enumerate(MaskBit)
}
"""Keywords of a mask: the name of each bit by its number; the comment has its value and meaning."""

PLANE_KEYWORDS: dict[str, dict[str, Any]] = {
    "MSK": {"BUNIT": ("", "bits, named by MSKBITnn")} | MASK_BITS,
    "WGT": {
        "BUNIT": (f"{ELECTRONS}-2", "inverse variance, not a standard deviation"),
        "UTYPE": ("InverseVariance", "kind of uncertainty, as astropy names it"),
    },
    "FLX": {"BUNIT": (ELECTRONS, "flux of the template under a point source")},
    "MATCHED": {"BUNIT": (ELECTRONS, "the template as it was subtracted")},
    "SCORE": {"BUNIT": ("", "signal to noise of a point source")},
    "SKY": {"BUNIT": ELECTRONS},
}
"""Extension name to its own keywords."""

MEANINGS: dict[str, str] = {
    "EXPNUM": "exposure number",
    "CCDNUM": "CCD number",
    "DETPOS": "position of the CCD in the camera",
    "BAND": "band",
    "FILTER": "filter",
    "NITE": "local date at the beginning of the night",
    "DATE-OBS": "UTC, start of the exposure",
    "TIMESYS": "time scale of all dates and MJD",
    "MJD-OBS": "[d] UTC, start of the exposure",
    "EXPTIME": "[s] exposure time",
    "CAMVALS": "cards replaced by values of the camera",
    "CALDEFLT": "in place of missing calibrations",
    "LINKNOWN": "whether response curves were applied",
    "TELESCOP": "telescope",
    "INSTRUME": "camera",
    "TELRA": "[deg] telescope pointing, right ascension",
    "TELDEC": "[deg] telescope pointing, declination",
    "AIRMASS": "airmass",
    "OBSTYPE": "kind of exposure",
    "OBJECT": "name given by the observer",
    "PROPID": "observing proposal",
    "BUNIT": "unit of the pixels",
    "QUANTUM": "pixels are multiples of it",
    "GAIN": "photo-electrons per unit of the pixels",
    "NTMPL": "number of templates",
    "SATURATE": "[electron] saturation level",
    "SKYBRITE": "[electron] level of the subtracted sky",
    "FWHM": "[pixel] seeing",
    "MAGZERO": "[mag] AB magnitude of one electron",
    "COLSLOPE": "[mag/mag] MAGZERO against BP-RP, see COLREF",
    "COLREF": "[mag] BP - RP for which MAGZERO holds",
    "TRANSRMS": "rms of the transparency of clouds taken out, relative",
    "TRANSERR": "rms error of that transparency, relative",
    "ASTRRMS": "[mas] rms of bright reference stars per axis",
    "ASTRRMSC": "[mas] the same of positions in the catalogue",
    "SCAMPNUM": "stars of the astrometric solution",
    "SCAMPREF": "reference catalogue of the coordinates",
    "SCAMPFLG": "0: own solution; 1: solution of the exposure",
    "SCALEERR": "relative error of the subtracted brightness",
    "PSFERR": "relative error of a flux by the PSF model",
    "SHIFTERR": "[pixel] error of the subtracted position",
    "FLUXERRS": "noise width by which the errors were scaled",
    "PHOTGAIN": "photo-electrons per unit of flux",
    "KERNSUM": "sum of the matching kernel over the flux ratio",
    "KERNCONV": "the image that was convolved",
    "DIFFMETH": "method of the subtraction",
    "SEASON": "season of the search products",
    "RA_CENT": "[deg] right ascension of the centre",
    "DEC_CENT": "[deg] declination of the centre",
    "CROSSRA0": "Y: the image crosses RA = 0",
    "RADESYS": "reference frame of the coordinates",
}
"""Keyword to its comment, with the unit in brackets first."""


def is_coordinate(keyword: str) -> bool:
    """Whether a keyword belongs to celestial coordinates: those of FITS, TPV or SIP."""
    return _COORDINATE.fullmatch(keyword) is not None
