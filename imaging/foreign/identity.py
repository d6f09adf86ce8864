"""Which exposure and CCD of the camera an image of another pipeline is, and where its pixels lie on the CCD.

Forms: the Community Pipeline (DECam data handbook), the Dark Energy Survey's single epochs (Morganson et al. 2018, PASP
130, 074501), the LSST pipelines' calexps. What a header states twice must agree.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from astropy.time import Time

from imaging.bands import band_named
from imaging.detector.ccds import CCDS, NX, NY, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.exposure import Exposure, exposure_from_header
from imaging.foreign.cards import positive
from imaging.image import LoadedImage
from imaging.wcs.foreign import ImageWcs
from imaging.wcs.sphere import separation_deg

LSST_CARDS = ("EXPID", "VISIT", "DETECTOR_ID", "BORE-RA", "AR_HDU")
"""Cards of which an LSST image has at least one; a calexp keeps the cards of the image it was made of."""

BUTLER_CARDS = {
    "EXPNUM": ("VISIT", "LSST BUTLER DATAID VISIT", "LSST BUTLER DATAID EXPOSURE"),
    "FILTER": ("LSST BUTLER DATAID PHYSICAL_FILTER", "LSST BUTLER DATAID BAND"),
}
"""Cards of LSST's butler that state what the camera's own card does, where an image has lost that."""

FIRST_WITH_CCD = 10_000_000
"""Smallest EXPID that ends in the number of the CCD, as before 2020; since then it is the exposure number."""

POSITIONS = {CCDS[ccd].detpos: ccd for ccd in SCIENCE_CCDS}
"""Position in the camera to the number of the science CCD."""

TRIMMED = (NY - 2, NX - 2)
"""Size of the images of the Community Pipeline, which leaves out a pixel on every side."""

PLACE_DEG, ANGLE_DEG, SCALE = 0.05, 3.0, 0.03
"""Largest distance of an image from the place of its CCD, largest angle between its axes and the CCD's, and largest
relative difference of the pixel scale."""

GAIN_OF_COUNTS = 1.5
"""Amplifier gain above which pixels may be in counts; those of the camera are 3.5 to 4.4, that of electrons is 1."""

SAME_TIME_S = 3.0
"""Largest difference of two times of one exposure, seconds: the shutter's start is stated to half a second."""


@dataclass(frozen=True, slots=True)
class ForeignCcd:
    """What an image of another pipeline shows.

    Attributes
    ----------
    form
        Pipeline and its version, such as ``Community Pipeline V4.8.2``.
    exposure
        The exposure, its start in UTC.
    ccd
        CCD number.
    corner
        (x, y) of its first pixel on the CCD, 0-based; None for a part of a CCD whose place on it is not known.
    first_mjd
        Time of the first exposure of a stack on the sky, MJD UTC; None for an image of one exposure.
    """

    form: str
    exposure: Exposure
    ccd: int
    corner: tuple[int, int] | None
    first_mjd: float | None = None


@dataclass(frozen=True, eq=False)
class ImageHead:
    """What the header of an image says, without its pixels.

    Attributes
    ----------
    header
        Keywords of the primary HDU and of the image's.
    shape
        (ny, nx) of the pixels.
    wcs
        World coordinates.
    has_des_planes
        Whether the planes of the file are those of the Dark Energy Survey, and of this project: SCI, MSK, WGT.
    label
        Name for messages.
    """

    header: Mapping[str, Any]
    shape: tuple[int, int]
    wcs: ImageWcs
    has_des_planes: bool
    label: str

    @classmethod
    def of(cls, loaded: LoadedImage) -> Self:
        """Return the head of an image that has been read."""
        ny, nx = loaded.science.shape
        return cls(loaded.header, (ny, nx), loaded.wcs, loaded.is_own_product, loaded.label)


def identify(head: ImageHead) -> ForeignCcd:
    """Return exposure, CCD and place of an image.

    Parameters
    ----------
    head
        What its header says.

    Raises
    ------
    InputError
        If it is not of this camera, not of a known form, lacks a card, contradicts itself, or was resampled.
    """
    header = head.header
    form, is_lsst = _form(header, head)
    exposure = _exposure(header, head.label, is_lsst=is_lsst)
    ccd = _ccd(header, head.label, is_lsst=is_lsst)
    _require_place(head, exposure, ccd)
    return ForeignCcd(form, exposure, ccd, _corner(header, head.shape))


def _form(header: Mapping[str, Any], head: ImageHead) -> tuple[str, bool]:
    """Return the form, and whether it is one of LSST."""
    camera = f"{header.get('INSTRUME', '')} {header.get('DTINSTRU', '')}".strip()
    is_lsst_stack = not camera and any(key in header for key in LSST_CARDS)
    if is_lsst_stack or ("TILENAME" in header and "EXPNUM" not in header):
        raise InputError(
            "a stack of this survey is not imported",
            value=f"{'LSST' if is_lsst_stack else 'Dark Energy Survey'}: {head.label}",
            limit="stacks of the Legacy Surveys, Pan-STARRS, SkyMapper, the Community Pipeline",
            remedy="import its exposures (calexp or visit image, _immasked), or use gw-workflow difference-images",
        )
    if "decam" not in camera.lower():
        raise InputError("image of another camera", value=f"INSTRUME {camera!r} of {head.label}", limit="DECam")
    version = str(header.get("PLVER", "")).strip()
    if any(key in header for key in LSST_CARDS):
        return "LSST", True
    if head.has_des_planes:
        _require_unit(head)
        return "DES", False
    if version:
        return f"Community Pipeline {version}", False
    raise InputError(
        "the pipeline that calibrated the image is not known",
        value=head.label,
        limit="Community Pipeline (PLVER), DES (SCI, MSK, WGT), LSST (VISIT or EXPID)",
        remedy="gw-workflow difference-images takes images of any pipeline",
    )


def _require_unit(head: ImageHead) -> None:
    """Raise if an image with the planes of the Dark Energy Survey may be in counts: its early releases are."""
    gain = positive(head.header, "GAINA") or 1.0
    if gain > GAIN_OF_COUNTS and not str(head.header.get("BUNIT") or "").strip():
        raise InputError(
            "the header does not state the unit of the pixels",
            value=f"no BUNIT, GAINA {gain:g} of {head.label}",
            limit="electrons or adu",
            remedy="write BUNIT into the header",
        )


def _exposure(header: Mapping[str, Any], label: str, *, is_lsst: bool) -> Exposure:
    """Return the exposure, with its start in UTC."""
    cards = {"OBSTYPE": "object"} | dict(header)
    for key, other in (("TELRA", "BORE-RA"), ("TELDEC", "BORE-DEC"), ("AIRMASS", "BORE-AIRMASS")):
        if is_lsst and other in header:
            cards.setdefault(key, header[other])
    if is_lsst:
        for key, others in BUTLER_CARDS.items():
            found = [header[other] for other in others if header.get(other)]
            if found and not str(cards.get(key) or "").strip():
                cards[key] = found[0]
        if "EXPNUM" not in cards:
            number = int(positive(header, "EXPID") or 0)
            cards["EXPNUM"] = (number // 100 if number >= FIRST_WITH_CCD else number) or None
    mjd = _start_mjd(cards, label)
    exposure = exposure_from_header(cards | {"MJD-OBS": mjd}, label)
    band_named(exposure.band)
    stated = str(header.get("BAND") or exposure.band).strip()
    if stated != exposure.band:
        raise InputError("the header states two bands", value=f"FILTER {exposure.band}, BAND {stated} of {label}")
    if exposure.obstype.lower() != "object":
        raise InputError("the image is not of the sky", value=f"OBSTYPE {exposure.obstype} of {label}", limit="object")
    return replace(exposure, obstype="object")


def _start_mjd(cards: Mapping[str, Any], label: str) -> float:
    """Return the start of the exposure, MJD UTC.

    LSST writes the middle of the exposure in TAI (DATE-AVG), beside dates that it has taken over as they were.
    """
    scale = str(cards.get("TIMESYS") or "UTC").strip().upper()
    if scale not in ("UTC", "TAI"):
        raise InputError("time scale not understood", value=f"TIMESYS {scale!r} of {label}", limit="UTC or TAI")
    stated = positive(cards, "MJD-OBS")
    if scale == "UTC" or "DATE-AVG" not in cards:
        if stated is None:
            raise InputError("the header lacks the time", value=f"MJD-OBS = {cards.get('MJD-OBS')!r} of {label}")
        return stated if scale == "UTC" else float(Time(stated, format="mjd", scale="tai").utc.mjd)
    try:
        middle = Time(str(cards["DATE-AVG"]), scale="tai")
    except ValueError as error:
        raise InputError("date not understood", value=f"DATE-AVG {cards['DATE-AVG']!r} of {label}") from error
    half = (positive(cards, "EXPTIME") or 0.0) / 2 / 86400.0
    start = float(middle.utc.mjd) - half
    in_tai = float(middle.mjd) - half
    if stated is not None and min(abs(stated - start), abs(stated - in_tai)) * 86400.0 > SAME_TIME_S:
        value = f"MJD-OBS {stated:.6f}, DATE-AVG {cards['DATE-AVG']} (TAI) of {label}"
        raise InputError("the header states two times", value=value, limit=f"{SAME_TIME_S:g} s")
    return start


def _ccd(header: Mapping[str, Any], label: str, *, is_lsst: bool) -> int:
    """Return the CCD number: of LSST's own card or, in other forms, of CCDNUM, DETPOS and EXTNAME, which must agree."""
    own = str(header.get("DETNAME", "")).strip()
    if is_lsst and own in POSITIONS:
        return POSITIONS[own]
    found = {}
    number = positive(header, "CCDNUM")
    if number is not None:
        found[f"CCDNUM {number:g}"] = int(number)
    for key in ("DETPOS", "EXTNAME"):
        position = str(header.get(key, "")).strip()
        if position in POSITIONS:
            found[f"{key} {position}"] = POSITIONS[position]
    if len(set(found.values())) > 1:
        raise InputError("the header states two CCDs", value=f"{', '.join(found)} of {label}")
    ccd = next(iter(found.values()), 0)
    if ccd not in SCIENCE_CCDS:
        raise InputError("the header states no science CCD", value=f"CCDNUM {header.get('CCDNUM')!r} of {label}")
    return ccd


def _require_place(head: ImageHead, exposure: Exposure, ccd: int) -> None:
    """Raise unless the image lies on the sky where its CCD does, with the CCD's pixels."""
    ny, nx = head.shape
    nominal = seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg)
    x, y = np.array([0.0, 1.0, 0.0]) + nx / 2, np.array([0.0, 0.0, 1.0]) + ny / 2
    ra, dec = head.wcs.pixel_to_sky(x, y)
    u, v = nominal.sky_to_pixel(ra, dec)
    margin = PLACE_DEG / abs(nominal.cd[0][1])
    if not (-margin < u[0] < NX + margin and -margin < v[0] < NY + margin):
        centre = nominal.pixel_to_sky(NX / 2, NY / 2)
        away = float(separation_deg(float(ra[0]), float(dec[0]), float(centre[0]), float(centre[1])))
        value = f"{away:.2f} deg from the place of CCD {ccd}: {head.label}"
        raise InputError("pointing, coordinates and CCD of the header contradict each other", value=value)
    step = np.array([[u[1] - u[0], u[2] - u[0]], [v[1] - v[0], v[2] - v[0]]])
    angle = math.degrees(math.atan2(step[1, 0], step[0, 0]))
    scale = math.sqrt(abs(float(np.linalg.det(step))))
    if abs(angle) > ANGLE_DEG or abs(scale - 1.0) > SCALE or np.linalg.det(step) < 0.0:
        raise InputError(
            "the image is not in the pixels of its CCD",
            value=f"turned by {angle:.0f} deg, scale {scale:.3f}: {head.label}",
            limit=f"{ANGLE_DEG:g} deg, {SCALE:g}",
            remedy="import the image that was not resampled (Community Pipeline: ooi, not opi or osi)",
        )


def _corner(header: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the first pixel on the CCD of a whole CCD's image; None for a part.

    LTV says it (IRAF's image to detector transformation); images made of those of the Community Pipeline may have lost
    it, and are known by their size.
    """
    if shape == (NY, NX):
        return 0, 0
    if shape == TRIMMED:
        shift = tuple(-round(float(header.get(key) or -1.0)) for key in ("LTV1", "LTV2"))
        if all(0 <= value <= 2 for value in shift):
            return shift[0], shift[1]
    return None


def source_text(form: str, name: str) -> str:
    """Return form and file of an image for headers and tables; text that fits a header card."""
    return re.sub(r"[^ -~]", "?", f"{form}, {name}")[:68]
