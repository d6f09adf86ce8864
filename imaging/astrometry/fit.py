"""Fit a CCD's TPV world coordinates to matched reference stars, as a polynomial correction to the nominal WCS."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.settings import AstrometrySettings
from imaging.errors import CcdError
from imaging.wcs.tpv import N_TERMS, RADIAL_TERM, TpvWcs, tpv_basis

FloatArray = NDArray[np.float64]

MAS_PER_DEGREE = 3.6e6
"""Milliarcseconds per degree."""

GRID = 9
"""Points per axis of the grid to which TPV coefficients are fitted; a cubic needs four."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Matched stars of one CCD, on the tangent plane; every array is (n,) float64.

    Attributes
    ----------
    x, y
        Windowed centroids, pixels, 0-based.
    xi, eta
        Standard coordinates of the reference stars about the seed's tangent point, degrees.
    xi_error_mas, eta_error_mas
        Combined errors of detection and reference position.
    snr
        Signal to noise of the detections.
    """

    x: FloatArray
    y: FloatArray
    xi: FloatArray
    eta: FloatArray
    xi_error_mas: FloatArray
    eta_error_mas: FloatArray
    snr: FloatArray

    def __len__(self) -> int:
        return self.x.size


@dataclass(frozen=True, eq=False)
class CcdAstrometry:
    """The astrometric solution of one CCD.

    Attributes
    ----------
    wcs
        World coordinates.
    degree
        Degree of the correction to the seed: 0 shift only, 3 the full TPV cubic.
    used
        (n,) bool, pairs that survived the clipping.
    rms_mas
        Rms residual along xi and eta of the used stars above the signal-to-noise limit (all used ones if there are
        fewer than three above it).
    scatter_mas
        Scatter per axis beyond the formal errors, mostly turbulence.
    chi2
        Reduced chi-square of the used stars under formal errors and scatter.
    """

    wcs: TpvWcs
    degree: int
    used: NDArray[np.bool_]
    rms_mas: tuple[float, float]
    scatter_mas: float
    chi2: float

    @property
    def n_used(self) -> int:
        """Number of pairs that survived the clipping."""
        return int(self.used.sum())


def pair_errors_mas(
    wcs: TpvWcs,
    x: FloatArray,
    y: FloatArray,
    errors_pixels: tuple[FloatArray, FloatArray],
    errors_mas: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray]:
    """Combine detection errors (x, y; pixels) and reference errors (xi, eta; mas) into errors along xi and eta."""
    h = 0.5
    xi, eta = wcs.pixel_to_plane(np.concatenate([x + h, x - h, x, x]), np.concatenate([y, y, y + h, y - h]))
    n = x.size
    along = [(v[:n] - v[n : 2 * n], v[2 * n : 3 * n] - v[3 * n :]) for v in (xi, eta)]
    combined = [
        np.sqrt(((dx * errors_pixels[0]) ** 2 + (dy * errors_pixels[1]) ** 2) * MAS_PER_DEGREE**2 + error**2)
        for (dx, dy), error in zip(along, errors_mas, strict=True)
    ]
    return combined[0], combined[1]


def fit_ccd(seed: TpvWcs, pairs: Pairs, shape: tuple[int, int], settings: AstrometrySettings) -> CcdAstrometry:
    """Fit the coordinates of a CCD.

    The correction to the seed is a weighted, clipped polynomial in pixels, of a degree that depends on the number of
    stars. Its sum with the seed's cubic is again a cubic and is written as TPV.

    Parameters
    ----------
    seed
        Nominal coordinates.
    pairs
        Matched stars; may include false matches.
    shape
        (ny, nx) of the CCD.
    settings
        Degrees, clipping and limits.

    Raises
    ------
    CcdError
        If too few stars are left or their scatter is too large.
    """
    degree = degree_for(len(pairs), settings)
    xi, eta = seed.pixel_to_plane(pairs.x, pairs.y)
    residuals = np.stack([(pairs.xi - xi), (pairs.eta - eta)]) * MAS_PER_DEGREE
    errors = np.stack([pairs.xi_error_mas, pairs.eta_error_mas])
    used = np.ones(len(pairs), bool)
    scatter = 10.0 * settings.scatter_floor_mas
    for _ in range(20):
        degree = min(degree, degree_for(int(used.sum()), settings))
        design = pixel_polynomial(pairs.x, pairs.y, degree, shape)
        total = np.hypot(errors, scatter)
        fitted = np.stack([_weighted_fit(design, r, e, used) for r, e in zip(residuals, total, strict=True)])
        left = residuals - fitted @ design.T
        freedom = max(1.0 - design.shape[1] / max(int(used.sum()), 1), 0.1)
        new = np.hypot(*(left / total)) < settings.clip_sigma * np.sqrt(2.0)
        if new.sum() < settings.minimum_stars:
            raise _refused("too few stars survive the clipping", int(new.sum()), f"{settings.minimum_stars}")
        new_scatter = _excess_scatter(left[:, new] / np.sqrt(freedom), errors[:, new], settings.scatter_floor_mas)
        settled = np.array_equal(new, used) and abs(new_scatter - scatter) < 0.05
        used, scatter = new, new_scatter
        if settled:
            break
    rms = _quoted_rms(left, used, pairs.snr, settings)
    if max(rms) > settings.maximum_rms_mas:
        raise _refused("the astrometric residuals are too large", f"{max(rms):.0f} mas", settings.maximum_rms_mas)
    chi2 = float(np.mean((left[:, used] / np.hypot(errors, scatter)[:, used]) ** 2) / freedom)
    wcs = corrected_wcs(seed, fitted / MAS_PER_DEGREE, degree, shape)
    return CcdAstrometry(wcs, degree, used, rms, scatter, chi2)


def degree_for(n_stars: int, settings: AstrometrySettings) -> int:
    """Return the degree of the correction that a number of stars supports."""
    limits = (settings.stars_for_linear, settings.stars_for_quadratic, settings.stars_for_cubic)
    return sum(n_stars >= limit for limit in limits)


def pixel_polynomial(x: FloatArray, y: FloatArray, degree: int, shape: tuple[int, int]) -> FloatArray:
    """Return the (n, n_terms) monomials of pixel coordinates scaled to -1 ... 1 over the CCD, low powers first."""
    ny, nx = shape
    u, v = 2.0 * (np.asarray(x) + 0.5) / nx - 1.0, 2.0 * (np.asarray(y) + 0.5) / ny - 1.0
    return np.stack([u ** (total - j) * v**j for total in range(degree + 1) for j in range(total + 1)], axis=-1)


def corrected_wcs(seed: TpvWcs, correction_deg: FloatArray, degree: int, shape: tuple[int, int]) -> TpvWcs:
    """Add a polynomial in pixels to a coordinate system.

    Parameters
    ----------
    seed
        Coordinates to correct.
    correction_deg
        (2, n_terms) coefficients for xi and eta in degrees, in the order of :func:`pixel_polynomial`.
    degree
        Degree of the polynomial, at most 3.
    shape
        (ny, nx) of the CCD.
    """
    ny, nx = shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, GRID), np.linspace(0, ny - 1, GRID)))
    extra = pixel_polynomial(x, y, degree, shape) @ correction_deg.T
    xi, eta = seed.pixel_to_plane(x, y)
    return wcs_through(seed, x, y, xi + extra[:, 0], eta + extra[:, 1])


def wcs_through(seed: TpvWcs, x: FloatArray, y: FloatArray, xi: FloatArray, eta: FloatArray) -> TpvWcs:
    """Fit a TPV system, with the seed's tangent point and linear part, to pixels with known coordinates.

    Parameters
    ----------
    seed
        Source of tangent point, reference pixel and CD matrix.
    x, y
        (n,) pixels, 0-based.
    xi, eta
        (n,) standard coordinates, degrees.
    """
    dx, dy = x + 1.0 - seed.crpix[0], y + 1.0 - seed.crpix[1]
    u = seed.cd[0, 0] * dx + seed.cd[0, 1] * dy
    v = seed.cd[1, 0] * dx + seed.cd[1, 1] * dy
    terms = [t for t in range(N_TERMS) if t != RADIAL_TERM]
    pv = np.zeros((2, N_TERMS))
    for axis, (own, other, target) in enumerate(((u, v, xi), (v, u, eta))):
        basis = tpv_basis(own, other)[terms]
        scale = np.abs(basis).max(axis=1)
        start = seed.pv[axis][terms]
        change, *_ = np.linalg.lstsq((basis / scale[:, None]).T, target - start @ basis, rcond=1e-15)
        pv[axis][terms] = start + change / scale
    return TpvWcs(seed.crval, seed.crpix, seed.cd, pv)


def _weighted_fit(design: FloatArray, values: FloatArray, errors: FloatArray, used: NDArray[np.bool_]) -> FloatArray:
    weight = 1.0 / errors[used, None]
    solution, *_ = np.linalg.lstsq(design[used] * weight, values[used] * weight[:, 0], rcond=None)
    return np.asarray(solution, dtype=np.float64)


def _excess_scatter(left: FloatArray, errors: FloatArray, floor: float) -> float:
    """Return the scatter per axis that brings the residuals' chi-square to one, found by bisection."""
    low, high = floor, 1000.0

    def excess(scatter: float) -> float:
        return float(np.mean(left**2 / (errors**2 + scatter**2)) - 1.0)

    if excess(low) <= 0.0:
        return low
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return float(np.sqrt(low * high))


def _quoted_rms(
    left: FloatArray, used: NDArray[np.bool_], snr: FloatArray, settings: AstrometrySettings
) -> tuple[float, float]:
    bright = used & (snr > settings.rms_snr)
    if bright.sum() < 3:
        bright = used
    rms = np.sqrt(np.mean(left[:, bright] ** 2, axis=1))
    return float(rms[0]), float(rms[1])


def _refused(problem: str, value: object, limit: object) -> CcdError:
    return CcdError(
        problem,
        reason="astrometry_no_match",
        step="astrometry",
        value=value,
        limit=limit,
        remedy="check the focus and the telescope pointing; the CCD can use the exposure's solution",
    )
