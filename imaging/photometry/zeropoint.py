"""Compute the zero point of one CCD from its matched stars."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.photometry.colours import REFERENCE_COLOUR_MAG
from imaging.photometry.match import MAG_PER_RELATIVE_FLUX
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.transparency import Transparency, fit_transparency
from imaging.tables import column, with_column

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CcdZeropoint:
    """Zero point from a CCD's own stars.

    Attributes
    ----------
    zeropoint_mag
        AB magnitude of a source of one electron; None if there are too few stars.
    zeropoint_error_mag
        Standard error of the zero point, floor and hidden neighbours included; None if there are too few stars.
    scatter_mag
        Weighted rms of the stars about the zero point; None if there are too few stars.
    n_matched, n_used
        Numbers of matched stars and of stars used.
    """

    zeropoint_mag: float | None
    zeropoint_error_mag: float | None
    scatter_mag: float | None
    n_matched: int
    n_used: int


def ccd_zeropoint(matches: pa.Table, settings: PhotometrySettings) -> tuple[CcdZeropoint, NDArray[np.bool_]]:
    """Average the stars' zero points.

    Inverse-variance weights with an intrinsic scatter that makes the reduced chi-square one, clipped first about the
    weighted median, then about the mean. Where hidden neighbours are part of the errors, the zero point's error has the
    change that this part makes: fainter neighbours, which the PSF fit does not show, change it by about as much.

    Parameters
    ----------
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`.
    settings
        Clipping and limits.

    Returns
    -------
    zeropoint
        The CCD's own zero point.
    used
        (n,) bool, matches used.
    """
    used = np.asarray(column(matches, "used"), dtype=bool).copy()
    values = column(matches, "zeropoint_mag").astype(float)
    errors = column(matches, "zeropoint_error_mag").astype(float)
    n_matched = matches.num_rows
    none = CcdZeropoint(None, None, None, n_matched, int(used.sum()))
    if used.sum() < settings.minimum_stars:
        return none, used
    candidates = used.copy()
    centre = float(np.median(values[used]))
    for _ in range(20):
        intrinsic = intrinsic_scatter(values[used] - centre, errors[used])
        total = np.hypot(errors, intrinsic)
        new = candidates & (np.abs(values - centre) < settings.clip_sigma * total)
        if new.sum() < settings.minimum_stars:
            return none, used
        weight = 1.0 / total[new] ** 2
        new_centre = float(np.average(values[new], weights=weight))
        settled = np.array_equal(new, used) and abs(new_centre - centre) < 1e-6
        used, centre = new, new_centre
        if settled:
            break
    standard = 1.0 / np.sqrt(weight.sum())
    without = total[used] ** 2 - column(matches, "blend_error_mag").astype(float)[used] ** 2
    blends = centre - float(np.average(values[used], weights=1.0 / without))
    scatter = float(np.sqrt(np.average((values[used] - centre) ** 2, weights=weight)))
    error = float(np.linalg.norm([standard, settings.error_floor_mag, blends]))
    if error > settings.maximum_error_mag:
        return none, used
    return CcdZeropoint(centre, error, scatter, n_matched, int(used.sum())), used


def solve_ccd(
    matches: pa.Table, shape: tuple[int, int], settings: PhotometrySettings, colour_slope: float = 0.0
) -> tuple[CcdZeropoint, pa.Table, Transparency | None]:
    """Solve the zero point of a CCD and the transparency of thin clouds in front of it.

    Parameters
    ----------
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`.
    shape
        (ny, nx) of the CCD.
    settings
        Clipping, limits, lengths of clouds.
    colour_slope
        See :func:`at_reference_colour`.

    Returns
    -------
    zeropoint
        The zero point of fluxes divided by the transparency, of sources of the reference colour if the slope is known.
    matches
        The matches with the transparency at their places, and ``used`` for those that survived the clipping.
    clouds
        The transparency, whose mean over the CCD is one; None where it does not vary beyond the errors of the stars.
    """
    given = at_reference_colour(matches, colour_slope)
    own, used = ccd_zeropoint(given, settings)
    clouds = _clouds(given, own, shape, settings)
    if clouds is not None:
        places = (column(matches, "x").astype(float), column(matches, "y").astype(float))
        there = clouds.at(*places)[0]
        corrected = column(given, "zeropoint_mag").astype(float) - 2.5 * np.log10(there)
        own, used = ccd_zeropoint(with_column(given, "zeropoint_mag", corrected), settings)
        own = _with_error(own, clouds.mean_error, settings)
        matches = with_column(matches, "transparency", there)
    return own, with_column(matches, "used", used), clouds


def at_reference_colour(matches: pa.Table, colour_slope: float) -> pa.Table:
    """Return matches whose zero points are those of stars of :data:`REFERENCE_COLOUR_MAG`.

    The passbands of the CCDs differ, so that stars of different colours have different zero points on one CCD relative
    to the camera's mean (Li et al. 2016, AJ 151, 157).

    Parameters
    ----------
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`.
    colour_slope
        Change of the CCD's zero point per magnitude of BP - RP relative to the camera's mean, magnitudes; zero where
        it is not known. Stars without a colour are left as they are.
    """
    if colour_slope == 0.0:
        return matches
    redder = column(matches, "colour_mag").astype(float) - REFERENCE_COLOUR_MAG
    values = column(matches, "zeropoint_mag").astype(float) - colour_slope * np.nan_to_num(redder)
    return with_column(matches, "zeropoint_mag", values)


def _with_error(own: CcdZeropoint, relative_error: float, settings: PhotometrySettings) -> CcdZeropoint:
    """Return a zero point with the relative error of the mean transparency, which contains the noise of the stars."""
    if own.zeropoint_error_mag is None:
        return own
    error = float(np.hypot(MAG_PER_RELATIVE_FLUX * relative_error, settings.error_floor_mag))
    return replace(own, zeropoint_error_mag=max(error, own.zeropoint_error_mag))


def _clouds(
    matches: pa.Table, own: CcdZeropoint, shape: tuple[int, int], settings: PhotometrySettings
) -> Transparency | None:
    if own.zeropoint_mag is None or not settings.follow_clouds:
        return None
    star = column(matches, "used").astype(bool)
    names = ("x", "y", "zeropoint_mag", "zeropoint_error_mag")
    x, y, value, error = (column(matches, name)[star].astype(float) for name in names)
    scale = 10 ** (0.4 * (value - own.zeropoint_mag))
    relative_error = 0.4 * np.log(10.0) * error * scale
    lengths, fewest = settings.cloud_scales_pixels, settings.minimum_cloud_stars
    clouds = fit_transparency(x, y, scale - 1.0, relative_error, shape, lengths, fewest)
    return None if clouds is None else clouds.with_mean_one()


def intrinsic_scatter(deviations: FloatArray, errors: FloatArray, largest: float = 1.0) -> float:
    """Return the scatter that, added to the errors, makes the chi-square of deviations one per degree of freedom.

    Parameters
    ----------
    deviations
        (n,) deviations from the mean.
    errors
        (n,) known errors.
    largest
        Upper limit of the search.
    """
    freedom = max(deviations.size - 1, 1)

    def excess(scatter: float) -> float:
        return float((deviations**2 / (errors**2 + scatter**2)).sum()) - freedom

    if deviations.size < 2 or excess(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, largest
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return 0.5 * (low + high)
