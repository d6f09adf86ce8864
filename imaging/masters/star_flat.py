"""Derive the star flat: correction of the flat field from photometry of reference stars.

Dome and sky flats include scattered light and the area of pixels in the response (Bernstein et al. 2018, PASP 130,
054501). The error appears in the zero points of stars as a function of position on a CCD, and is measured by a smooth
polynomial over many exposures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.fit import pixel_polynomial
from imaging.detector.ccds import NX, NY
from imaging.errors import CcdError
from imaging.masters.settings import StarFlatSettings
from imaging.numerics.robust import clipped
from imaging.photometry.colours import REFERENCE_COLOUR_MAG
from imaging.sky.image import upsample

FloatArray = NDArray[np.float64]

SHAPE = (NY, NX)

MAXIMUM_DEGREE = 3
"""Highest degree of the polynomial: scattered light varies within a CCD with the second degree."""

MINIMUM_COLOURS, MINIMUM_CCDS = 50, 5
"""Fewest stars of known colour on a CCD, and fewest CCDs, from which slopes with colour are found."""

BIN_PIXELS = 16
"""Side of the bins in which the polynomial is evaluated."""


@dataclass(frozen=True, eq=False)
class StarZeropoints:
    """Zero points from single stars on one CCD of one exposure: (n,) arrays.

    Attributes
    ----------
    x, y
        Pixels, 0-based.
    zeropoint_mag, error_mag
        AB magnitude of one electron, and its error.
    colour_mag
        BP - RP; NaN where it is unknown.
    source_id
        Which star it is: the same star in several exposures tells nothing new of the passband.
    """

    x: FloatArray
    y: FloatArray
    zeropoint_mag: FloatArray
    error_mag: FloatArray
    colour_mag: FloatArray
    source_id: NDArray[np.int64]


@dataclass(frozen=True)
class StarFlatFit:
    """The response of one CCD to stars relative to the applied flats.

    Attributes
    ----------
    coefficients_mag
        Polynomial in pixels scaled to -1 ... 1, low powers first: local minus exposure's zero point. The first
        coefficient includes the offset of the CCD.
    n_stars
        Number of measurements used.
    scatter_mag
        Scatter of the measurements about the polynomial.
    colour_slope, colour_slope_error
        Change of the zero point per magnitude of BP - RP, and its error; infinite where the colours say nothing.
    colour_mag
        Mean BP - RP of the stars, for which the polynomial holds.
    """

    coefficients_mag: tuple[float, ...]
    n_stars: int
    scatter_mag: float
    colour_slope: float = 0.0
    colour_slope_error: float = np.inf
    colour_mag: float = REFERENCE_COLOUR_MAG

    def at_reference_colour(self, slope: float) -> "StarFlatFit":
        """Return the response to stars of the reference colour, for the adopted slope with colour, magnitudes."""
        first, *others = self.coefficients_mag
        first -= slope * (self.colour_mag - REFERENCE_COLOUR_MAG)
        return replace(self, coefficients_mag=(first, *others), colour_slope=slope, colour_mag=REFERENCE_COLOUR_MAG)

    @property
    def degree(self) -> int:
        """Degree of the polynomial."""
        return next(d for d in range(MAXIMUM_DEGREE + 1) if _n_terms(d) == len(self.coefficients_mag))

    def response(self) -> NDArray[np.float32]:
        """Return the response over the CCD: (4096, 2048) float32, one where stars have the camera's zero point."""
        ny, nx = SHAPE[0] // BIN_PIXELS, SHAPE[1] // BIN_PIXELS
        y, x = ((np.arange(n) + 0.5) * BIN_PIXELS - 0.5 for n in (ny, nx))
        columns, rows = np.meshgrid(x, y)
        design = pixel_polynomial(columns.ravel(), rows.ravel(), self.degree, SHAPE)
        excess = (design @ np.array(self.coefficients_mag)).reshape(ny, nx)
        return upsample((10.0 ** (0.4 * excess)).astype(np.float32), SHAPE)


def exposure_zeropoint(stars: Mapping[int, StarZeropoints]) -> float:
    """Return the median zero point of the stars on all CCDs of an exposure, magnitudes."""
    return float(np.median(np.concatenate([found.zeropoint_mag for found in stars.values()])))


def fit_star_flat(
    exposures: Mapping[int, StarZeropoints], zeropoints: Mapping[int, float], ccd: int, settings: StarFlatSettings
) -> StarFlatFit:
    """Fit the response of one CCD over many exposures.

    The degree of the polynomial is that of the least Bayesian information criterion (Schwarz 1978), so that few stars
    do not distort a flat that is already right.

    Parameters
    ----------
    exposures
        Exposure number to the stars on this CCD.
    zeropoints
        Exposure number to the exposure's zero point, magnitudes.
    ccd
        CCD number, for the message.
    settings
        Least number of stars, clipping.

    Raises
    ------
    CcdError
        With reason ``too_few_stars``.
    """
    measured = [
        (s.x, s.y, s.zeropoint_mag - zeropoints[n], s.error_mag, s.colour_mag, s.source_id)
        for n, s in sorted(exposures.items())
    ]
    x, y, excess, error, colour, source_id = (np.concatenate(parts) for parts in zip(*measured, strict=True))
    weight = 1.0 / np.hypot(error, settings.scatter_floor_mag)
    keep = _kept(pixel_polynomial(x, y, MAXIMUM_DEGREE, SHAPE), excess, weight, ccd, settings)
    fits = []
    for degree in range(MAXIMUM_DEGREE + 1):
        design = pixel_polynomial(x[keep], y[keep], degree, SHAPE)
        coefficients = _solve(design, excess[keep], weight[keep])
        residual = excess[keep] - design @ coefficients
        # The scale of the errors is unknown: stars of similar colour and brightness have correlated errors.
        information = residual.size * np.log(np.mean((residual * weight[keep]) ** 2))
        fits.append((information + coefficients.size * np.log(residual.size), coefficients, residual))
    _, coefficients, residual = min(fits, key=lambda fit: fit[0])
    slope = _colour_slope(colour[keep], residual, weight[keep], source_id[keep])
    return StarFlatFit(tuple(coefficients.tolist()), int(keep.sum()), float(np.std(residual)), *slope)


def _colour_slope(
    colour: FloatArray, residual: FloatArray, weight: FloatArray, source_id: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return slope of residuals with colour, its error from the scatter of stars, not measurements, and mean colour."""
    known = np.isfinite(colour)
    _, star = np.unique(source_id[known], return_inverse=True)
    if star.max(initial=-1) + 1 < MINIMUM_COLOURS:
        return 0.0, np.inf, REFERENCE_COLOUR_MAG
    squared = weight[known] ** 2
    mean = float(np.average(colour[known], weights=squared))
    redder = colour[known] - mean
    information = float(np.sum(squared * redder**2))
    slope = float(np.sum(squared * redder * residual[known])) / information
    per_star = np.bincount(star, squared * redder * (residual[known] - slope * redder))
    return slope, float(np.sqrt(np.sum(per_star**2))) / information, mean


def passband_slopes(fits: Mapping[int, StarFlatFit]) -> dict[int, float]:
    """Return the slopes of the CCDs with colour relative to the camera's mean, shrunk by their noise.

    Their scatter beyond the errors says how much the passbands differ; each slope is weighted against it (Efron and
    Morris 1975), so that slopes which are noise are zero. A slope that all CCDs share belongs to the colour term of the
    band.

    Parameters
    ----------
    fits
        CCD number to its fit.

    Returns
    -------
    slopes
        CCD number to the change of its zero point per magnitude of BP - RP, magnitudes; all zero with few CCDs.
    """
    known = {ccd: fit for ccd, fit in fits.items() if np.isfinite(fit.colour_slope_error)}
    slopes = dict.fromkeys(fits, 0.0)
    if len(known) < MINIMUM_CCDS:
        return slopes
    values, variance = np.array([(fit.colour_slope, fit.colour_slope_error**2) for fit in known.values()]).T
    real = 0.0
    for _ in range(20):
        mean = np.average(values, weights=1.0 / (variance + real))
        real = max(float(np.sum((values - mean) ** 2)) / (values.size - 1) - float(np.mean(variance)), 0.0)
    shrunk = (values - mean) * real / (real + variance)
    return slopes | dict(zip(known, shrunk.tolist(), strict=True))


def _kept(
    design: FloatArray, excess: FloatArray, weight: FloatArray, ccd: int, settings: StarFlatSettings
) -> NDArray[np.bool_]:
    """Return the stars not rejected by a fit of the highest degree."""
    keep = clipped(excess, settings.clip_sigma)
    for _ in range(5):
        if keep.sum() < settings.minimum_stars:
            raise CcdError(
                "too few stars for a star flat",
                reason="too_few_stars",
                ccd=ccd,
                value=int(keep.sum()),
                limit=f"at least {settings.minimum_stars}",
                remedy="give more exposures",
            )
        coefficients = _solve(design[keep], excess[keep], weight[keep])
        new = clipped(excess - design @ coefficients, settings.clip_sigma)
        if np.array_equal(new, keep):
            break
        keep = new
    return keep


def _solve(design: FloatArray, values: FloatArray, weight: FloatArray) -> FloatArray:
    solution = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0]
    return np.asarray(solution, dtype=np.float64)


def _n_terms(degree: int) -> int:
    return (degree + 1) * (degree + 2) // 2
