"""Celestial coordinates of other programs: the fast TPV class where it is exact, else astropy's WCS."""

import math
import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import FK5, ICRS, BaseCoordinateFrame, CartesianRepresentation, SkyCoord
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS, NoConvergence, WcsError
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray

from imaging.errors import InputError
from imaging.wcs.sphere import unit_vectors
from imaging.wcs.tpv import N_TERMS, RADIAL_TERM, TpvWcs

FloatArray = NDArray[np.float64]

NODES = 15
"""Points along each axis of an image at which its coordinates must be defined and invert."""

MAX_ERROR_PIXELS = 0.01
"""Largest difference after mapping to the sky and back; images are aligned to better than 0.05 pixel."""

NOT_READ = ("CPDIS", "CQDIS", "D2IMDIS", "AXISCORR", "PCA1X", "PCA2X", "WAT0_", "WAT1_", "WAT2_")
"""Cards of distortions that are in other extensions, in polynomials of Pan-STARRS or in strings of IRAF, by how they
begin."""

_WCS_CARD = re.compile(
    r"(?:C(?:TYPE|RVAL|RPIX|UNIT|DELT|ROTA|NAME|RDER|SYER)\d|(?:CD|PC|PV|PS)\d+_\d+|PC00\d00\d"
    r"|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d_\d)|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|WCSAXES|MJD-OBS|DATE-OBS"
    r"|(?:CPDIS|CQDIS|D2IMDIS)\d|AXISCORR|PCA\dX\dY\d|WAT\d_\d+|(?:DP|DQ)\d.*)$"
)

_NUMBER = re.compile(
    r"(?:C(?:RVAL|RPIX|DELT|ROTA)\d|(?:CD|PC|PV)\d+_\d+|PC00\d00\d|(?:A|B|AP|BP)_(?:ORDER|\d_\d)|LONPOLE|LATPOLE)$"
)
"""Cards of numbers. Where one is a text, astropy reads zero."""

_SIP_TERM = re.compile(r"(A|B)_\d_\d$")

SYSTEMS = {"ICRF": ("ICRS", None), "J2000": ("FK5", 2000.0), "B1950": ("FK4", 1950.0)}
"""Names of reference systems that are none of the FITS standard, and what they mean."""

_CD = re.compile(r"CD\d_\d$")

_UNUSUAL = re.compile(r"(?:PC\d+_\d+|PC00\d00\d|(?:A|B|AP|BP)_(?:ORDER|\d_\d)|RADECSYS|LATPOLE|CROTA\d|PS\d_\d+)$")


class AstropyWcs:
    """World coordinates of one image by astropy, in ICRS.

    Parameters
    ----------
    cards
        Keywords of the coordinates.
    """

    def __init__(self, cards: Mapping[str, Any]) -> None:
        self._cards = dict(cards)
        self._wcs = _astropy_wcs(self._cards)
        self._frame = _frame(self._wcs)

    @cached_property
    def _order(self) -> tuple[int, int]:
        """Index of RA and of Dec among the axes."""
        return int(self._wcs.wcs.lng), int(self._wcs.wcs.lat)

    @cached_property
    def _rotation(self) -> FloatArray | None:
        """Matrix from the frame to ICRS; None for FK4, whose aberration is no rotation."""
        if not isinstance(self._frame, FK5):
            return None
        axes = SkyCoord(CartesianRepresentation(np.eye(3)), frame=self._frame)
        return np.asarray(axes.icrs.cartesian.xyz.value)

    def _turned(self, ra: FloatArray, dec: FloatArray, *, to_icrs: bool) -> tuple[FloatArray, FloatArray]:
        """Turn RA and Dec in degrees from the frame to ICRS, or back."""
        if isinstance(self._frame, ICRS):
            return ra, dec
        if self._rotation is not None:  # without astropy's machinery of frames, 4 ms a call
            xyz = np.moveaxis(unit_vectors(ra, dec), -1, 0)
            x, y, z = np.tensordot(self._rotation if to_icrs else self._rotation.T, xyz, axes=1)
            turned = np.mod(np.degrees(np.arctan2(y, x)), 360.0), np.degrees(np.arctan2(z, np.hypot(x, y)))
            return turned[0].reshape(ra.shape), turned[1].reshape(ra.shape)
        frames = (self._frame, ICRS()) if to_icrs else (ICRS(), self._frame)
        sky = SkyCoord(ra * u.deg, dec * u.deg, frame=frames[0]).transform_to(frames[1])
        return sky.spherical.lon.deg, sky.spherical.lat.deg

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Map pixels (0-based) to RA and Dec in degrees, ICRS, RA in [0, 360); NaN where undefined."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        axes = self._wcs.all_pix2world(x.ravel(), y.ravel(), 0)
        ra, dec = (np.asarray(axes[k], dtype=float).reshape(x.shape) for k in self._order)
        ra, dec = self._turned(ra, dec, to_icrs=True)
        return np.mod(ra, 360.0), dec

    def sky_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Map RA and Dec in degrees, ICRS, to pixels (0-based); NaN for positions outside the projection."""
        ra, dec = np.broadcast_arrays(np.asarray(ra_deg, dtype=float), np.asarray(dec_deg, dtype=float))
        shape = ra.shape
        ra, dec = self._turned(ra, dec, to_icrs=False)
        axes = [ra.ravel(), dec.ravel()] if self._order == (0, 1) else [dec.ravel(), ra.ravel()]
        try:
            found = self._wcs.all_world2pix(*axes, 0, tolerance=1e-7, maxiter=50)
        except NoConvergence as error:
            found = error.best_solution.T.copy()
            for lost in (error.divergent, error.slow_conv):
                if lost is not None:
                    found[:, lost] = np.nan
        x, y = (np.asarray(axis, dtype=float).reshape(shape) for axis in found)
        return x, y

    def pixel_area_arcsec2(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Return the area of pixels on the sky."""
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        ra, dec = self.pixel_to_sky(np.stack([x - 0.5, x + 0.5, x, x]), np.stack([y, y, y - 0.5, y + 0.5]))
        shrink = np.cos(np.radians(dec.mean(axis=0)))
        ax, bx = ((np.mod(ra[k + 1] - ra[k] + 180.0, 360.0) - 180.0) * shrink for k in (0, 2))
        ay, by = (dec[k + 1] - dec[k] for k in (0, 2))
        return np.asarray(np.abs(ax * by - ay * bx) * 3600.0**2)

    def shifted(self, dx: float, dy: float) -> "AstropyWcs":
        """Return the coordinate system of the same sky after moving the image's content by (dx, dy) pixels."""
        moved = {f"CRPIX{axis}": float(self._cards.get(f"CRPIX{axis}", 0.0)) + d for axis, d in ((1, dx), (2, dy))}
        return AstropyWcs(self._cards | moved)

    def to_header(self) -> dict[str, Any]:
        """Return the FITS keywords as they were read."""
        return dict(self._cards)


ImageWcs = TpvWcs | AstropyWcs
"""Coordinates of an image."""


def wcs_of_header(header: Mapping[str, Any], shape: tuple[int, int]) -> ImageWcs:
    """Read celestial coordinates in any projection and frame supported by astropy.

    A header that :class:`imaging.wcs.tpv.TpvWcs` implements exactly is read by it: TPV without the radial and higher
    terms, or plain TAN, with a CD matrix, in ICRS. Every other header is left to astropy.

    Parameters
    ----------
    header
        Keywords of the image's HDU.
    shape
        (ny, nx) of the image.

    Raises
    ------
    InputError
        If the header has no celestial coordinates, or they are undefined or ambiguous on the image.
    """
    if is_exact(header):
        return TpvWcs.from_header(header)
    cards = _with_system(_numbers(wcs_cards(header)))
    _check_supported(cards)
    wcs = AstropyWcs(cards)
    ny, nx = shape
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, NODES), np.linspace(0, ny - 1, NODES)))
    ra, dec = wcs.pixel_to_sky(x, y)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise InputError("the coordinates of the header are undefined on a part of the image", value=header["CTYPE1"])
    error = float(
        np.max(np.hypot(*(np.subtract(a, b) for a, b in zip(wcs.sky_to_pixel(ra, dec), (x, y), strict=True))))
    )
    if not error < MAX_ERROR_PIXELS:
        raise InputError(
            "the coordinates of the header cannot be inverted on the image",
            value=f"{header['CTYPE1']}: {error:.3g} pixel",
            limit=f"{MAX_ERROR_PIXELS:g} pixel",
            remedy="give a smaller cut-out, or refit the coordinates",
        )
    return wcs


def wcs_cards(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cards of a header that describe its coordinates."""
    return {k: v for k, v in header.items() if _WCS_CARD.match(k) and isinstance(v, (bool, int, float, str))}


def is_exact(header: Mapping[str, Any]) -> bool:
    """Return whether :class:`imaging.wcs.tpv.TpvWcs` implements a header exactly.

    Parameters
    ----------
    header
        Keywords of the image's HDU.
    """
    kinds = [str(header.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2)]
    if kinds not in (["RA---TPV", "DEC--TPV"], ["RA---TAN", "DEC--TAN"]):
        return False
    if "LONPOLE" not in header and str(header.get("CRVAL2")).strip().startswith("90"):
        return False  # its default is zero at the pole itself
    system = str(header.get("RADESYS", "")).strip()
    if system != "ICRS" and (system or "EQUINOX" in header or "EPOCH" in header):
        return False
    return any(_CD.match(key) for key in header) and all(_is_usual(k, v, kinds[0]) for k, v in header.items())


def _is_usual(key: str, value: object, kind: str) -> bool:
    """Return whether a card leaves the coordinates within what TpvWcs implements."""
    if key.startswith("CUNIT"):
        return str(value).strip() in ("", "deg")
    if key in ("LONPOLE", "WCSAXES"):
        return value == {"LONPOLE": 180.0, "WCSAXES": 2}[key]
    match = re.fullmatch(r"PV(\d)_(\d+)", key)
    if match:
        known = int(match[1]) <= 2 and int(match[2]) < N_TERMS and int(match[2]) != RADIAL_TERM
        return kind.endswith("TPV") and (known or value == 0)
    return not (_UNUSUAL.match(key) or key.startswith(NOT_READ))


def _numbers(cards: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cards with the numbers that are written as texts; raise if one is none."""
    read = dict(cards)
    for key in cards:
        if _NUMBER.match(key):
            try:
                read[key] = float(cards[key])
            except ValueError:
                read[key] = math.nan
            if not math.isfinite(read[key]):
                raise InputError(
                    f"{key} of the header is no number", value=repr(cards[key]), remedy="correct the coordinates"
                )
            if key.endswith("ORDER"):
                read[key] = int(read[key])
    return read


def _with_system(cards: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cards with reference system and equinox as the FITS standard writes them.

    Raises
    ------
    InputError
        If the equinox is no year and the system needs one.
    """
    read = dict(cards)
    for key in ("RADESYS", "RADECSYS"):
        name = str(read.get(key, "")).strip().upper()
        read |= {key: SYSTEMS.get(name, (name, None))[0]} if name else {}
        if name in SYSTEMS and SYSTEMS[name][1] is not None:
            read["EQUINOX"] = SYSTEMS[name][1]
    for key in ("EQUINOX", "EPOCH"):
        match = re.fullmatch(r"([JB]?)\s*(\d{4}(?:\.\d*)?)", str(read.get(key, "")).strip().upper())
        if key not in read:
            continue
        if match:
            read[key] = float(match[2])
            system = {"J": "FK5", "B": "FK4"}.get(match[1])
            if system and not read.get("RADESYS", read.get("RADECSYS")):
                read["RADESYS"] = system
        elif read.get("RADESYS") == "ICRS" or (key == "EPOCH" and "EQUINOX" in read):
            del read[key]
        else:
            raise InputError(f"{key} of the header is no year", value=repr(read[key]), remedy="correct the coordinates")
    return read


def _check_complete(cards: Mapping[str, Any]) -> None:
    """Raise if a card is missing for which astropy would take zero or one degree per pixel."""
    missing = [key for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2") if key not in cards]
    if not any(re.match(r"CD\d_\d|CDELT\d|PC0*\d", key) for key in cards):
        missing.append("CD1_1")
    terms = {match[1] for key in cards if (match := _SIP_TERM.match(key))}
    missing += [f"{name}_ORDER" for name in sorted(terms) if f"{name}_ORDER" not in cards]
    if cards.get("CROTA1") and not any(key in cards for key in ("CROTA2", "CD1_1", "PC1_1", "PC001001")):
        missing.append("CROTA2")
    if missing:
        value, remedy = ", ".join(missing), "solve the image, or correct the header"
        raise InputError("the coordinates of the header are incomplete", value=f"no {value}", remedy=remedy)


def _check_supported(cards: Mapping[str, Any]) -> None:
    """Raise for coordinates that astropy would read without a part of their distortion."""
    kinds = [str(cards.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2)]
    unread = sorted(k for k, value in cards.items() if k.startswith(NOT_READ) and not k.startswith("WAT0_") and value)
    irafs = [k for k in unread if k.startswith("WAT")]
    if re.search(r"tnx|zpx|lngcor|latcor|projp", "".join(str(cards[k]).lower() for k in irafs)) or any(
        kind.endswith(("TNX", "ZPX")) for kind in kinds
    ):
        irafs = []
    unread = [k for k in unread if k not in irafs]
    if unread or any(kind.endswith(("TNX", "ZPX", "TAB")) for kind in kinds):
        raise InputError(
            "the coordinates of the header have a distortion that is not supported",
            value=", ".join([*kinds, *unread[:3]]),
            limit="a projection of the FITS standard, TPV or SIP",
            remedy="refit the coordinates as TPV or SIP",
        )
    if all("-" in kind for kind in kinds):
        _check_complete(cards)
    matrix = [[cards.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    if any(_CD.match(key) for key in cards):
        if np.linalg.det(matrix) == 0.0:
            raise InputError("the CD matrix of the header is singular", value=matrix)
        if any(re.fullmatch(r"PC\d+_\d+", key) for key in cards):
            _check_matrices(cards)


def _check_matrices(cards: Mapping[str, Any]) -> None:
    """Raise if the CD matrix of a header is not the product of its CDELT and PC."""
    cd, pc = (
        np.array([[cards.get(f"{m}{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)], dtype=float) for m in ("CD", "PC")
    )
    for k in (1, 2):
        pc[k - 1] *= float(cards.get(f"CDELT{k}", 1.0))
    if not np.allclose(cd, pc, rtol=1e-6, atol=1e-6 * np.abs(cd).max()):
        raise InputError(
            "the header has a CD matrix and another PC matrix",
            value=f"CD {cd.tolist()}, CDELT times PC {pc.tolist()}",
            remedy="remove the one that does not hold",
        )


def image_header(primary: Mapping[str, Any], extension: Mapping[str, Any]) -> dict[str, Any]:
    """Join the keywords of a file and of one of its extensions; coordinates are those of one of the two.

    Parameters
    ----------
    primary, extension
        Keywords of both. If the extension has coordinates, those of the primary do not count, except its reference
        system where INHERIT says so.
    """
    joined = dict(primary) | dict(extension)
    if "CTYPE1" not in extension:
        return joined
    frame = ("RADESYS", "RADECSYS", "EQUINOX", "EPOCH")
    inherited = frame if extension.get("INHERIT") is True and not any(k in extension for k in frame) else ()
    own = set(extension) | set(inherited) | {"MJD-OBS", "DATE-OBS"}
    return {key: value for key, value in joined.items() if key in own or not _WCS_CARD.match(key)}


def _astropy_wcs(cards: Mapping[str, Any]) -> WCS:
    header = fits.Header()
    if any(re.fullmatch(r"CD\d_\d", key) for key in cards):  # the FITS standard forbids CDELT and PC beside CD
        cards = {k: v for k, v in cards.items() if not re.fullmatch(r"PC\d+_\d+|CDELT\d|CROTA\d", k)}
    for key, value in cards.items():
        if len(key) <= 8 and value == value:
            header[key] = value
    header["NAXIS"] = 2
    for axis, order in ((1, "A_ORDER"), (2, "B_ORDER")):
        kind = str(header.get(f"CTYPE{axis}", ""))
        if kind.endswith("TPV"):  # its linear terms are one where absent; SIP terms beside it say the same once more
            header.setdefault(f"PV{axis}_1", 1.0)
            header.remove(order, ignore_missing=True)
        elif order in header and len(kind) == 8:  # astropy applies the terms, and says so, without the suffix
            header[f"CTYPE{axis}"] = f"{kind}-SIP"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            wcs = WCS(header).celestial
            wcs.wcs.set()
    except (WcsError, ValueError, KeyError, AssertionError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        value = " ".join(line for line in lines if line and not line.startswith("ERROR"))  # the place in wcslib
        raise InputError("coordinates of the header not understood", value=value) from error
    if sorted(str(name)[:4] for name in wcs.wcs.ctype) not in (["DEC-", "RA--"], ["GLAT", "GLON"]):
        raise InputError(
            "the header has no celestial coordinates in a supported projection",
            value=repr(cards.get("CTYPE1", "")),
            limit="equatorial or galactic ones in a projection supported by astropy",
            remedy="give an image with celestial coordinates",
        )
    return wcs


def _frame(wcs: WCS) -> BaseCoordinateFrame:
    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise InputError(
            "the reference system of the coordinates is not supported",
            value=f"RADESYS {wcs.wcs.radesys!r}, EQUINOX {wcs.wcs.equinox:g}",
            limit="ICRS, FK5, FK4, FK4-NO-E",
            remedy="correct RADESYS and EQUINOX",
        ) from error
