"""Match detections to reference stars by a histogram of offsets, for a pointing known to an arcminute.

All differences between the brightest reference stars and the brightest detections are counted in a histogram of
offsets; true pairs form a peak. The peak is tested against the chance of such a peak in the surrounding counts, so
that a wrong match is rejected. A similarity transformation of the pairs in the peak, fitted robustly with decreasing
matching radius, gives the final mutual nearest neighbours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from scipy.special import gammainc

from imaging.astrometry.settings import AstrometrySettings
from imaging.errors import CcdError
from imaging.numerics.robust import clipped

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BIN_ARCSEC = 1.5
"""Bin width of the offset histogram."""

BOXES = (3, 5)
"""Sides, in bins, of the boxes in which pairs are counted: the peak is as wide as the displacements by scale and
rotation within a CCD, which are small where both are known."""

DEPTHS = (3, 10)
"""Numbers of brightest detections tried, in units of the number of reference stars, beside all detections."""


@dataclass(frozen=True, eq=False)
class Match:
    """Matched pairs.

    Attributes
    ----------
    detection, reference
        (n,) indices of the pairs.
    transformation
        (2, 3) from the seed's standard coordinates to the reference's, both in arcseconds: the last column is the
        offset at the CCD.
    chance
        Probability that the peak of pairs arose by chance.
    """

    detection: IntArray
    reference: IntArray
    transformation: FloatArray
    chance: float


def match_stars(
    detected: FloatArray, brightness: FloatArray, reference: FloatArray, mag: FloatArray, settings: AstrometrySettings
) -> Match:
    """Match detections to reference stars.

    Parameters
    ----------
    detected
        (n, 2) standard coordinates of the detections under the seed, arcseconds.
    brightness
        (n,) any quantity that increases with flux.
    reference
        (m, 2) standard coordinates of the reference stars on and around the CCD, arcseconds.
    mag
        (m,) their magnitudes.
    settings
        Search radius, significance and matching radius.

    Raises
    ------
    CcdError
        With reason ``too_few_stars`` if there is not enough to match, ``astrometry_no_match`` if no match is
        significant.
    """
    fewest = min(len(detected), len(reference))
    if fewest < settings.minimum_stars:
        raise _too_few(len(detected), len(reference), settings)
    centre = detected.mean(axis=0)
    stars = reference[np.argsort(mag, kind="stable")[: settings.search_stars]] - centre
    ranked = detected[np.argsort(-brightness, kind="stable")[: settings.search_stars]] - centre
    chance, turn, offset, bright = _search(ranked, stars, settings)
    if chance > settings.chance_probability:
        raise _no_match("no significant match between detections and reference stars", f"chance {chance:.1e}", settings)
    transformation = _refine(bright, stars, turn, offset, settings)
    pairs = _mutual_pairs((detected - centre) @ transformation[:, :2].T + transformation[:, 2], reference - centre, 1.0)
    transformation = _similarity(*_taken(detected - centre, reference - centre, pairs), transformation)
    moved = (detected - centre) @ transformation[:, :2].T + transformation[:, 2]
    found, wanted = _mutual_pairs(moved, reference - centre, settings.match_radius_arcsec)
    if found.size < settings.minimum_stars:
        raise _no_match("too few detections lie at reference stars", f"{found.size} pairs", settings)
    return Match(found, wanted, transformation, chance)


def _search(
    ranked: FloatArray, stars: FloatArray, settings: AstrometrySettings
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Try depths, rotations and scales in turn until a match is significant.

    If there are few reference stars, only the brightest detections are tried first: chance peaks become more likely
    with more detections.

    Returns
    -------
    chance, turn, offset, bright
        Probability of a chance peak, (2, 2) rotation and offset of the best try, and the detections used.
    """
    depths = sorted({min(len(ranked), factor * len(stars)) for factor in DEPTHS} | {len(ranked)})
    best = (np.inf, np.eye(2), np.zeros(2), ranked)
    for rotation in settings.search_rotations_deg:
        for scale in settings.search_scales:
            turn = _turn(rotation, scale)
            for depth in depths:
                offset, chance = _best_offset(ranked[:depth] @ turn.T, stars, settings)
                if chance < best[0]:
                    best = (chance, turn, offset, ranked[:depth])
        if best[0] < settings.chance_probability * 1e-3:
            break
    return best


def _turn(rotation_deg: float, scale: float) -> FloatArray:
    angle = np.radians(rotation_deg)
    return (1.0 + scale) * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _best_offset(detected: FloatArray, stars: FloatArray, settings: AstrometrySettings) -> tuple[FloatArray, float]:
    """Return the offset of the highest peak of pairs, and the probability of such a peak by chance."""
    half = int(np.ceil(settings.search_radius_arcsec / BIN_ARCSEC))
    size = 2 * half + 1
    difference = (stars[:, None, :] - detected[None, :, :]).reshape(-1, 2)
    bins = np.floor(difference / BIN_ARCSEC + 0.5).astype(np.int64) + half
    inside = ((bins >= 0) & (bins < size)).all(axis=1)
    flat = np.bincount(bins[inside, 1] * size + bins[inside, 0], minlength=size * size)
    counts = flat.reshape(size, size).astype(np.float64)
    best_chance, best_offset = np.inf, np.zeros(2)
    for side in BOXES:
        log_chance = _log_chance(counts, side)
        peak = int(np.argmin(log_chance))
        if log_chance.flat[peak] < best_chance:
            row, column = divmod(peak, size)
            centre = BIN_ARCSEC * np.array([column - half, row - half], dtype=float)
            near = difference[(np.abs(difference - centre) < BIN_ARCSEC * side / 2).all(axis=1)]
            best_chance, best_offset = float(log_chance.flat[peak]), np.median(near, axis=0)
    tries = len(settings.search_rotations_deg) * len(settings.search_scales) * len(BOXES) * (len(DEPTHS) + 1)
    return best_offset, float(min(1.0, size * size * tries * np.exp(best_chance)))


def _log_chance(counts: FloatArray, side: int) -> FloatArray:
    """Return the logarithm of the probability of at least the counts in a box, given the counts around it."""
    box = side**2 * uniform_filter(counts, side, mode="constant")
    wide = 3 * side
    share = uniform_filter(np.ones_like(counts), wide, mode="constant")
    around = wide**2 * uniform_filter(counts, wide, mode="constant") / share
    expected = np.maximum((around - box) / (wide**2 - side**2) * side**2, counts.mean() * side**2)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(gammainc(np.rint(box), np.maximum(expected, 1e-3))))  # Poisson: at least so many


def _mutual_pairs(moved: FloatArray, reference: FloatArray, radius: float) -> tuple[IntArray, IntArray]:
    """Return the pairs of mutual nearest neighbours within a radius."""
    distance, nearest = cKDTree(reference).query(moved, distance_upper_bound=radius)
    _, back = cKDTree(moved).query(reference)
    found = np.flatnonzero(np.isfinite(distance))
    found = found[back[nearest[found]] == found]
    return found, nearest[found]


def _taken(
    detected: FloatArray, reference: FloatArray, pairs: tuple[IntArray, IntArray]
) -> tuple[FloatArray, FloatArray]:
    return detected[pairs[0]], reference[pairs[1]]


def _refine(
    detected: FloatArray, stars: FloatArray, turn: FloatArray, offset: FloatArray, settings: AstrometrySettings
) -> FloatArray:
    """Refine the peak of pairs to a transformation accurate to a fraction of an arcsecond."""
    transformation = np.column_stack([turn, offset])
    for radius in (4.0, 3.0, 2.0, 1.5, 1.0):
        moved = detected @ transformation[:, :2].T + transformation[:, 2]
        pairs = _mutual_pairs(moved, stars, radius)
        if pairs[0].size < settings.minimum_stars:
            raise _no_match(
                f"too few pairs remain at a matching radius of {radius:g} arcsec", f"{pairs[0].size} pairs", settings
            )
        transformation = _similarity(*_taken(detected, stars, pairs), transformation)
    return transformation


def _similarity(source: FloatArray, target: FloatArray, start: FloatArray) -> FloatArray:
    """Fit shift, rotation and scale to pairs, clipped; with fewer than five pairs only the shift."""
    if len(source) < 3:
        return start
    transformation = start.copy()
    keep = np.ones(len(source), bool)
    for _ in range(8):
        s, t = source[keep], target[keep]
        if len(s) < 5:
            transformation[:, 2] = np.median(t - s @ transformation[:, :2].T, axis=0)
        else:
            s0, t0 = s.mean(axis=0), t.mean(axis=0)
            a, b = s - s0, t - t0
            power = float((a**2).sum())
            p = float((a * b).sum()) / power
            q = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power
            matrix = np.array([[p, -q], [q, p]])
            transformation = np.column_stack([matrix, t0 - matrix @ s0])
        distance = np.linalg.norm(target - source @ transformation[:, :2].T - transformation[:, 2], axis=1)
        new = clipped(distance, 3.0)
        if new.sum() < 3 or np.array_equal(new, keep):
            break
        keep = new
    return transformation


def _too_few(n_detected: int, n_reference: int, settings: AstrometrySettings) -> CcdError:
    return CcdError(
        "too few stars for astrometry",
        reason="too_few_stars",
        step="astrometry",
        value=f"{n_detected} detections, {n_reference} reference stars",
        limit=f"at least {settings.minimum_stars} of each",
        remedy="check for clouds and that the reference catalogue covers the field",
    )


def _no_match(problem: str, value: str, settings: AstrometrySettings) -> CcdError:
    return CcdError(
        problem,
        reason="astrometry_no_match",
        step="astrometry",
        value=value,
        limit=f"{settings.minimum_stars} pairs, chance below {settings.chance_probability:g}",
        remedy="check the header's pointing, the focus, and that the reference catalogue covers the field",
    )
