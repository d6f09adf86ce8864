"""The TPV projection: a tangent plane with a polynomial of third order per axis.

Definition: the TPV registered convention (Shupe, Laher, Storrie-Lombardi et al. 2012; the FITS registry of WCS
conventions). Pixel coordinates are 0-based here and 1-based in the FITS keywords.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imaging.errors import InputError

FloatArray = NDArray[np.float64]

N_TERMS = 11
RADIAL_TERM = 3
"""Index of the radial term, which DECam does not use and this class does not support."""

_POWERS = ((0, 0), (1, 0), (0, 1), (0, 0), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))


def tpv_basis(u: FloatArray, v: FloatArray) -> FloatArray:
    """Evaluate the TPV monomials.

    Parameters
    ----------
    u, v
        (n,) intermediate coordinates of this axis and of the other one, degrees.

    Returns
    -------
    basis
        (11, n); the radial term is zero.
    """
    basis = np.stack([u**p * v**q for p, q in _POWERS])
    basis[RADIAL_TERM] = 0.0
    return basis


@dataclass(frozen=True, eq=False)
class TpvWcs:
    """World coordinates of one image in the TPV projection.

    Attributes
    ----------
    crval
        (RA, Dec) of the tangent point, degrees, ICRS.
    crpix
        Tangent point in pixels, 1-based as in FITS.
    cd
        (2, 2) degrees per pixel.
    pv
        (2, 11) polynomial coefficients; ``pv[1]`` takes the second coordinate first.
    """

    crval: tuple[float, float]
    crpix: tuple[float, float]
    cd: FloatArray
    pv: FloatArray

    def __post_init__(self) -> None:
        if np.any(np.asarray(self.pv)[:, RADIAL_TERM] != 0.0):
            raise InputError("the radial TPV term is not supported", value=f"PVi_{RADIAL_TERM} != 0")

    def pixel_to_plane(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Map pixels to the tangent plane.

        Parameters
        ----------
        x, y
            (n,) pixels, 0-based.

        Returns
        -------
        xi, eta
            (n,) standard coordinates, degrees, xi to the east and eta to the north.
        """
        dx = np.asarray(x, dtype=float) + 1.0 - self.crpix[0]
        dy = np.asarray(y, dtype=float) + 1.0 - self.crpix[1]
        u = self.cd[0, 0] * dx + self.cd[0, 1] * dy
        v = self.cd[1, 0] * dx + self.cd[1, 1] * dy
        return _polynomial(self.pv[0], u, v), _polynomial(self.pv[1], v, u)

    def plane_to_pixel(self, xi: ArrayLike, eta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Invert :meth:`pixel_to_plane` by Newton's method, to better than 1e-9 pixel inside an image.

        Parameters
        ----------
        xi, eta
            (n,) standard coordinates, degrees.

        Returns
        -------
        x, y
            (n,) pixels, 0-based.
        """
        xi = np.asarray(xi, dtype=float)
        eta = np.asarray(eta, dtype=float)
        u = (xi - self.pv[0, 0]) / self.pv[0, 1]
        v = (eta - self.pv[1, 0]) / self.pv[1, 1]
        for _ in range(20):
            f, fu, fv = _polynomial_and_slopes(self.pv[0], u, v)
            g, gv, gu = _polynomial_and_slopes(self.pv[1], v, u)
            f, g = f - xi, g - eta
            det = fu * gv - fv * gu
            du, dv = (f * gv - g * fv) / det, (g * fu - f * gu) / det
            u, v = u - du, v - dv
            if not du.size or max(np.max(np.abs(du)), np.max(np.abs(dv))) < 1e-14:
                break
        inverse = np.linalg.inv(self.cd)
        x = inverse[0, 0] * u + inverse[0, 1] * v + self.crpix[0] - 1.0
        y = inverse[1, 0] * u + inverse[1, 1] * v + self.crpix[1] - 1.0
        return x, y

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Map pixels (0-based) to RA and Dec in degrees, RA in [0, 360)."""
        return plane_to_sky(*self.pixel_to_plane(x, y), *self.crval)

    def sky_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Map RA and Dec in degrees to pixels (0-based); NaN for positions behind the tangent plane."""
        return self.plane_to_pixel(*sky_to_plane(ra_deg, dec_deg, *self.crval))

    def pixel_area_arcsec2(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Return the area of pixels on the sky (tangent-plane area; exact to 1e-4 within a DECam field)."""
        dx = np.asarray(x, dtype=float) + 1.0 - self.crpix[0]
        dy = np.asarray(y, dtype=float) + 1.0 - self.crpix[1]
        u = self.cd[0, 0] * dx + self.cd[0, 1] * dy
        v = self.cd[1, 0] * dx + self.cd[1, 1] * dy
        _, fu, fv = _polynomial_and_slopes(self.pv[0], u, v)
        _, gv, gu = _polynomial_and_slopes(self.pv[1], v, u)
        return np.abs((fu * gv - fv * gu) * np.linalg.det(self.cd)) * 3600.0**2

    def shifted(self, dx: float, dy: float) -> Self:
        """Return the coordinate system of the same sky after moving the image's content by (dx, dy) pixels."""
        return type(self)(self.crval, (self.crpix[0] + dx, self.crpix[1] + dy), self.cd, self.pv)

    def to_header(self) -> dict[str, Any]:
        """Return the FITS keywords, in order."""
        cards: dict[str, Any] = {
            "CTYPE1": "RA---TPV",
            "CTYPE2": "DEC--TPV",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "RADESYS": "ICRS",
            "CRVAL1": float(self.crval[0]),
            "CRVAL2": float(self.crval[1]),
            "CRPIX1": float(self.crpix[0]),
            "CRPIX2": float(self.crpix[1]),
        }
        for i in range(2):
            for j in range(2):
                cards[f"CD{i + 1}_{j + 1}"] = float(self.cd[i, j])
        for axis in range(2):
            for term in range(N_TERMS):
                if term != RADIAL_TERM:
                    cards[f"PV{axis + 1}_{term}"] = float(self.pv[axis, term])
        return cards

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Self:
        """Read the keywords of a TPV or plain TAN image.

        Raises
        ------
        InputError
            If the projection is not supported or a keyword is missing or not a number.
        """
        ctype = str(header.get("CTYPE1", "")).strip()
        if ctype not in ("RA---TPV", "RA---TAN"):
            raise InputError("projection not supported", value=repr(ctype), limit="RA---TPV or RA---TAN")
        try:
            crval = (float(header["CRVAL1"]), float(header["CRVAL2"]))
            crpix = (float(header["CRPIX1"]), float(header["CRPIX2"]))
            cd = np.array([[float(header.get(f"CD{i}_{j}", 0.0)) for j in (1, 2)] for i in (1, 2)])
            pv = np.zeros((2, N_TERMS))
            pv[:, 1] = 1.0
            if ctype == "RA---TPV":
                for axis in range(2):
                    for term in range(N_TERMS):
                        pv[axis, term] = float(header.get(f"PV{axis + 1}_{term}", 1.0 if term == 1 else 0.0))
            if not (np.isfinite([*crval, *crpix]).all() and np.isfinite(pv).all()):
                raise ValueError("not finite")
            if not (abs(crval[0]) <= 720.0 and abs(crval[1]) <= 90.0):
                raise ValueError(f"CRVAL {crval[0]:g}, {crval[1]:g} is no place on the sky")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("coordinate keyword missing or not a number", value=error) from error
        if not np.isfinite(np.linalg.det(cd)) or np.linalg.det(cd) == 0.0:
            raise InputError("the CD matrix of the header is singular", value=cd.tolist())
        return cls(crval, crpix, cd, pv)


def plane_to_sky(xi: ArrayLike, eta: ArrayLike, ra0_deg: float, dec0_deg: float) -> tuple[FloatArray, FloatArray]:
    """Project standard coordinates (degrees) back to RA in [0, 360) and Dec, degrees."""
    xi = np.radians(np.asarray(xi, dtype=float))
    eta = np.radians(np.asarray(eta, dtype=float))
    sin0, cos0 = np.sin(np.radians(dec0_deg)), np.cos(np.radians(dec0_deg))
    denominator = cos0 - eta * sin0
    ra = ra0_deg + np.degrees(np.arctan2(xi, denominator))
    dec = np.degrees(np.arctan2(sin0 + eta * cos0, np.hypot(xi, denominator)))
    return np.mod(ra, 360.0), dec


def sky_to_plane(
    ra_deg: ArrayLike, dec_deg: ArrayLike, ra0_deg: float, dec0_deg: float
) -> tuple[FloatArray, FloatArray]:
    """Project RA and Dec (degrees) to standard coordinates in degrees; NaN beyond 90 degrees."""
    dra = np.radians(np.asarray(ra_deg, dtype=float) - ra0_deg)
    dec = np.radians(np.asarray(dec_deg, dtype=float))
    sin0, cos0 = np.sin(np.radians(dec0_deg)), np.cos(np.radians(dec0_deg))
    cos_distance = np.sin(dec) * sin0 + np.cos(dec) * cos0 * np.cos(dra)
    cos_distance = np.where(cos_distance > 0.0, cos_distance, np.nan)
    xi = np.cos(dec) * np.sin(dra) / cos_distance
    eta = (np.sin(dec) * cos0 - np.cos(dec) * sin0 * np.cos(dra)) / cos_distance
    return np.degrees(xi), np.degrees(eta)


def _polynomial(c: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    quadratic = c[4] * u * u + c[5] * u * v + c[6] * v * v
    cubic = u * (u * (c[7] * u + c[8] * v) + c[9] * v * v) + c[10] * v * v * v
    return c[0] + c[1] * u + c[2] * v + quadratic + cubic


def _polynomial_and_slopes(c: FloatArray, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    du = c[1] + 2 * c[4] * u + c[5] * v + 3 * c[7] * u * u + 2 * c[8] * u * v + c[9] * v * v
    dv = c[2] + c[5] * u + 2 * c[6] * v + c[8] * u * u + 2 * c[9] * u * v + 3 * c[10] * v * v
    return _polynomial(c, u, v), du, dv
