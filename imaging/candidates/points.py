"""Detections as points on the sphere; mean positions and uniform motions of groups."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ARCSEC = np.radians(1.0 / 3600.0)

MIN_STEP_HOURS = 1.0 / 60.0
"""Shortest time between two exposures for a measurement of motion."""


@dataclass(frozen=True, eq=False)
class Points:
    """Detections in a fixed order: by time, then by identity.

    Attributes
    ----------
    vector
        (n, 3) unit vectors.
    sigma_arcsec
        (n,) position error per axis, floor included.
    expnum
        (n,) exposure.
    mjd
        (n,) middle of the exposure.
    mag, mag_error
        (n,) magnitude and its error; NaN if unknown.
    band
        (n,) band.
    trail
        (n, 3) vector from one end of a trail to the other, radians; zero for point sources.
    trail_error_arcsec
        (n, 2) errors of that along and across it, floor included.
    trail_days
        (n,) exposure time of trails.
    """

    vector: FloatArray
    sigma_arcsec: FloatArray
    expnum: IntArray
    mjd: FloatArray
    mag: FloatArray
    mag_error: FloatArray
    band: NDArray[np.str_]
    trail: FloatArray
    trail_error_arcsec: FloatArray
    trail_days: FloatArray

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.expnum)

    @property
    def is_trail(self) -> NDArray[np.bool_]:
        """Return (n,) whether the detection is a trail."""
        return np.linalg.norm(self.trail, axis=1) > 0

    def subset(self, chosen: IntArray) -> "Points":
        """Return the selected detections."""
        return Points(*(getattr(self, field.name)[chosen] for field in fields(self)))


def renumbered(label: NDArray[np.integer]) -> IntArray:
    """Renumber labels from 0 without gaps, in the order in which they first appear."""
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[inverse]


def mean_vectors(points: Points, label: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the (m, 3) weighted mean directions of groups and the (m,) errors per axis of those means, arcsec."""
    weight = 1.0 / points.sigma_arcsec**2
    total = np.bincount(label, weight)
    sums: FloatArray = np.stack([np.bincount(label, weight * points.vector[:, axis]) for axis in range(3)], axis=1)
    mean = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return mean, 1.0 / np.sqrt(total)


def fit_motion(points: Points, label: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit a uniform motion to each source.

    Parameters
    ----------
    points
        Detections.
    label
        (n,) source of each, from 0 without gaps.

    Returns
    -------
    rate_arcsec_per_hour, error_arcsec_per_hour, chi2
        (m,) rate, its error per axis, and chi-square of the fit (2 n - 4 degrees of freedom); for sources with one
        epoch the rate is NaN and the error infinite.
    """
    east, north = _local_offsets(points, label)
    weight = 1.0 / points.sigma_arcsec**2
    s0 = np.bincount(label, weight)
    hours = (points.mjd - points.mjd.min()) * 24.0
    hours = hours - (np.bincount(label, weight * hours) / s0)[label]
    stt = np.bincount(label, weight * hours**2)
    known = stt > s0 * (0.4 * MIN_STEP_HOURS) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = [np.where(known, np.bincount(label, weight * hours * axis) / stt, np.nan) for axis in (east, north)]
        error = np.where(known, 1.0 / np.sqrt(stt), np.inf)
    chi2 = np.zeros(len(s0))
    for axis, slope in zip((east, north), slopes, strict=True):
        mean = np.bincount(label, weight * axis) / s0
        residual = axis - mean[label] - np.nan_to_num(slope)[label] * hours
        chi2 += np.bincount(label, weight * residual**2)
    return np.hypot(slopes[0], slopes[1]), error, chi2


def east_and_north(vector: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (n, 3) unit vectors to the east and to the north at places of the sphere, (n, 3) unit vectors."""
    east = np.stack([-vector[:, 1], vector[:, 0], np.zeros(len(vector))], axis=1)
    norm = np.linalg.norm(east, axis=1, keepdims=True)
    east = np.where(norm > 1e-12, east / np.maximum(norm, 1e-12), [0.0, 1.0, 0.0])
    return east, np.cross(vector, east)


def _local_offsets(points: Points, label: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return offsets east and north of each source's first detection, arcseconds, on its tangent plane."""
    _, first = np.unique(label, return_index=True)
    pole = points.vector[first][label]
    east, north = east_and_north(pole)
    depth = np.einsum("ij,ij->i", points.vector, pole)
    return (
        np.einsum("ij,ij->i", points.vector, east) / depth / ARCSEC,
        np.einsum("ij,ij->i", points.vector, north) / depth / ARCSEC,
    )
