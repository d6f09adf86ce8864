"""Footprints of CCD images on the sky, and which of them cover a position."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from imaging.skymap.model import FloatArray, IntArray
from imaging.wcs.sphere import unit_vectors


@dataclass(frozen=True, eq=False)
class Footprints:
    """CCD images on the sky, one per CCD and exposure.

    Attributes
    ----------
    expnum, ccd
        (n,) int64, exposure and CCD number.
    band
        (n,) text.
    mjd
        (n,) middle of the exposure, UTC.
    corners
        (n, 4, 2) RA and Dec of the outer corners, degrees, in cyclic order.
    m50_mag
        (n,) magnitude at which half of the fakes are found; NaN if unknown.
    width_mag, efficiency_max
        (n,) width of the Gaussian integral fitted to the efficiency of the fakes, and efficiency at the bright end;
        NaN, or None for all, if unknown.
    noise_peaks
        (n,) expected number of peaks of noise above five sigma; NaN, or None for all, if unknown.
    """

    expnum: IntArray
    ccd: IntArray
    band: NDArray[np.str_]
    mjd: FloatArray
    corners: FloatArray
    m50_mag: FloatArray
    width_mag: FloatArray | None = None
    efficiency_max: FloatArray | None = None
    noise_peaks: FloatArray | None = None

    def __len__(self) -> int:
        """Return the number of CCD images."""
        return len(self.expnum)

    def corner_vectors(self) -> FloatArray:
        """Return the (n, 4, 3) unit vectors of the corners, counter-clockwise as seen from inside the sphere."""
        flat = self.corners.reshape(-1, 2)
        vectors = unit_vectors(flat[:, 0], flat[:, 1]).reshape(-1, 4, 3)
        diagonals = np.cross(vectors[:, 2] - vectors[:, 0], vectors[:, 3] - vectors[:, 1])
        backwards = np.sum(diagonals * vectors.mean(axis=1), axis=1) < 0
        vectors[backwards] = vectors[backwards, ::-1]
        return vectors


def known_or(values: FloatArray | None, default: float, n: int) -> FloatArray:
    """Return (n,) values, with the default for unknown ones."""
    if values is None:
        return np.full(n, default)
    return np.where(np.isfinite(values), values, default)


def inside(corner_vectors: FloatArray, positions: FloatArray) -> NDArray[np.bool_]:
    """Return whether each position is inside the convex footprint of the same index.

    Parameters
    ----------
    corner_vectors
        (n, 4, 3) from :meth:`Footprints.corner_vectors`.
    positions
        (n, 3) unit vectors.

    Returns
    -------
    inside
        (n,) bool.
    """
    result = np.ones(len(positions), dtype=bool)
    for side in range(4):
        normal = np.cross(corner_vectors[:, side], corner_vectors[:, (side + 1) % 4])
        result &= np.einsum("ij,ij->i", normal, positions) >= 0.0
    return result


def covering(footprints: Footprints, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[IntArray, IntArray]:
    """Find which footprints cover which positions.

    Parameters
    ----------
    footprints
        CCD images.
    ra_deg, dec_deg
        (m,) positions, degrees.

    Returns
    -------
    footprint, position
        (k,) indices of the pairs, ordered by footprint and then position.
    """
    positions = unit_vectors(ra_deg, dec_deg)
    nothing = np.empty(0, dtype=np.int64)
    if len(footprints) == 0 or len(positions) == 0:
        return nothing, nothing
    vectors = footprints.corner_vectors()
    centres = vectors.mean(axis=1)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    reach = np.linalg.norm(vectors - centres[:, None, :], axis=2).max(axis=1) * (1 + 1e-9)
    near = cKDTree(positions).query_ball_point(centres, reach, return_sorted=True)
    counts = np.array([len(found) for found in near])
    footprint = np.repeat(np.arange(len(footprints)), counts)
    position = np.concatenate([np.asarray(found, dtype=np.int64) for found in near]) if counts.sum() else nothing
    kept = inside(vectors[footprint], positions[position])
    return footprint[kept], position[kept]


def count_exposures(footprints: Footprints, ra_deg: ArrayLike, dec_deg: ArrayLike) -> IntArray:
    """Return the (m,) number of different exposures that cover each position."""
    footprint, position = covering(footprints, ra_deg, dec_deg)
    seen = np.unique(np.stack([position, footprints.expnum[footprint]], axis=1), axis=0)
    return np.bincount(seen[:, 0].astype(np.int64), minlength=len(np.atleast_1d(ra_deg)))
