"""Units of pixels: photo-electrons per unit and the zero point that the unit defines."""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import astropy.units as u

from imaging.errors import InputError
from imaging.foreign.cards import ABSENT, positive, stated

ZEROPOINT_KEYS = ("MAGZERO", "MAG_ZERO", "MAGZPT0", "ZEROPNT", "ZEROPT", "ZP", "MAGZP", "PHOTZP", "MAGZPT")
ZEROPOINT_LIMITS = (0.0, 50.0)
"""Zero points outside stand for unknown ones, such as 99 and -999."""

ZEROPOINT_TOLERANCE_MAG = 0.02
"""Largest difference between two zero points of a header, or between one and that of a unit of flux."""

AB_ZERO_JY = 3630.78
"""Flux of magnitude zero in the AB system, Jy (Oke & Gunn 1983)."""

FLUX_OF_ZERO = "FLUXMAG0"
"""Card of the Hyper Suprime-Cam and LSST pipelines: counts of a source of magnitude zero."""

HST_ZERO = -21.10 + 18.6921
"""AB magnitude of one unit per second, less -2.5 log10(PHOTFLAM) - 5 log10(PHOTPLAM) (ACS data handbook, 5.1.1)."""

AFW_CARDS = ("AR_HDU", "BORE-RA", "DETECTOR_ID")
"""Cards of the LSST pipelines' images. Without BUNIT these are in counts (until 2024) or in electrons, and keep the
gains of the camera's counts in either case: only the noise shows the gain."""

NANOJANSKY_ZERO, LARGE_UNIT_MAG = 22.5 + 2.5 * math.log10(AB_ZERO_JY), 5.0
"""AB magnitude of one nJy; magnitude of the smallest unit that is large, such as erg/s/cm2/Hz or maggies."""

_COUNTS = {"adu", "adus", "dn", "dns", "du", "count", "counts", "ct", "cts", "cnt", "cnts", "counts(adu)"}
_COUNTS |= {"datanumber", "datanumbers", "digitalnumber", "digitalnumbers", "analogdigitalunit", "analogdigitalunits"}
_ELECTRONS = {
    "electron",
    "electrons",
    "e",
    "e-",
    "elec",
    "elecs",
    "photoelectron",
    "photoelectrons",
    "photons",
    "photon",
}
_SECOND = re.compile(r"(?:/|per)(?:s|sec|second|seconds)$|(?:s|sec)(?:\*\*|\^)?\(?-1\)?$")
_PER_PIXEL = re.compile(r"\s*(?:/|per)\s*pix(?:els?)?(?=$|/)|[ .]?pix(?:els?)?-1$", re.IGNORECASE)
_JANSKY = re.compile(
    r"(?P<scale>.*?)(?P<prefix>micro|nano|milli|mega|[MmunpkGµμ]?)\s?(?:jansky|jy)(?P<per>.*)", re.IGNORECASE
)
_PREFIXES = {"micro": "u", "nano": "n", "milli": "m", "mega": "M", "U": "u", "N": "n", "µ": "u", "μ": "u"}
_MAGGIES = {"nanomaggy": 1e-9, "nanomaggies": 1e-9, "nmgy": 1e-9, "maggy": 1.0, "maggies": 1.0, "mgy": 1.0}


@dataclass(frozen=True, slots=True)
class PixelUnit:
    """What one unit of the pixels is.

    Attributes
    ----------
    gain
        Photo-electrons per unit; None if the header does not say.
    zeropoint_mag
        AB magnitude of one unit; None if the header does not say.
    factor
        By which pixels are multiplied to have this unit: a large one, in which squares of pixels are too small for
        single precision, is replaced by nJy.
    """

    gain: float | None
    zeropoint_mag: float | None
    factor: float = 1.0


def pixel_unit(
    header: Mapping[str, Any],
    pixel_area_arcsec2: float,
    *,
    own: bool = False,
    gain: float | None = None,
    zeropoint_mag: float | None = None,
) -> PixelUnit:
    """Derive gain and zero point from BUNIT, GAIN, EXPTIME and the zero point of a header.

    Pixels in counts have the header's gain, in electrons a gain of one whatever GAIN says, because GAIN is per count;
    per second, the exposure time multiplies. A unit of flux (nanomaggy, Jy, MJy/sr) defines the zero point, and only
    the noise shows the gain.

    Parameters
    ----------
    header
        Keywords of the image.
    pixel_area_arcsec2
        Area of a pixel on the sky, for surface brightness.
    own
        Whether the planes are those of this project and of DES: GAIN is per unit, unless BUNIT says counts.
    gain, zeropoint_mag
        Values of the user, which override the header.

    Raises
    ------
    InputError
        If the unit, the zero point or their combination is not understood.
    """
    text = str(header.get("BUNIT") or "").strip().removeprefix("[").removesuffix("]").strip()
    if own and text.lower() not in _COUNTS:
        zero = zeropoint_mag or _stated_zeropoint(header, per_second=False)
        return PixelUnit(gain or positive(header, "GAIN") or 1.0, zero)
    name = _PER_PIXEL.sub("", text.lower().replace(" ", "").replace("'", "").replace("cps", "ct/s"))
    per_second = _SECOND.search(name) is not None and name not in _COUNTS | _ELECTRONS
    base = _SECOND.sub("", name).rstrip("*. ") if per_second else name
    zero = zeropoint_mag if zeropoint_mag is not None else _stated_zeropoint(header, per_second=per_second)
    if name in ABSENT or base in _COUNTS or base in _ELECTRONS:
        return PixelUnit(gain or _count_gain(header, base in _ELECTRONS, per_second), zero)
    jansky = _flux_jy(text, header, pixel_area_arcsec2)
    if jansky is None:
        if gain is not None and zeropoint_mag is not None:
            return PixelUnit(gain, zeropoint_mag)
        raise InputError(
            "BUNIT of the header is not understood",
            value=repr(text),
            limit="counts, electrons (also per second), nanomaggy, Jy with a prefix, MJy/sr",
            remedy="give the gain and the zero point with --gain and --zeropoint, or their twins for templates",
        )
    flux_zero = -2.5 * math.log10(jansky / AB_ZERO_JY)
    if zeropoint_mag is None and zero is not None and abs(zero - flux_zero) > ZEROPOINT_TOLERANCE_MAG:
        raise InputError(
            "the zero point of the header contradicts BUNIT",
            value=f"{zero:g}, {text}",
            limit=f"{flux_zero:.3f}",
            remedy="give the right one with --zeropoint or --template-zeropoint",
        )
    return _flux_unit(flux_zero, gain, zeropoint_mag)


def _flux_unit(flux_zero: float, gain: float | None, zeropoint_mag: float | None) -> PixelUnit:
    """Return a unit of flux of some zero point, where that is large nJy instead."""
    zero = zeropoint_mag if zeropoint_mag is not None else flux_zero
    factor = 10.0 ** (0.4 * (NANOJANSKY_ZERO - flux_zero)) if flux_zero < LARGE_UNIT_MAG else 1.0
    return PixelUnit(gain and gain / factor, zero + 2.5 * math.log10(factor), factor)


def _count_gain(header: Mapping[str, Any], electrons: bool, per_second: bool) -> float | None:
    """Return the electrons per unit of pixels in counts or electrons; None if a card is missing."""
    seconds = positive(header, "EXPTIME") if per_second else 1.0
    gain = 1.0 if electrons else _header_gain(header)
    return None if seconds is None or gain is None else gain * seconds


def _header_gain(header: Mapping[str, Any]) -> float | None:
    """Return the gain of the header; None if there is none, or it may not be that of the pixels."""
    if str(header.get("BUNIT") or "").strip().lower() in ABSENT and any(key in header for key in AFW_CARDS):
        return None
    amplifiers = [g for g in (positive(header, "GAINA"), positive(header, "GAINB")) if g is not None]
    if amplifiers:
        return sum(amplifiers) / len(amplifiers)
    return next((g for key in ("EGAIN", "GAIN", "ARAWGAIN") if (g := positive(header, key)) is not None), None)


def _stated_zeropoint(header: Mapping[str, Any], *, per_second: bool) -> float | None:
    """Return the zero point of a header; of two, one of which is per second, that of the pixels.

    Raises
    ------
    InputError
        If it is not understood, or if there are two that contradict each other.
    """
    remedy = "correct the card, or give --zeropoint or --template-zeropoint"
    zeros: dict[str, float] = {}
    for key in ZEROPOINT_KEYS:
        try:
            zero = stated(header, (key,), ZEROPOINT_LIMITS, remedy)
        except InputError:
            if not zeros:
                raise
            continue
        zeros |= {} if zero is None else {key: zero}
    flux, seconds = positive(header, FLUX_OF_ZERO), positive(header, "EXPTIME")
    exposure_mag = math.nan if seconds is None else 2.5 * math.log10(seconds)
    zeros |= {} if flux is None else {FLUX_OF_ZERO: 2.5 * math.log10(flux)}
    flam, pivot = positive(header, "PHOTFLAM"), positive(header, "PHOTPLAM")
    if flam is not None and pivot is not None and (per_second or seconds is not None):
        per_s = -2.5 * math.log10(flam) - 5.0 * math.log10(pivot) + HST_ZERO
        zeros["PHOTFLAM"] = per_s if per_second else per_s + exposure_mag
    if not zeros:
        return None
    (first, zero), *others = zeros.items()
    for key, other in others:
        apart = abs(other - zero)
        if abs(apart - abs(exposure_mag)) <= ZEROPOINT_TOLERANCE_MAG < apart:
            zero = min(zero, other) if per_second == (exposure_mag > 0) else max(zero, other)
        elif apart > ZEROPOINT_TOLERANCE_MAG:
            value, limit = f"{first} {zero:g}, {key} {other:.4g}", f"{ZEROPOINT_TOLERANCE_MAG:g} mag apart"
            raise InputError("two zero points of the header contradict", value=value, limit=limit, remedy=remedy)
    return zero


def _flux_jy(text: str, header: Mapping[str, Any], pixel_area_arcsec2: float) -> float | None:
    """Return the flux of one unit in Jy, None if it is no unit of flux."""
    scale, _, name = _PER_PIXEL.sub("", text).strip().rpartition(" ")
    if name.lower() in _MAGGIES:
        try:
            factor = float(u.Unit(scale or "", parse_strict="silent").decompose().scale) if scale else 1.0
        except (ValueError, TypeError, u.UnitsError):
            return None
        return _MAGGIES[name.lower()] * factor * AB_ZERO_JY
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)  # several slashes
            unit = u.Unit(_jansky(_PER_PIXEL.sub("", text)), parse_strict="silent")
        if unit.is_equivalent(u.Jy):
            return float(unit.to(u.Jy))
        if unit.is_equivalent(u.Jy / u.sr):
            area = (positive(header, "PIXAR_SR") or pixel_area_arcsec2 / 206264.806247**2) * u.sr
            return float((1.0 * unit * area).to_value(u.Jy))
    except (ValueError, TypeError, u.UnitsError):
        return None
    return None


def _jansky(text: str) -> str:
    """Return a unit with its jansky in astropy's letters; empty where milli and mega cannot be told apart."""
    match = _JANSKY.fullmatch(text)
    if match is None:
        return text
    prefix, per = match["prefix"], match["per"].replace("SR", "sr")
    one_case = text in (text.upper(), text.lower())
    if prefix in ("m", "M") and one_case and not (text.isupper() and "sr" in per):
        return ""
    prefix = _PREFIXES.get(prefix if len(prefix) < 2 else prefix.lower(), prefix)
    return f"{match['scale']}{prefix}Jy{per}"
