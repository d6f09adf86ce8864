"""Draw sources as sums of elliptical Gaussians, truncated at negligible levels."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.simulation.psf import PsfMixture

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.float32]

FAINTEST_POINT_ELECTRONS, FAINTEST_GALAXY_ELECTRONS = 0.003, 0.01
"""Level in electrons per pixel to which a component is drawn (the night sky's noise is above 8)."""

POINT_LIMITS, GALAXY_LIMITS = (FAINTEST_POINT_ELECTRONS, 0.1), (FAINTEST_GALAXY_ELECTRONS, 0.1)
MANY_POINT_LIMITS, MANY_GALAXY_LIMITS = (0.01, 1.0), (0.02, 1.0)
"""Faintest level, and smallest peak in its units, of simple functions and of those with many components."""

MANY_COMPONENTS = 12

LEAST_REACH = 3.5
"""Smallest radius in units of its width to which a component is drawn, if its peak is above the faintest level."""


@njit(cache=True)
def add_gaussian(
    image: FloatImage,
    x: float,
    y: float,
    flux: float,
    xx: float,
    xy: float,
    yy: float,
    faintest: float,
    least: float = 0.1,
) -> None:
    """Add an elliptical Gaussian, row by row with a recurrence: two products per pixel.

    Parameters
    ----------
    image
        (ny, nx) float32, changed in place.
    x, y
        Centre, pixels.
    flux
        Total flux.
    xx, xy, yy
        Covariance, square pixels.
    faintest
        Level to which the Gaussian is drawn, electrons per pixel.
    least
        Peak below which it is skipped, in units of ``faintest``.
    """
    ny, nx = image.shape
    determinant = xx * yy - xy * xy
    peak = flux / (2.0 * np.pi * np.sqrt(determinant))
    if peak < least * faintest:
        return
    reach2 = max(2.0 * np.log(peak / faintest), LEAST_REACH**2)
    a, b, c = yy / determinant, -xy / determinant, xx / determinant
    half_height = np.sqrt(reach2 * yy)
    first_row, last_row = max(int(np.ceil(y - half_height)), 0), min(int(np.floor(y + half_height)), ny - 1)
    step = np.exp(-a)
    for row in range(first_row, last_row + 1):
        dy = row - y
        middle = -b * dy / a
        half_width = np.sqrt(max((reach2 - (c - b * b / a) * dy * dy) / a, 0.0))
        first = max(int(np.ceil(x + middle - half_width)), 0)
        last = min(int(np.floor(x + middle + half_width)), nx - 1)
        if last < first:
            continue
        dx = first - x
        value = peak * np.exp(-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
        ratio = np.exp(-a * dx - b * dy - 0.5 * a)
        line = image[row, first : last + 1]
        for k in range(last + 1 - first):
            line[k] += value
            value *= ratio
            ratio *= step


@njit(cache=True)
def _draw_points(
    image: FloatImage,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    weight: FloatArray,
    covariance: FloatArray,
    offset: FloatArray,
    faintest: float,
    least: float,
) -> None:
    for i in range(len(x)):
        for k in range(len(weight)):
            c = covariance[i, k]
            add_gaussian(
                image,
                x[i] + offset[i, k, 0],
                y[i] + offset[i, k, 1],
                flux[i] * weight[k],
                c[0],
                c[1],
                c[2],
                faintest,
                least,
            )


@njit(cache=True)
def _draw_extended(
    image: FloatImage,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    shape: FloatArray,
    profile_weight: FloatArray,
    profile_variance: FloatArray,
    weight: FloatArray,
    covariance: FloatArray,
    offset: FloatArray,
    faintest: float,
    least: float,
) -> None:
    for i in range(len(x)):
        for k in range(len(weight)):
            c = covariance[i, k]
            for m in range(len(profile_weight)):
                v = profile_variance[m]
                add_gaussian(
                    image,
                    x[i] + offset[i, k, 0],
                    y[i] + offset[i, k, 1],
                    flux[i] * weight[k] * profile_weight[m],
                    c[0] + v * shape[i, 0],
                    c[1] + v * shape[i, 1],
                    c[2] + v * shape[i, 2],
                    faintest,
                    least,
                )


def draw_points(image: FloatImage, x: FloatArray, y: FloatArray, flux: FloatArray, psf: PsfMixture) -> None:
    """Add point sources.

    Parameters
    ----------
    image
        (ny, nx) float32, electrons, changed in place.
    x, y
        (n,) positions, pixels, 0-based; may be outside the image.
    flux
        (n,) total fluxes, electrons.
    psf
        The point-spread functions at the n positions.
    """
    limits = POINT_LIMITS if len(psf.weight) < MANY_COMPONENTS else MANY_POINT_LIMITS
    _draw_points(image, x, y, flux, psf.weight, psf.covariance, psf.offset, *limits)


def draw_extended(
    image: FloatImage,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    shape: FloatArray,
    profile: tuple[FloatArray, FloatArray],
    psf: PsfMixture,
) -> None:
    """Add galaxies of one profile, convolved with the point-spread function.

    Parameters
    ----------
    image, x, y, flux, psf
        As in :func:`draw_points`.
    shape
        (n, 3) xx, xy, yy of the half-light ellipse: squares of its semi-axes rotated to the pixel axes, square pixels.
    profile
        Weights and variances (in units of the squared half-light radius) of the profile's Gaussians.
    """
    limits = GALAXY_LIMITS if len(psf.weight) < MANY_COMPONENTS else MANY_GALAXY_LIMITS
    _draw_extended(
        image,
        x,
        y,
        flux,
        shape,
        profile[0],
        profile[1],
        psf.weight,
        psf.covariance,
        psf.offset,
        *limits,
    )
