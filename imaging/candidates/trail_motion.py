"""What the trail of a fast mover says about its motion: its length over the exposure time, in one of two senses.

A trail is drawn by many things that do not come back: glints of satellites, pieces of spikes. One of an asteroid
predicts where the next one is, how long and in which direction. Pieces of a spike or of a satellite lie on one line.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.candidates.points import ARCSEC, MIN_STEP_HOURS, FloatArray, IntArray, Points
from imaging.candidates.settings import AssociateSettings

LINE_ARCSEC = 120.0
"""Largest distance of two trails of an exposure that are taken for pieces of one line."""


def trail_chi2(points: Points, motion: FloatArray) -> FloatArray:
    """Return (n,) chi-squares, of two degrees of freedom, of trails for a motion.

    Parameters
    ----------
    points
        Detections.
    motion
        (n, 3) or (3,) motion, radians per day.

    Returns
    -------
    chi2
        Of length and direction; 0 for point sources.
    """
    length = np.linalg.norm(points.trail, axis=1)
    is_trail = length > 0
    moved = motion * points.trail_days[:, None]
    along = np.abs(np.einsum("ij,ij->i", moved, points.trail)) / np.where(is_trail, length, 1.0)
    across = np.sqrt(np.maximum(np.einsum("ij,ij->i", moved, moved) - along**2, 0.0))
    error = np.where(is_trail[:, None], points.trail_error_arcsec, 1.0) * ARCSEC
    return np.where(is_trail, ((along - length) / error[:, 0]) ** 2 + (across / error[:, 1]) ** 2, 0.0)


def pair_chi2(first: Points, second: Points) -> tuple[FloatArray, FloatArray]:
    """Return (n,) :func:`trail_chi2` of both detections of pairs for the motion from the first to the second."""
    motion = (second.vector - first.vector) / (second.mjd - first.mjd)[:, None]
    return trail_chi2(first, motion), trail_chi2(second, motion)


def chance_share(first: Points, second: Points) -> FloatArray:
    """Return (n,) the chance that trails of any direction, up to as long as these, agree as well with pairs' motions.

    One for point sources. An agreement better than the expected one, a chi-square of two, counts as that.
    """
    share = np.ones(len(first))
    for trails, chi2 in zip((first, second), pair_chi2(first, second), strict=True):
        length = np.linalg.norm(trails.trail, axis=1) / ARCSEC
        area = 2.0 * np.maximum(chi2, 2.0) * np.prod(trails.trail_error_arcsec, axis=1)
        share *= np.where(length > 0, np.minimum(area / np.where(length > 0, length, 1.0) ** 2, 1.0), 1.0)
    return share


def are_pieces(points: Points, settings: AssociateSettings) -> NDArray[np.bool_]:
    """Return (n,) which detections are trails with another one of the same exposure on their line."""
    pieces, trails = np.zeros(len(points), dtype=bool), np.flatnonzero(points.is_trail)
    pairs = trails[cKDTree(points.vector[trails]).query_pairs(LINE_ARCSEC * ARCSEC, output_type="ndarray")]
    pairs = pairs[points.expnum[pairs[:, 0]] == points.expnum[pairs[:, 1]]]
    line = points.vector[pairs[:, 1]] - points.vector[pairs[:, 0]]
    line /= np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-15)
    across = np.linalg.norm(np.cross(points.trail[pairs], line[:, None]), axis=2) / ARCSEC
    on_line = across < np.sqrt(settings.chi2_limit) * points.trail_error_arcsec[pairs, 1]
    pieces[pairs[on_line.all(axis=1)]] = True
    return pieces


def trail_pairs(points: Points, loose: IntArray, settings: AssociateSettings) -> IntArray:
    """Return (k, 2) pairs of loose trails, the earlier one first, of which the first predicts the second's place."""
    trails = loose[points.is_trail[loose]]
    members = [trails[points.expnum[trails] == expnum] for expnum in np.unique(points.expnum[trails])]
    trees = [cKDTree(points.vector[here]) for here in members]
    found = [np.empty((0, 2), dtype=np.int64)]
    for early in members:
        for late, tree in zip(members, trees, strict=True):
            days = points.mjd[late[0]] - points.mjd[early[0]]
            if not MIN_STEP_HOURS <= days * 24.0 <= settings.max_link_hours:
                continue
            exposures = days / points.trail_days[early]
            error = np.sqrt(settings.chi2_limit) * points.trail_error_arcsec[early].max(axis=1) * ARCSEC
            for sense in (1.0, -1.0):
                place = points.vector[early] + sense * exposures[:, None] * points.trail[early]
                place /= np.linalg.norm(place, axis=1, keepdims=True)
                near = tree.query_ball_point(place, exposures * error + settings.max_separation_arcsec * ARCSEC)
                found += [np.stack(np.broadcast_arrays(a, late[b]), axis=1) for a, b in zip(early, near, strict=True)]
    return np.concatenate(found)
