"""Group the detections of a night into stationary sources.

Pairs of detections in different exposures whose separation is within their errors are joined; the connected groups
are candidates unless they hold two detections of one exposure or are wider than the errors allow. Such groups are
split by going through the exposures in time, each matched to the sources found so far at the least total chi-square
over the whole group (the assignment problem) rather than to nearest neighbours. A wide group that fits one uniform
motion is not split: a slowly moving object. The result does not depend on the order of the input.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from imaging.candidates.points import ARCSEC, FloatArray, IntArray, Points, fit_motion, mean_vectors, renumbered
from imaging.candidates.settings import AssociateSettings
from imaging.candidates.trail_motion import trail_chi2


def link_standing(points: Points, settings: AssociateSettings) -> IntArray:
    """Return the (n,) number of the stationary source of each detection, from 0 without gaps; a trail has its own."""
    n = len(points)
    pairs = cKDTree(points.vector).query_pairs(settings.max_separation_arcsec * ARCSEC, output_type="ndarray")
    first, second = pairs[:, 0], pairs[:, 1]
    near = points.expnum[first] != points.expnum[second]
    near &= _pair_chi2(points, first, second) < settings.chi2_limit
    near &= ~(points.is_trail[first] | points.is_trail[second])
    first, second = first[near], second[near]
    graph = coo_matrix((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    unused = n
    for group in _doubtful_groups(points, label, settings):
        if not moves_uniformly(points.subset(group), settings):
            label[group] = unused + _take_apart(points, group, settings)
            unused += len(group)
    return renumbered(label)


def moves_uniformly(track: Points, settings: AssociateSettings) -> bool:
    """Return whether detections of one object in different exposures show a significant uniform motion.

    Three or more are needed; the rate must be within the limits and five times its error, the path straight, and trails
    as long as the motion and along it. There is no upper limit for trails.
    """
    n = len(track)
    if n < 3 or len(np.unique(track.expnum)) < n:
        return False
    loosened = replace(track, sigma_arcsec=np.hypot(track.sigma_arcsec, _path_error(track, settings)))
    rate, error, chi2 = (value[0] for value in fit_motion(loosened, np.zeros(n, dtype=np.int64)))
    fastest = np.inf if track.is_trail.all() else settings.max_rate_arcsec_per_hour
    possible = settings.min_rate_arcsec_per_hour <= rate <= fastest and rate > 5.0 * error
    first, last = np.argmin(track.mjd), np.argmax(track.mjd)
    motion = (track.vector[last] - track.vector[first]) / max(track.mjd[last] - track.mjd[first], 1e-9)
    freedom = 2 * n - 4 + 2 * int(track.is_trail.sum())
    return bool(possible and chi2 + trail_chi2(track, motion).sum() < settings.chi2_limit + 2.0 * freedom)


def _path_error(track: Points, settings: AssociateSettings) -> float:
    """Return the allowed deviation from uniform motion: that of a whole night, less for a shorter time."""
    hours = float(np.ptp(track.mjd)) * 24.0
    return settings.path_floor_arcsec * min(1.0, (hours / 6.0) ** 2)


def _pair_chi2(points: Points, first: IntArray, second: IntArray) -> FloatArray:
    separation = np.linalg.norm(points.vector[first] - points.vector[second], axis=1) / ARCSEC
    return separation**2 / (points.sigma_arcsec[first] ** 2 + points.sigma_arcsec[second] ** 2)


def _doubtful_groups(points: Points, label: NDArray[np.integer], settings: AssociateSettings) -> list[IntArray]:
    """Return the groups with two detections of one exposure or a detection too far from the mean."""
    mean, _ = mean_vectors(points, label.astype(np.int64))
    separation = np.linalg.norm(points.vector - mean[label], axis=1) / ARCSEC
    far = (separation / points.sigma_arcsec) ** 2 > settings.chi2_limit
    _, place, count = np.unique(np.stack([label, points.expnum]), axis=1, return_inverse=True, return_counts=True)
    doubtful = np.unique(label[far | (count[place.ravel()] > 1)])
    order = np.argsort(label, kind="stable")
    start = np.searchsorted(label[order], doubtful, side="left")
    end = np.searchsorted(label[order], doubtful, side="right")
    return [np.sort(order[a:b]) for a, b in zip(start, end, strict=True)]


def _take_apart(points: Points, group: IntArray, settings: AssociateSettings) -> IntArray:
    """Return source numbers from 0 for the members of an ambiguous group, which are ordered by time."""
    number = np.full(len(group), -1, dtype=np.int64)
    sums = np.empty((0, 4))
    for expnum in dict.fromkeys(points.expnum[group].tolist()):
        members = np.flatnonzero(points.expnum[group] == expnum)
        vector, sigma = points.vector[group[members]], points.sigma_arcsec[group[members]]
        chosen = _assign(sums, vector, sigma, settings.chi2_limit)
        for member, v, s, source in zip(members, vector, sigma, chosen, strict=True):
            term = np.append(v, 1.0)[None, :] / s**2
            if source < 0:
                number[member] = len(sums)
                sums = np.concatenate([sums, term])
            else:
                number[member] = source
                sums[source] += term[0]
    return number


def _assign(sums: FloatArray, vector: FloatArray, sigma: FloatArray, chi2_limit: float) -> IntArray:
    """Match detections of one exposure to known sources at the least total chi-square; -1 for a new source."""
    if len(sums) == 0:
        return np.full(len(vector), -1, dtype=np.int64)
    mean = sums[:, :3] / np.linalg.norm(sums[:, :3], axis=1, keepdims=True)
    separation = np.linalg.norm(vector[:, None, :] - mean[None, :, :], axis=2) / ARCSEC
    cost = separation**2 / (sigma[:, None] ** 2 + 1.0 / sums[None, :, 3])
    alone = np.full((len(vector), len(vector)), chi2_limit)
    row, column = linear_sum_assignment(np.concatenate([np.minimum(cost, 1e6), alone], axis=1))
    chosen = np.full(len(vector), -1, dtype=np.int64)
    known = column < len(sums)
    chosen[row[known]] = column[known]
    return chosen
