"""Errors of the coordinates of a simulated CCD without photon noise, for stars of known colour and for others."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.measure_scores import MAS_PER_DEGREE, MAS_PER_PIXEL
from imaging.simulation.atmosphere import refraction_arcsec
from imaging.simulation.chromatic import refraction_shift_arcsec
from imaging.simulation.exposures import SimulatedExposure
from imaging.tables import column
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]

CENTROID_FLOOR_PIXELS = 0.01
"""Error of a centroid beyond the stated one, pixels: the shape of the image, and its colour."""


@dataclass(frozen=True, eq=False)
class CcdCoordinates:
    """The single stars above S/N 30 of a CCD.

    Attributes
    ----------
    ra, dec
        (n,) true positions, degrees.
    coloured, listed
        (n,) bool, the reference catalogue lists their colour; it lists them.
    mag, g_minus_i
        (n,) true magnitudes in the band, and colours.
    errors_mas
        (2, n) errors of the solution, as :func:`solution_errors_mas` returns them.
    """

    ra: FloatArray
    dec: FloatArray
    coloured: NDArray[np.bool_]
    listed: NDArray[np.bool_]
    mag: FloatArray
    g_minus_i: FloatArray
    errors_mas: FloatArray


def has_colour(catalogue: pa.Table, matches: pa.Table) -> NDArray[np.bool_]:
    """Return for which sources of a catalogue (n,) the matched reference star has a colour."""
    known = np.isfinite(column(matches, "colour_mag").astype(float))
    return np.isin(column(catalogue, "number"), column(matches, "number")[known])


def reference_stars(matches: pa.Table, catalogue: pa.Table, ccd: int, centre: tuple[float, float]) -> FloatArray:
    """Return (5, n): standard coordinates in degrees, CCD, and errors along both axes, centroids included, mas.

    The errors of the centroids are the catalogue's, those of photons: those of the matches contain hidden neighbours,
    which an ideal method would not suffer from.
    """
    used = column(matches, "used").astype(bool)
    names = ("ra", "dec", "ra_error_mas", "dec_error_mas")
    ra, dec, ra_error, dec_error = (column(matches, name)[used].astype(float) for name in names)
    rows = np.searchsorted(column(catalogue, "number"), column(matches, "number")[used])
    x_error, y_error = (column(catalogue, name)[rows].astype(float) for name in ("x_error", "y_error"))
    errors = np.hypot(ra_error, MAS_PER_PIXEL * y_error), np.hypot(dec_error, MAS_PER_PIXEL * x_error)
    return np.stack([*sky_to_plane(ra, dec, *centre), np.full(ra.size, ccd), *errors])


def solution_errors_mas(
    pixels: FloatArray, error: FloatArray, true: FloatArray, sky: FloatArray, true_sky: FloatArray
) -> FloatArray:
    """Return the errors of an astrometric solution at its stars, without those of their centroids: (2, n) mas.

    NaN for stars whose centroid is not that of the star (blends).

    The part of the coordinates' errors that follows from the centroids is taken out beside a plane per axis: the smooth
    offset of the windowed centre of an asymmetric image from the star's true position, which the solution contains.
    The plane is fitted with the errors of the centroids as weights: its own error counts as the solution's, and that of
    450 stars with one weight is 0.8 mas.

    Parameters
    ----------
    pixels, error, true
        (2, n) measured positions, their stated errors, and true positions, pixels.
    sky, true_sky
        (2, n) measured and true RA and Dec, degrees.
    """
    centroid = pixels - true
    design = np.stack([np.ones(true.shape[1]), *(true / 2048.0 - 0.5)], axis=1)
    near = np.all(np.abs(centroid - np.median(centroid, axis=1, keepdims=True)) < 0.3, axis=0)
    planes = []
    for values, stated in zip(centroid, error, strict=True):
        weight = near / np.hypot(stated, CENTROID_FLOOR_PIXELS)
        planes.append(design @ np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0])
    noise = centroid - planes
    east = ((sky[0] - true_sky[0] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(true_sky[1]))
    errors = MAS_PER_DEGREE * np.stack([east, sky[1] - true_sky[1]])
    return np.where(near, errors - _scale_mas(pixels, sky) @ noise, np.nan)


def guessed_colour_errors_mas(
    exposure: SimulatedExposure, listed: NDArray[np.bool_], mag: FloatArray, g_minus_i: FloatArray
) -> FloatArray:
    """Return the errors per axis by colours that nobody can know, of the best guess: (n,) mas; 0 of listed stars.

    Of a star that the reference catalogue does not list, an exposure tells the magnitude alone. The best guess of its
    displacement by refraction is the mean of such stars at this magnitude, here a quadratic through the true ones.

    Parameters
    ----------
    exposure
        Truth of the exposure.
    listed, mag, g_minus_i
        (n,) whether the catalogue lists the star with G, its magnitude in the band, and its colour.
    """
    errors, guess = np.zeros(mag.size), ~listed
    terms = np.vander(mag[guess] - 20.0, 3)
    if len(terms) <= terms.shape[1]:
        return errors
    refraction = refraction_shift_arcsec if exposure.optics and exposure.optics.chromatic else refraction_arcsec
    angles = exposure.zenith_distance_deg, exposure.parallactic_deg
    shifts = 1000.0 * np.stack(refraction(exposure.band, *angles, g_minus_i[guess]), axis=1)
    left = shifts - terms @ np.linalg.lstsq(terms, shifts, rcond=None)[0]
    errors[guess] = np.sqrt(np.sum(left**2) / 2.0 / (len(terms) - terms.shape[1]))
    return errors


def rms_per_axis(errors: FloatArray) -> float:
    """Return the rms per axis of (2, n) errors; the worst per cent of the stars and NaN are not counted (blends)."""
    squared = np.sum(errors**2, axis=0)
    squared = np.sort(squared[np.isfinite(squared)])
    return float(np.sqrt(squared[: max(int(0.99 * squared.size), 1)].mean() / 2)) if squared.size else np.nan


def _scale_mas(pixels: FloatArray, sky: FloatArray) -> FloatArray:
    """Return the (2, 2) derivatives of the offsets to the east and north by x and y, mas per pixel."""
    east = ((sky[0] - sky[0].mean() + 180.0) % 360.0 - 180.0) * np.cos(np.radians(sky[1]))
    offsets = MAS_PER_DEGREE * np.stack([east, sky[1]])
    design = np.stack([np.ones(pixels.shape[1]), *pixels], axis=1)
    return np.asarray(np.linalg.lstsq(design, offsets.T, rcond=None)[0][1:].T)
