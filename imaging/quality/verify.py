"""Verify the final products of a CCD: completeness, consistency, and status good, usable or bad."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.errors import InputError
from imaging.quality.settings import VerifySettings
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.sky.noise import check_noise
from imaging.tables import column
from imaging.wcs.sphere import footprint, separation_deg
from imaging.wcs.tpv import TpvWcs

Status = Literal["good", "usable", "bad"]
ORDER: tuple[Status, ...] = ("good", "usable", "bad")

PLANES = ("SCI", "MSK", "WGT")


@dataclass(frozen=True, slots=True)
class CcdVerification:
    """One problem found in a CCD's products.

    Attributes
    ----------
    status
        Status of a CCD with this problem.
    name
        Short name for tables, such as ``few_stars``.
    text
        Description with the value and its limit.
    """

    status: Status
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on one CCD.

    Attributes
    ----------
    status
        The worst of the findings.
    findings
        Problems found; empty if none.
    numbers
        Measured values: ``masked_fraction``, ``noise_ratio``, ``n_stars``, ``corner_error_arcsec``, ...
    """

    status: Status
    findings: tuple[CcdVerification, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why the CCD is not good; empty if it is."""
        return "; ".join(finding.text for finding in self.findings)


def verify_ccd(
    planes: Mapping[str, NDArray[Any]],
    header: Mapping[str, Any],
    catalogue: pa.Table,
    zeropoint_flags: int | None,
    settings: VerifySettings,
    *,
    shape: tuple[int, int] = (NY, NX),
    part: float = 1.0,
    scale_arcsec: float = PIXEL_SCALE_ARCSEC,
    ignored_bits: int = 0,
) -> Verification:
    """Verify the final products of one CCD.

    Parameters
    ----------
    planes
        Planes of the final image by name: SCI, MSK and WGT, (ny, nx).
    header
        Keywords of the image: coordinates, and the corners RAC1..RAC4 and DECC1..DECC4 (degrees) where present.
    catalogue
        Rows of :data:`imaging.schemas.catalogue.CATALOGUE` of the CCD.
    zeropoint_flags
        Bits of :class:`imaging.schemas.zeropoints.ZeropointFlag`; None if not yet calibrated.
    settings
        Limits.
    shape
        (ny, nx) that the planes must have.
    part
        Share of the CCD that they are; a part needs as many fewer stars.
    scale_arcsec
        Pixel scale that the coordinates must have.
    ignored_bits
        Bits of pixels that are not counted as masked: those outside the part of a stack that has data.
    """
    numbers: dict[str, float] = {}
    findings = list(_check_planes(planes, shape))
    if not any(finding.status == "bad" for finding in findings):
        findings += _check_pixels(planes, settings, numbers, ignored_bits)
    findings += _check_coordinates(header, shape, settings, numbers, scale_arcsec)
    findings += _check_stars(catalogue, settings, numbers, part)
    findings += _check_zeropoint(zeropoint_flags)
    status: Status = max((finding.status for finding in findings), key=ORDER.index, default="good")
    return Verification(status, tuple(findings), numbers)


def _check_planes(planes: Mapping[str, NDArray[Any]], shape: tuple[int, int]) -> Iterator[CcdVerification]:
    for name in PLANES:
        if name not in planes:
            yield CcdVerification("bad", "missing_plane", f"plane {name} is missing")
        elif planes[name].shape != shape:
            yield CcdVerification(
                "bad", "wrong_shape", f"plane {name} has shape {planes[name].shape} instead of {shape}"
            )
    if set(PLANES) <= set(planes):
        weight = planes["WGT"]
        if not np.all(np.isfinite(weight)) or weight.min(initial=0.0) < 0:
            yield CcdVerification("bad", "bad_weight", "weights are negative or not finite")
        elif weight.shape == planes["SCI"].shape:
            unknown = int(np.count_nonzero(~np.isfinite(planes["SCI"]) & (weight > 0)))
            if unknown:
                yield CcdVerification("bad", "not_finite", f"{unknown} pixels with weight are not finite")


def _check_pixels(
    planes: Mapping[str, NDArray[Any]], settings: VerifySettings, numbers: dict[str, float], ignored_bits: int
) -> Iterator[CcdVerification]:
    without = planes["WGT"] <= 0
    masked = float(np.mean(without[(planes["MSK"] & ignored_bits) == 0] if ignored_bits else without))
    numbers["masked_fraction"] = masked
    for status, limit in _levels(bad=settings.masked_bad, usable=settings.masked_usable):
        if masked > limit:
            yield CcdVerification(status, "masked", f"fraction of pixels without weight {masked:.2f} above {limit:.2f}")
            break
    ratio = check_noise(planes["SCI"], planes["WGT"], planes["MSK"]).ratio
    numbers["noise_ratio"] = ratio
    if np.isnan(ratio):
        yield CcdVerification("bad", "no_sky", "no unmasked sky pixels")
        return
    for status, limit in _levels(bad=settings.noise_bad, usable=settings.noise_usable):
        if abs(ratio - 1.0) > limit:
            text = f"noise over prediction {ratio:.3f}, more than {limit:g} from one"
            yield CcdVerification(status, "noise", text)
            break


def _check_coordinates(
    header: Mapping[str, Any],
    shape: tuple[int, int],
    settings: VerifySettings,
    numbers: dict[str, float],
    scale_arcsec: float,
) -> Iterator[CcdVerification]:
    ny, nx = shape
    try:
        wcs = TpvWcs.from_header(header)
    except InputError as error:
        yield CcdVerification("bad", "no_wcs", f"no WCS: {error.problem}")
        return
    corners = footprint(wcs, nx, ny)
    area = wcs.pixel_area_arcsec2([0.0, nx / 2, nx - 1.0], [0.0, ny / 2, ny - 1.0])
    x, y = wcs.sky_to_pixel(corners[:, 0], corners[:, 1])
    scale = np.sqrt(area)
    if not np.all(np.isfinite(corners)) or not np.all(np.isfinite(scale)):
        yield CcdVerification("bad", "no_wcs", "coordinates are not finite")
        return
    numbers["scale_error"] = departure = float(np.max(np.abs(scale / scale_arcsec - 1.0)))
    if departure > settings.scale_tolerance:
        yield CcdVerification(
            "bad", "wcs_scale", f"pixel scale off by {departure:.3f}, more than {settings.scale_tolerance:g}"
        )
    wander = float(np.max(np.hypot(x - [-0.5, nx - 0.5, nx - 0.5, -0.5], y - [-0.5, -0.5, ny - 0.5, ny - 0.5])))
    if not wander < 0.01:
        yield CcdVerification("bad", "wcs_inverse", f"WCS inversion error {wander:.3g} pixels")
    stated = _stated_corners(header)
    if stated is not None:
        distance = separation_deg(stated[:, None, 0], stated[:, None, 1], corners[None, :, 0], corners[None, :, 1])
        numbers["corner_error_arcsec"] = float(distance.min(axis=1).max() * 3600.0)
        if not numbers["corner_error_arcsec"] <= settings.corner_tolerance_arcsec:
            text = f"corners in the header off by {numbers['corner_error_arcsec']:.1f} arcsec"
            yield CcdVerification("bad", "wcs_corners", f"{text}, more than {settings.corner_tolerance_arcsec:g}")


def _stated_corners(header: Mapping[str, Any]) -> NDArray[np.float64] | None:
    keys = [(f"RAC{i}", f"DECC{i}") for i in range(1, 5)]
    if not all(ra in header and dec in header for ra, dec in keys):
        return None
    try:
        return np.array([[float(header[ra]), float(header[dec])] for ra, dec in keys])
    except (TypeError, ValueError):
        return np.full((4, 2), np.nan)


def _check_stars(
    catalogue: pa.Table, settings: VerifySettings, numbers: dict[str, float], part: float
) -> Iterator[CcdVerification]:
    flux, error = column(catalogue, "flux_psf"), column(catalogue, "flux_psf_error")
    stars = np.abs(column(catalogue, "spread_model")) < settings.star_spread_model
    stars &= (column(catalogue, "flags") == 0) & (flux > settings.star_min_snr * error)
    n = int(np.count_nonzero(stars))
    numbers["n_stars"] = n
    for status, limit in _levels(bad=settings.min_stars_bad * part, usable=settings.min_stars_usable * part):
        if n < limit:
            yield CcdVerification(status, "few_stars", f"{n} point sources, fewer than {limit:g}")
            break


def _check_zeropoint(flags: int | None) -> Iterator[CcdVerification]:
    if flags is None:
        return
    if flags & ZeropointFlag.UNCALIBRATED:
        yield CcdVerification("bad", "uncalibrated", "no zero point: no reference stars for this band or field")
    for flag, text in (
        (ZeropointFlag.TOO_FEW_STARS, "zero point from the exposure: too few stars in the CCD"),
        (ZeropointFlag.OUTLIER, "zero point from the exposure: the CCD's own is an outlier"),
        (ZeropointFlag.MANY_OUTLIERS, "zero points of the exposure disagree: too many outliers"),
    ):
        if flags & flag:
            yield CcdVerification("usable", f"zeropoint_{flag.name.lower() if flag.name else ''}", text)


def _levels(*, bad: float, usable: float) -> tuple[tuple[Status, float], ...]:
    return (("bad", bad), ("usable", usable))
