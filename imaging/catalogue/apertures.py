"""Aperture photometry in circles and in the Kron ellipse, and half-light radii.

Definitions: the SExtractor manual (Bertin 2010, section 10.4); the Kron radius after Kron (1980, ApJS 43, 305).

``sep.sum_circle`` 1.4 gives the same sums within 6e-14 without masks and neighbours. It scales by the area what is
missing instead of taking the opposite pixel: on three simulated CCDs the median error of bright stars is 1.1 % against
0.7 % here with a neighbour within 20 pixels and 4.6 % against 1.1 % with a mask within 5.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.catalogue.detect import Detections
from imaging.catalogue.pixels import OUTSIDE, OWN, UNKNOWN, repaired_row
from imaging.catalogue.settings import CatalogueSettings
from imaging.catalogue.shapes import Centroids, Shapes
from imaging.image import CcdImage, FloatImage
from imaging.schemas.catalogue import APERTURE_DIAMETERS_PIXELS

FloatArray = NDArray[np.float64]
Planes = tuple[FloatImage, FloatImage, NDArray[np.int32]]
"""Science, weight and segmentation, (ny, nx)."""

HALF_DIAGONAL = 0.7072
"""Half the diagonal of a pixel: pixels farther than this from a circle are entirely on one side of it."""

SUBPIXELS = 5
"""Subpixels per axis of pixels cut by a circle or ellipse (SExtractor)."""

BINS_PER_PIXEL, FIRST_HALF_LIGHT = 10, 5
"""Rings per pixel of the light profile that gives the half-light radius, and its first radius in pixels; it is doubled
while it does not hold half of the light."""

FIRST_MOMENT_REACH = 6.0
"""The Kron radius is measured within this many rms axes (SExtractor)."""


@dataclass(frozen=True, eq=False)
class AperturePhotometry:
    """Aperture fluxes of all sources.

    Attributes
    ----------
    flux, flux_error
        (n, 12) float64, electrons, in the twelve DES apertures, or fewer of them.
    flux_auto, flux_auto_error
        (n,) float64, electrons, in the Kron ellipse.
    kron_radius
        (n,) float64, radius of that ellipse in units of the rms axes.
    flux_radius
        (n,) float64, radius of half of the AUTO flux, pixels; NaN if it was not measured.
    neighbour_fraction, missing_fraction
        (n,) float64, fraction of the AUTO ellipse occupied by neighbours or masks, and fraction without a replacement.
    truncated
        (n,) bool, the AUTO ellipse crosses the border.
    """

    flux: FloatArray
    flux_error: FloatArray
    flux_auto: FloatArray
    flux_auto_error: FloatArray
    kron_radius: FloatArray
    flux_radius: FloatArray
    neighbour_fraction: FloatArray
    missing_fraction: FloatArray
    truncated: NDArray[np.bool_]


def aperture_photometry(
    image: CcdImage,
    detections: Detections,
    shapes: Shapes,
    centroids: Centroids,
    settings: CatalogueSettings,
    n_apertures: int | None = None,
) -> AperturePhotometry:
    """Measure all sources in the twelve DES apertures and in their Kron ellipses.

    Pixels that are masked or belong to a neighbour are replaced by the pixel opposite to them about the centre.

    Parameters
    ----------
    image
        Sky-subtracted pixels.
    detections, shapes, centroids
        The sources.
    settings
        Parameters of the AUTO aperture.
    n_apertures
        Measure the smallest apertures only, at a quarter of the cost, and no half-light radius; None for everything.
    """
    planes = (image.science, image.weight, detections.segmentation)
    good = image.weight[::8, ::8]
    good = good[good > 0]
    variance = float(1.0 / np.median(good)) if good.size else 0.0
    radii = np.array(APERTURE_DIAMETERS_PIXELS[:n_apertures]) / 2
    flux, area = circle_fluxes(*planes, centroids.x, centroids.y, radii)
    theta = np.radians(shapes.theta_deg)
    ellipses = _ellipse_coefficients(shapes.a, shapes.b, theta)
    limits = (
        settings.kron_factor,
        settings.minimum_kron_radius,
        settings.minimum_auto_diameter_pixels / 2,
        settings.maximum_auto_radius_pixels,
    )
    auto = _auto(planes, centroids.x, centroids.y, shapes.a, shapes.b, ellipses, limits)
    half = np.full(len(detections), np.nan)
    if n_apertures is None:
        half = _half_light(planes, centroids.x, centroids.y, auto[:, 1], auto[:, 6])
    return AperturePhotometry(
        flux=flux,
        flux_error=np.sqrt(area * variance + np.maximum(flux, 0.0)),
        flux_auto=auto[:, 1],
        flux_auto_error=np.sqrt(auto[:, 2] * variance + np.maximum(auto[:, 1], 0.0)),
        kron_radius=auto[:, 0],
        flux_radius=half,
        neighbour_fraction=auto[:, 3],
        missing_fraction=auto[:, 4],
        truncated=auto[:, 5] > 0.0,
    )


def _ellipse_coefficients(a: FloatArray, b: FloatArray, theta: FloatArray) -> FloatArray:
    """Return (n, 3) coefficients of the squared elliptical radius in units of the rms axes."""
    cos, sin = np.cos(theta), np.sin(theta)
    xx = (cos / a) ** 2 + (sin / b) ** 2
    yy = (sin / a) ** 2 + (cos / b) ** 2
    xy = 2 * cos * sin * (1 / a**2 - 1 / b**2)
    return np.stack([xx, xy, yy], axis=-1)


@njit(cache=True)
def covered_fraction(dx: float, dy: float, cxx: float, cxy: float, cyy: float, limit: float) -> float:
    """Return the share of a pixel, centred at (dx, dy), inside cxx dx^2 + cxy dx dy + cyy dy^2 <= limit."""
    inside = 0
    for p in range(SUBPIXELS):
        sy = dy + (p + 0.5) / SUBPIXELS - 0.5
        for q in range(SUBPIXELS):
            sx = dx + (q + 0.5) / SUBPIXELS - 0.5
            if cxx * sx * sx + cxy * sx * sy + cyy * sy * sy <= limit:
                inside += 1
    return inside / (SUBPIXELS * SUBPIXELS)


@njit(cache=True)
def circle_fluxes(
    science: FloatImage,
    weight: FloatImage,
    segmentation: NDArray[np.int32],
    x: FloatArray,
    y: FloatArray,
    radii: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Sum fluxes and areas in circles; ``radii`` rises.

    A pixel counts by the share of its subpixels whose centres are in the circle. Those of a row of subpixels follow one
    another: two sums of pixels from the left and the two pixels at the ends give their light.
    """
    ny, nx = science.shape
    flux = np.zeros((x.size, radii.size))
    area = np.zeros((x.size, radii.size))
    largest = radii[-1] + HALF_DIAGONAL
    reach = int(np.ceil(largest))
    values, origins = np.zeros(2 * reach + 2), np.zeros(2 * reach + 1, np.int64)
    sums = np.zeros(2 * reach + 2)
    for k in range(x.size):
        two_x, two_y = int(np.rint(2.0 * x[k])), int(np.rint(2.0 * y[k]))
        cx, cy = int(np.rint(x[k])), int(np.rint(y[k]))
        for j in range(max(cy - reach, 0), min(cy + reach + 1, ny)):
            dy = j - y[k]
            chord = np.sqrt(max(largest * largest - dy * dy, 0.0))
            start = max(cx - reach, 0, int(np.ceil(x[k] - chord)))
            n = min(cx + reach + 1, nx, int(np.floor(x[k] + chord)) + 1) - start
            if n <= 0:
                continue
            repaired_row((science, weight, segmentation), k + 1, j, start, (two_y, two_x), values[:n], origins)
            values[n] = 0.0
            for i in range(n):
                sums[i + 1] = sums[i] + values[i]
            middle = SUBPIXELS * (x[k] - start + 0.5) - 0.5
            for p in range(SUBPIXELS):
                sy = dy + (p + 0.5) / SUBPIXELS - 0.5
                for m in range(radii.size - 1, -1, -1):
                    inside = radii[m] * radii[m] - sy * sy
                    if inside < 0.0:
                        break
                    half = SUBPIXELS * np.sqrt(inside)
                    first = max(int(np.ceil(middle - half)), 0)
                    after = min(int(np.floor(middle + half)) + 1, SUBPIXELS * n)
                    if after <= first:
                        break
                    a, b = first // SUBPIXELS, after // SUBPIXELS
                    cut = (after - SUBPIXELS * b) * values[b] - (first - SUBPIXELS * a) * values[a]
                    flux[k, m] += (sums[b] - sums[a]) / SUBPIXELS + cut / (SUBPIXELS * SUBPIXELS)
                    area[k, m] += (after - first) / (SUBPIXELS * SUBPIXELS)
    return flux, area


@njit(cache=True)
def _auto(
    planes: Planes,
    x: FloatArray,
    y: FloatArray,
    a: FloatArray,
    b: FloatArray,
    ellipses: FloatArray,
    limits: tuple[float, float, float, float],
) -> FloatArray:
    """Measure Kron radius, flux, area, replaced and missing share, truncation, and largest radius in pixels."""
    factor, minimum, minimum_radius, maximum_radius = limits
    result = np.zeros((x.size, 7))
    for k in range(x.size):
        two_x, two_y = int(np.rint(2.0 * x[k])), int(np.rint(2.0 * y[k]))
        cxx, cxy, cyy = ellipses[k, 0], ellipses[k, 1], ellipses[k, 2]
        reach = int(np.ceil(min(FIRST_MOMENT_REACH * a[k], maximum_radius)))
        left, values, origins = int(x[k]) - reach, np.empty(2 * reach + 1), np.empty(2 * reach + 1, np.int64)
        moment = total = 0.0
        for j in range(int(y[k]) - reach, int(y[k]) + reach + 1):
            dy = j - y[k]
            repaired_row(planes, k + 1, j, left, (two_y, two_x), values, origins)
            for n in range(values.size):
                dx = left + n - x[k]
                r2 = cxx * dx * dx + cxy * dx * dy + cyy * dy * dy
                if r2 <= FIRST_MOMENT_REACH * FIRST_MOMENT_REACH:
                    moment += np.sqrt(r2) * values[n]
                    total += values[n]
        kron = minimum
        if total > 0.0 and moment > 0.0:
            kron = min(max(factor * moment / total, minimum), factor * FIRST_MOMENT_REACH)
        limit = kron * kron
        reach = int(np.ceil(min(kron * a[k], maximum_radius))) + 1
        if kron * np.sqrt(a[k] * b[k]) < minimum_radius:
            cxx, cxy, cyy = 1.0, 0.0, 1.0
            limit = minimum_radius * minimum_radius
            reach = int(np.ceil(minimum_radius)) + 1
        result[k, 0] = kron
        result[k, 6] = reach
        _sum_ellipse(planes, k, x[k], y[k], (cxx, cxy, cyy), limit, reach, result[k])
    return result


@njit(cache=True)
def _sum_ellipse(
    planes: Planes,
    k: int,
    x: float,
    y: float,
    ellipse: tuple[float, float, float],
    limit: float,
    reach: int,
    result: FloatArray,
) -> None:
    """Add flux, area, replaced share, missing share and truncation of one ellipse to entries 1 to 5."""
    cxx, cxy, cyy = ellipse
    two_x, two_y = int(np.rint(2.0 * x)), int(np.rint(2.0 * y))
    corner = 0.5 * np.sqrt(cxx + abs(cxy) + cyy)  # elliptical radius of the farthest corner from a pixel's centre
    within, outside = max(np.sqrt(limit) - corner, 0.0) ** 2, (np.sqrt(limit) + corner) ** 2
    left, values, origins = int(x) - reach, np.empty(2 * reach + 2), np.empty(2 * reach + 2, np.int64)
    replaced = missing = 0.0
    for j in range(int(y) - reach, int(y) + reach + 2):
        dy = j - y
        repaired_row(planes, k + 1, j, left, (two_y, two_x), values, origins)
        for n in range(values.size):
            dx = left + n - x
            r2 = cxx * dx * dx + cxy * dx * dy + cyy * dy * dy
            if r2 >= outside:
                continue
            share = 1.0 if r2 < within else covered_fraction(dx, dy, cxx, cxy, cyy, limit)
            if share == 0.0:
                continue
            result[1] += share * values[n]
            result[2] += share
            if origins[n] != OWN:
                replaced += share
            if origins[n] == UNKNOWN:
                missing += share
            if origins[n] == OUTSIDE:
                result[5] = 1.0
    if result[2] > 0.0:
        result[3] = replaced / result[2]
        result[4] = missing / result[2]


@njit(cache=True)
def _half_light(
    planes: Planes,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    reach: FloatArray,
) -> FloatArray:
    """Measure the radius that holds half of each source's flux, in bins of a tenth of a pixel."""
    result = np.zeros(x.size)
    for k in range(x.size):
        size, last = FIRST_HALF_LIGHT, int(reach[k]) + 2
        while True:
            size = min(size, last)
            profile = _light_profile(planes, k, x[k], y[k], size)
            half, total = 0.5 * flux[k], 0.0
            for m in range(profile.size):
                if total + profile[m] >= half > total:
                    result[k] = (m + (half - total) / profile[m]) / BINS_PER_PIXEL
                    break
                total += profile[m]
            if size == last or result[k] > 0.0:
                break
            size *= 2
    return result


@njit(cache=True)
def _light_profile(
    planes: Planes,
    k: int,
    x: float,
    y: float,
    size: int,
) -> FloatArray:
    """Return the light in rings of a tenth of a pixel around a source, to a radius of ``size`` pixels."""
    profile = np.zeros(size * BINS_PER_PIXEL)
    two_x, two_y = int(np.rint(2.0 * x)), int(np.rint(2.0 * y))
    left, values, origins = int(x) - size, np.empty(2 * size + 2), np.empty(2 * size + 2, np.int64)
    for j in range(int(y) - size, int(y) + size + 2):
        repaired_row(planes, k + 1, j, left, (two_y, two_x), values, origins)
        for n in range(values.size):
            for p in range(SUBPIXELS):
                dy = j - y + (p + 0.5) / SUBPIXELS - 0.5
                for q in range(SUBPIXELS):
                    dx = left + n - x + (q + 0.5) / SUBPIXELS - 0.5
                    m = int(np.sqrt(dx * dx + dy * dy) * BINS_PER_PIXEL)
                    if m < profile.size:
                        profile[m] += values[n] / (SUBPIXELS * SUBPIXELS)
    return profile
