"""Find moving objects (asteroids) within a night by linking detections into tracks.

Tracks start from pairs of detections within the rate limits, are extended to all other exposures, and are accepted if
three or more detections are on a great circle at a constant rate (the tracklets of Kubica et al. 2007, Icarus 189,
151), or if a chance pair of two is improbable. Trails must be as long as the motion and along it. Two of them start a
track at any rate.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.candidates.link import moves_uniformly
from imaging.candidates.points import ARCSEC, MIN_STEP_HOURS, FloatArray, IntArray, Points, fit_motion, renumbered
from imaging.candidates.settings import AssociateSettings
from imaging.candidates.trail_motion import are_pieces, chance_share, pair_chi2, trail_pairs


def link_movers(points: Points, label: IntArray, settings: AssociateSettings) -> tuple[IntArray, NDArray[np.bool_]]:
    """Link detections that do not belong to a stationary source into tracks.

    Parameters
    ----------
    points
        Detections.
    label
        (n,) stationary source of each, from :func:`imaging.candidates.link.link_standing`.
    settings
        Rates and limits.

    Returns
    -------
    label
        (n,) source of each detection, stationary or moving, from 0 without gaps.
    moving
        (n,) whether the detection belongs to a moving object.
    """
    moving = np.zeros(len(points), dtype=bool)
    joined = label.copy()
    for track in _tracks(points, label, settings):
        joined[track] = label.max() + 1 + label[track[0]]
        moving[track] = True
    joined = renumbered(joined)
    for members in _drifting(points, joined, settings):
        moving[members] |= moves_uniformly(points.subset(members), settings)
    return joined, moving


def _drifting(points: Points, label: IntArray, settings: AssociateSettings) -> list[IntArray]:
    """Return the detections of each source whose motion may be significant."""
    rate, error, _ = fit_motion(points, label)
    suspect = np.flatnonzero((rate > 4.0 * error) & (rate > settings.min_rate_arcsec_per_hour))
    order = np.argsort(label, kind="stable")
    start, end = (np.searchsorted(label[order], suspect, side=side) for side in ("left", "right"))
    return [order[a:b] for a, b in zip(start, end, strict=True)]


def _loose(points: Points, label: IntArray, settings: AssociateSettings) -> IntArray:
    """Return the detections of sources that were detected for a short time only."""
    earliest = np.full(label.max() + 1, np.inf)
    latest = np.full(label.max() + 1, -np.inf)
    np.minimum.at(earliest, label, points.mjd)
    np.maximum.at(latest, label, points.mjd)
    return np.flatnonzero(((latest - earliest) * 1440.0 < settings.brief_minutes)[label])


def _tracks(points: Points, label: IntArray, settings: AssociateSettings) -> list[IntArray]:
    """Return the accepted tracks, longest and straightest first, without common detections."""
    loose = _loose(points, label, settings)
    loose = loose[~are_pieces(points, settings)[loose]]
    first, second = _start_pairs(points, label, loose, settings)
    free = np.ones(len(points), dtype=bool)
    accepted = []
    for track in sorted(_extend(points, loose, first, second, settings), key=lambda t: (-len(t), t.tolist())):
        if free[track].all() and moves_uniformly(points.subset(track), settings):
            free[track] = False
            accepted.append(track)
    single = np.bincount(label)[label] == 1
    alone = free & single
    return accepted + _believable_pairs(points, np.flatnonzero(single), first, second, alone, settings)


def _start_pairs(
    points: Points, label: IntArray, loose: IntArray, settings: AssociateSettings
) -> tuple[IntArray, IntArray]:
    """Return pairs of detections (earlier, later) of different sources within the rate limits, in order."""
    exposures = np.unique(points.expnum[loose])
    members = [loose[points.expnum[loose] == expnum] for expnum in exposures]
    members.sort(key=lambda here: (points.mjd[here[0]], points.expnum[here[0]]))
    trees = [cKDTree(points.vector[here]) for here in members]
    found = [np.empty((0, 2), dtype=np.int64)]
    for i, early in enumerate(members):
        partners = 0
        for j in range(i + 1, len(members)):
            hours = (points.mjd[members[j][0]] - points.mjd[early[0]]) * 24.0
            if hours > settings.max_link_hours or partners == settings.link_partners:
                break
            if hours < MIN_STEP_HOURS:
                continue
            reach = _reach(trees[i], trees[j], settings.max_rate_arcsec_per_hour * hours * ARCSEC, settings)
            near = trees[i].sparse_distance_matrix(trees[j], reach, output_type="ndarray")
            partners += len(near) > 0
            near = near[near["v"] >= settings.min_rate_arcsec_per_hour * hours * ARCSEC]
            found.append(np.stack([early[near["i"]], members[j][near["j"]]], axis=1))
    pairs = np.unique(np.concatenate([*found, trail_pairs(points, loose, settings)]), axis=0)
    pairs = pairs[label[pairs[:, 0]] != label[pairs[:, 1]]]
    first, second = (points.subset(side) for side in pairs.T)
    agree = np.maximum(*pair_chi2(first, second)) < settings.chi2_limit
    return pairs[agree, 0], pairs[agree, 1]


def _reach(first: cKDTree, second: cKDTree, reach: float, settings: AssociateSettings) -> float:
    """Reduce a search radius (radians) until it contains no more detections on average than allowed."""
    crowding = first.count_neighbors(second, reach) / first.n
    return reach * min(1.0, np.sqrt(settings.link_crowding / crowding)) if crowding > 0 else reach


def _extend(
    points: Points, loose: IntArray, first: IntArray, second: IntArray, settings: AssociateSettings
) -> list[IntArray]:
    """Extend each pair to all other exposures; return the distinct sets of three or more detections."""
    if len(first) == 0:
        return []
    start, step = points.vector[first], points.vector[second] - points.vector[first]
    duration = points.mjd[second] - points.mjd[first]
    found = [np.stack([np.arange(len(first)), member], axis=1) for member in (first, second)]
    for expnum in np.unique(points.expnum[loose]):
        here = loose[points.expnum[loose] == expnum]
        fraction = (points.mjd[here[0]] - points.mjd[first]) / duration
        usable = np.flatnonzero((points.expnum[first] != expnum) & (points.expnum[second] != expnum))
        predicted = start[usable] + fraction[usable, None] * step[usable]
        predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
        spread = np.sqrt(
            (points.sigma_arcsec[first[usable]] * (1 - fraction[usable])) ** 2
            + (points.sigma_arcsec[second[usable]] * fraction[usable]) ** 2
        )
        tolerance = np.minimum(4.0 * np.hypot(spread, settings.path_floor_arcsec), 5.0)
        distance, nearest = cKDTree(points.vector[here]).query(predicted)
        hit = distance / ARCSEC < np.hypot(tolerance, 4.0 * points.sigma_arcsec[here[nearest]])
        found.append(np.stack([usable[hit], here[nearest[hit]]], axis=1))
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    tracks = np.split(pairs[:, 1], np.flatnonzero(np.diff(pairs[:, 0])) + 1)
    return [np.array(members) for members in {tuple(track.tolist()) for track in tracks} if len(members) >= 3]


def _believable_pairs(
    points: Points,
    loose: IntArray,
    first: IntArray,
    second: IntArray,
    free: NDArray[np.bool_],
    settings: AssociateSettings,
) -> list[IntArray]:
    """Return pairs unlikely by chance: few unassociated detections around, and consistent magnitudes."""
    kept = free[first] & free[second]
    first, second = first[kept], second[kept]
    if len(first) == 0:
        return []
    step = np.linalg.norm(points.vector[first] - points.vector[second], axis=1) / ARCSEC
    expected = np.pi * step**2 * chance_share(points.subset(first), points.subset(second))
    for kind in (loose[~points.is_trail[loose]], loose[points.is_trail[loose]]):
        same = np.isin(second, kind)
        expected[same] *= _loose_density(points, kind, first[same])
    same_band = points.band[first] == points.band[second]
    jump = np.abs(points.mag[first] - points.mag[second])
    allowed = settings.pair_mag_limit + 3 * np.hypot(points.mag_error[first], points.mag_error[second])
    good = (expected < settings.pair_chance_limit) & ~(same_band & (jump > allowed))
    accepted = []
    for i in np.flatnonzero(good)[np.argsort(expected[good], kind="stable")]:
        if free[first[i]] and free[second[i]]:
            free[[first[i], second[i]]] = False
            accepted.append(np.array([first[i], second[i]]))
    return accepted


def _loose_density(points: Points, loose: IntArray, first: IntArray) -> FloatArray:
    """Return the density of loose detections of other exposures around pairs, per square arcsecond.

    Counted within two arcminutes, without the pair itself; the second one is among the loose ones.
    """
    radius = 120.0
    tree = cKDTree(points.vector[loose])
    everything = tree.query_ball_point(points.vector[first], radius * ARCSEC, return_length=True)
    count = everything.astype(float) - 1.0
    for expnum in np.unique(points.expnum[first]):
        here = np.flatnonzero(points.expnum[first] == expnum)
        own = cKDTree(points.vector[loose[points.expnum[loose] == expnum]])
        count[here] -= own.query_ball_point(points.vector[first[here]], radius * ARCSEC, return_length=True)
    return np.maximum(count, 0.2) / (np.pi * radius**2)
