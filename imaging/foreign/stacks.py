"""Which patch of the sky a stack of a survey is: survey, band, time of its exposures, pixel grid.

Forms: bricks of the Legacy Surveys (Dey et al. 2019, AJ 157, 168; cards as ``legacypipe.coadds`` writes them), skycells
of Pan-STARRS (Waters et al. 2020, ApJS 251, 4), SkyMapper (Wolf et al. 2018, PASA 35, 10), and stacks of the Community
Pipeline (DECam data handbook). What a header states twice must agree.
"""

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.time import Time

from imaging.bands import BANDS, band_of_filter
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.errors import InputError
from imaging.exposure import Exposure, night_of
from imaging.foreign.cards import positive
from imaging.foreign.identity import ForeignCcd, ImageHead, identify
from imaging.identity import FIRST_STACK
from imaging.templates.psf import pixel_matrix
from imaging.wcs.sphere import footprint, separation_deg
from imaging.wcs.tpv import N_TERMS, TpvWcs

LEGACY, PAN_STARRS, SKYMAPPER = "Legacy Surveys", "Pan-STARRS", "SkyMapper"
COMMUNITY = "Community Pipeline stack"

BANDS_OF = {LEGACY: tuple("grizY"), PAN_STARRS: tuple("griz"), SKYMAPPER: tuple("griz"), COMMUNITY: tuple(BANDS)}
"""Bands of a survey that are near enough to the camera's of that name."""

BAND_OF_NAME = re.compile(r"(?:-image-|\.stk\.|_osi_)([A-Za-z]+)[._-]")
"""The band in the name of a file."""

SKY_GRIDS = ("HPX", "XPH", "AIT", "MOL", "CAR", "CEA", "TSC", "CSC", "QSC")
"""Projections of the whole sky, whose pixels have other shapes than those of a tangent plane."""

SCALE_ARCSEC, MAX_DISTORTION = (0.1, 0.6), 0.03
"""Pixel scales that resampling takes, arcsec: coarser ones do not sample the seeing; largest departure from squares."""

RADIUS_DEG = 0.45
"""Largest distance of the corner of a stack from its middle, degrees, within which reference stars are read."""

MAX_IMAGES = 62
"""Largest number of images in the file of one stack: they are numbered like the CCDs of an exposure."""

SPAN_DAYS = 365.0
"""Time before and after the only one that a header states within which exposures of a stack may have been taken."""

RINGS = (54984.0, 56748.0)
"""First and last night of the survey of which the tessellation RINGS.V3 is, MJD (Chambers et al. 2016, 1612.05560)."""

UNKNOWN_EXPTIME_S = 1.0
"""Exposure time of a stack that states none: its pixels are fluxes."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """Survey, patch and band of a stack, and the first and last time of its exposures, MJD UTC."""

    survey: str
    patch: str
    band: str
    times: tuple[float, float]


def survey_of(header: Mapping[str, Any]) -> str | None:
    """Return the survey of whose stacks a header is; None if it is not one of them.

    Parameters
    ----------
    header
        Keywords of the primary HDU and of the image's.
    """
    origin = " ".join(str(header.get(key, "")) for key in ("TELESCOP", "INSTRUME", "ORIGIN", "DTINSTRU")).lower()
    if "BRICK" in header and "IMTYPE" in header:
        return LEGACY
    if "SKYCELL" in header or "STK_ID" in header:
        return PAN_STARRS
    if "skymapper" in origin:
        return SKYMAPPER
    if str(header.get("PROCTYPE", "")).strip().lower() == "stacked" and "decam" in origin:
        return COMMUNITY
    return None


def identify_any(head: ImageHead, number: int = 1, mjd: tuple[float, float] | None = None) -> ForeignCcd:
    """Return exposure and CCD of an image, or patch and number of a stack.

    Parameters
    ----------
    head
        What its header says.
    number
        Number of the image in its file, if it is a stack; it stands for the CCD number.
    mjd
        Times of the first and last exposure of a stack, given by the user.

    Raises
    ------
    InputError
        If it is not understood.
    """
    return identify(head) if survey_of(head.header) is None else _identify_stack(head, number, mjd)


def dark_sky_flux(band: str, zeropoint_mag: float, pixel_area_arcsec2: float) -> float:
    """Return the flux of the sky without the Moon in a pixel, in units of the zero point.

    Parameters
    ----------
    band
        Band.
    zeropoint_mag
        AB magnitude of one unit.
    pixel_area_arcsec2
        Area of the pixel.
    """
    known = BANDS[band]
    per_area = known.sky_rate_electrons / PIXEL_SCALE_ARCSEC**2
    return per_area * pixel_area_arcsec2 * 10.0 ** (0.4 * (zeropoint_mag - known.zeropoint_rate_mag))


def _identify_stack(head: ImageHead, number: int, mjd: tuple[float, float] | None) -> ForeignCcd:
    header, survey = head.header, str(survey_of(head.header))
    if number > MAX_IMAGES:
        raise InputError("too many images in the file of a stack", value=head.label, limit=MAX_IMAGES)
    _require_image(header, survey, head.label)
    centre = _require_grid(head)
    patch = _patch(header, survey, head.label)
    facts = _Facts(survey, patch, _band(header, survey, head.label), mjd or _times(header, survey, head.label))
    first, last = facts.times
    exposure = Exposure(
        expnum=_number(facts),
        band=facts.band,
        night=night_of(last),
        mjd=last,
        exptime_s=positive(header, "EXPTIME") or UNKNOWN_EXPTIME_S,
        ra_deg=centre[0],
        dec_deg=centre[1],
        airmass=math.nan,
        object_name=patch,
    )
    version = str(header.get("PLVER", "")).strip() if survey == COMMUNITY else ""
    return ForeignCcd(f"{survey} {version}".strip(), exposure, number, None, first)


def _number(facts: _Facts) -> int:
    """Return the number that stands for the exposure number of a stack: ten digits that follow from what it is."""
    text = f"{facts.survey} {facts.patch} {facts.band} {facts.times[1]:.3f}"
    return FIRST_STACK + zlib.crc32(text.encode()) % FIRST_STACK


def _require_image(header: Mapping[str, Any], survey: str, label: str) -> None:
    """Raise for planes that are no image, and for an asinh scale without its cards."""
    kind = str(header.get("IMTYPE" if survey == LEGACY else "PRODTYPE", "image")).strip().lower()
    if survey in (LEGACY, COMMUNITY) and kind != "image":
        raise InputError("not the image of a stack", value=f"{kind}: {label}", limit="image")
    if survey == PAN_STARRS and not {"BSOFTEN", "BOFFSET"} <= set(header):
        raise InputError(
            "the header of a stack of Pan-STARRS lacks its asinh scale",
            value=f"no BSOFTEN and BOFFSET in {label}",
            limit="a skycell as the archive has it, not a cut-out",
            remedy="fetch the skycell (*.unconv.fits) with its mask and its variance",
        )


def _require_grid(head: ImageHead) -> tuple[float, float]:
    """Return RA and Dec of the middle, degrees; raise unless the pixels are squares of a size that can be resampled."""
    kind = str(head.header.get("CTYPE1", "")).strip()
    if kind.endswith(SKY_GRIDS) or "HPXFRAME" in head.header or str(head.header.get("PIXTYPE", "")).strip():
        raise InputError(
            "the image is on a grid of the whole sky, such as a HEALPix or HiPS tile",
            value=f"{kind}: {head.label}",
            limit="a stack on a tangent plane",
            remedy="fetch the stack from the archive of its survey",
        )
    (ny, nx), wcs = head.shape, head.wcs
    ra, dec = (float(v) for v in wcs.pixel_to_sky(nx / 2, ny / 2))
    linear = np.zeros((2, N_TERMS))
    linear[:, 1] = 1.0
    north_up = TpvWcs((ra, dec), (1.0, 1.0), np.diag([-1.0, 1.0]) / 3600.0, linear)
    corners = footprint(wcs, nx, ny)
    for x, y in ((nx / 2, ny / 2), (0.0, 0.0), (nx - 1.0, ny - 1.0)):
        long, short = np.linalg.svd(pixel_matrix(wcs, north_up, x, y), compute_uv=False)
        if not (SCALE_ARCSEC[0] < short and long < SCALE_ARCSEC[1]) or long / short - 1.0 > MAX_DISTORTION:
            raise InputError(
                "the pixels of the stack cannot be resampled",
                value=f"{long:.3f} by {short:.3f} arcsec: {head.label}",
                limit=f"squares of {SCALE_ARCSEC[0]:g} to {SCALE_ARCSEC[1]:g} arcsec",
                remedy="give the stack on a tangent plane with its own pixels",
            )
    reach = float(separation_deg(ra, dec, corners[:, 0], corners[:, 1]).max())
    if reach > RADIUS_DEG:
        raise InputError(
            "the stack is too large",
            value=f"{nx} by {ny} pixels: {head.label}",
            limit=f"corners within {RADIUS_DEG:g} deg of the middle",
            remedy="cut it into several images, which may be extensions of one file",
        )
    return ra, dec


def _patch(header: Mapping[str, Any], survey: str, label: str) -> str:
    """Return the name of the patch: brick, skycell, or the name of the file."""
    keys = {LEGACY: ("BRICK",), PAN_STARRS: ("TESS_ID", "SKYCELL")}.get(survey, ())
    words = [str(header.get(key, "")).strip() for key in keys]
    return " ".join(filter(None, words)) or re.sub(r"\.fits.*", "", label)


def _band(header: Mapping[str, Any], survey: str, label: str) -> str:
    """Return the band of the header, which must be that of the file's name and one of this camera."""
    keys = {
        LEGACY: ("FILTERX", "FILTER"),
        PAN_STARRS: ("FPA.FILTER", "FPA.FILTERID", "HIERARCH FPA.FILTER", "HIERARCH FPA.FILTERID"),
    }.get(survey, ("FILTER", "FILTNAME"))
    text = next((str(header[key]) for key in keys if str(header.get(key, "")).strip()), "")
    band = band_of_filter(text.split(".")[0])
    named = BAND_OF_NAME.search(label)
    if named is not None and named[1] != band:
        value = f"{band or 'none'}, {named[1]}: {label}"
        raise InputError("header and name of the file state two bands", value=value, remedy="give the right file")
    if band not in BANDS_OF[survey]:
        raise InputError(
            f"no band of this camera is near this one of {survey}",
            value=f"{band or text!r}: {label}",
            limit=", ".join(BANDS_OF[survey]),
        )
    return band


def _times(header: Mapping[str, Any], survey: str, label: str) -> tuple[float, float]:
    """Return the first and last time of the exposures of a stack, MJD UTC; a year around the only one stated."""
    first, last = (positive(header, key) for key in ("MJD_MIN", "MJD_MAX"))
    if first is not None and last is not None:
        utc = Time([first, last], format="mjd", scale="tai").utc.mjd
        return float(utc[0]), float(utc[1])
    try:
        if "DATEOBS1" in header and "DATEOBS2" in header:
            dates = Time([str(header[key]).strip() for key in ("DATEOBS1", "DATEOBS2")], scale="utc").mjd
            return float(dates[0]), float(dates[1])
        one = positive(header, "MJD-OBS")
        if one is None and str(header.get("DATE-OBS", "")).strip():
            one = float(Time(str(header["DATE-OBS"]).strip(), scale="utc").mjd)
    except ValueError as error:
        raise InputError("date not understood", value=f"{error}: {label}", remedy="give it with --mjd") from error
    if one is None:
        raise InputError(
            "the header does not state when the exposures of the stack were taken",
            value=label,
            remedy="give the first and the last time with --mjd FIRST,LAST",
        )
    if survey == PAN_STARRS and str(header.get("TESS_ID", "")).strip().upper() == "RINGS.V3" and one < RINGS[1]:
        return RINGS
    return one - SPAN_DAYS, one + SPAN_DAYS
