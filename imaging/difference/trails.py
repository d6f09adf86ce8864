"""Short trails on a difference: what moves by many widths of the PSF during an exposure is one source, not many.

The search for streaks needs some hundred pixels. A fast asteroid or a piece of a spike is shorter, and the filter for
point sources finds peaks along it, with light between them, as many and where the noise has them. Connected peaks are
one source if a trail fits their light better than a point source at each. Of faint or uneven trails that are broken
into pieces, four pieces on a line are one source.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from imaging.difference.local_psf import psf_errors
from imaging.difference.records import Difference
from imaging.difference.settings import DetectionSettings
from imaging.difference.trail_fit import FittedTrail, fit_trail
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SADDLE = 0.4
"""Least significance on the line between two connected peaks, over that of the fainter one: of equal point sources
three widths of the PSF apart it is 0.1."""

LEAST_GAIN, LOSS_PER_PARAMETER = 16.0, 3.0
"""By how much the chi-square of a trail must be lower than that of one point source, two parameters at four sigma; and
how much higher than that of two and more it may be for each parameter they have more."""

LOSS_TO_ELLIPSE = 6.0
"""By how much the chi-square of a trail may exceed that of an ellipse, which has a width besides: 2.5 sigma."""

MIN_LENGTH_FWHM, MAX_CONNECTED = 1.0, 12
"""Shortest trail that is told from a point source, widths of the PSF, and most peaks of one."""

ACROSS_FWHM = 0.75
"""Largest distance of a peak from the line of a fitted trail on which it is no source of its own, widths of the PSF."""

MAX_FITTED = 300
"""With more connected or wide peaks the subtraction has failed, and no trail is fitted: one takes 20 ms."""

MIN_PIECES = 4
"""Fewest peaks of a trail: three point sources on a line happen."""

GAP_FWHM, WIDTH_FWHM, LENGTH_FWHM = 8.0, 0.35, 5.0
"""Largest distance of neighbouring peaks, largest rms distance from the line, least length, in widths of the PSF."""

MAX_PAIRS = 5000
"""With more pairs of neighbours the subtraction has failed, and no trail is searched for."""

EVENNESS = 2.0
"""Largest ratio of a piece's significance to the median: a transient on the line stays a source of its own."""

MIN_LIGHT, MIN_BETWEEN = 0.5, 1.0
"""Least mean significance along the line over that of the peaks, and least tenth percentile: point sources on a line
have no light between them."""

MAX_FADE = 1.7
"""Largest ratio of the light of two thirds of the line: a spike fades along it."""


@dataclass(frozen=True, slots=True)
class FoundTrail:
    """A trail, the peaks of which it consists, and that of them which stands for it."""

    trail: FittedTrail
    members: NDArray[np.int64]
    chosen: int


def connected_trails(
    difference: Difference,
    peaks: tuple[FloatArray, FloatArray, FloatArray],
    on_light: BoolArray,
    wide: BoolArray,
    settings: DetectionSettings,
) -> list[FoundTrail]:
    """Find the trails whose light connects their peaks.

    Parameters
    ----------
    difference
        The difference.
    peaks
        (n,) x and y, pixels, and significance, signed.
    on_light
        (n,) whether the template is brighter there.
    wide
        (n,) whether a peak without others may be a trail, because it is wider than a point source.
    settings
        Errors of the PSF model and largest reduced chi-square.
    """
    x, y, score = peaks
    places, fwhm = np.stack([x, y], axis=1), difference.psf.fwhm_pixels
    error, found = np.hypot(settings.psf_error, psf_errors(difference, x, y)), []
    taken = np.zeros(x.size, dtype=bool)
    seen = np.where(difference.weight > 0, difference.score, np.nan)
    groups = _connected(places, score, ~on_light, seen, GAP_FWHM * fwhm)
    groups = [m for m in groups if m.size <= MAX_CONNECTED and (m.size > 1 or wide[m[0]])]
    for members in sorted(groups, key=len, reverse=True) if len(groups) <= MAX_FITTED else ():
        if taken[members].any():
            continue
        trail = fit_trail(
            *(difference.image, difference.weight, difference.psf, places[members]),
            *(difference.photon_gain, float(error[members].max())),
        )
        least = LEAST_GAIN if members.size == 1 else -LOSS_PER_PARAMETER * (3 * members.size - 5)
        if trail is None or trail.gain_on_points < least or trail.chi2 > settings.max_chi2:
            continue
        if trail.gain_on_ellipse < -LOSS_TO_ELLIPSE:
            continue
        if trail.trail_length > MIN_LENGTH_FWHM * fwhm and trail.flux * score[members[0]] > 0:
            signed = score * np.sign(trail.flux)
            others = _on_line(trail, places, fwhm) & (signed > 0) & (signed < EVENNESS * np.median(signed[members]))
            members = np.union1d(members, np.flatnonzero(others & ~taken))
            taken[members] = True
            nearest = np.argmin(np.hypot(x[members] - trail.x, y[members] - trail.y))
            found.append(FoundTrail(trail, members, int(members[nearest])))
    return found


def _on_line(trail: FittedTrail, places: FloatArray, fwhm: float) -> BoolArray:
    """Return (n,) whether places are on the light of a trail."""
    dx, dy = (places - (trail.x, trail.y)).T
    ux, uy = np.array(trail.along) / trail.trail_length
    along, across = np.abs(dx * ux + dy * uy), np.abs(dy * ux - dx * uy)
    return (along < 0.5 * (trail.trail_length + fwhm)) & (across < ACROSS_FWHM * fwhm)


def _connected(
    places: FloatArray, score: FloatArray, usable: BoolArray, image: FloatImage, reach: float
) -> list[NDArray[np.int64]]:
    """Return the groups of usable peaks with light of their sign between them, each ordered along its line.

    Masked pixels, NaN in the image, do not part them: a bad column cuts a trail in two.
    """
    n = len(places)
    pairs = KDTree(places).query_pairs(reach, output_type="ndarray") if n else np.zeros((0, 2), dtype=int)
    pairs = pairs[usable[pairs].all(axis=1) & (score[pairs].prod(axis=1) > 0)]
    if len(pairs) > MAX_PAIRS:
        return []
    joined = []
    for first, second in pairs:
        share = np.linspace(0.0, 1.0, 2 + int(math.dist(places[first], places[second])))[:, None]
        line = places[first] + (places[second] - places[first]) * share
        between = np.sign(score[first]) * map_coordinates(image, line.T[::-1], order=1)
        joined.append(bool(np.nanmin(between, initial=np.inf) > SADDLE * min(abs(score[first]), abs(score[second]))))
    i, j = pairs[np.array(joined, dtype=bool)].T
    _, label = connected_components(coo_array((np.ones(i.size), (i, j)), shape=(n, n)), directed=False)
    groups = []
    for number in np.unique(label[usable]):
        members = np.flatnonzero(label == number)
        centred = places[members] - places[members].mean(axis=0)
        groups.append(members[np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])])
    return groups


def one_of_each_trail(
    x: FloatArray, y: FloatArray, score: FloatArray, on_light: BoolArray, image: FloatImage, fwhm_pixels: float
) -> tuple[BoolArray, BoolArray]:
    """Choose one peak of every trail, the one nearest to its middle.

    Parameters
    ----------
    x, y, score
        (n,) peaks, pixels, and their significance, signed.
    on_light
        (n,) whether the template is brighter there: what is left of a galaxy or of a spike is no trail.
    image
        (ny, nx) float32, the significance.
    fwhm_pixels
        Width of a point source.

    Returns
    -------
    kept, on_trail
        (n,) whether a peak is no other piece of a trail, and whether it is on one.
    """
    places = np.stack([x, y], axis=1)
    kept, on_trail = np.ones(x.size, dtype=bool), np.zeros(x.size, dtype=bool)
    for sign in (1.0, -1.0):
        members = np.flatnonzero((sign * score > 0) & ~on_light)
        pairs = KDTree(places[members]).query_pairs(GAP_FWHM * fwhm_pixels) if members.size >= MIN_PIECES else ()
        for pair in sorted(pairs) if len(pairs) < MAX_PAIRS else ():
            first, second = members[list(pair)]
            if on_trail[first] or on_trail[second]:
                continue
            chain = _chain(first, second, members[~on_trail[members]], places, fwhm_pixels)
            chain = chain[sign * score[chain] < EVENNESS * np.median(sign * score[chain])]
            if _is_trail(chain, places, sign * score, image, fwhm_pixels):
                middle = places[chain[[0, -1]]].mean(axis=0)
                kept[chain], on_trail[chain] = False, True
                kept[chain[np.argmin(np.hypot(*(places[chain] - middle).T))]] = True
    return kept, on_trail


def _chain(first: int, second: int, others: NDArray[np.int64], places: FloatArray, fwhm: float) -> NDArray[np.int64]:
    """Return the peaks on the line through two, from one end to the other, without a gap."""
    ux, uy = (places[second] - places[first]) / math.dist(places[first], places[second])
    for _ in range(2):  # the line of two neighbours is not yet that of all
        dx, dy = (places[others] - places[first]).T
        along, across = dx * ux + dy * uy, dy * ux - dx * uy
        near = np.abs(across) < 2.0 * WIDTH_FWHM * fwhm * np.maximum(1.0, 0.2 * np.abs(along) / fwhm)
        chosen, order = others[near], np.argsort(along[near])
        along, chosen = along[near][order], chosen[order]
        start = int(np.flatnonzero(chosen == first)[0])
        ends = np.flatnonzero(np.diff(along) > GAP_FWHM * fwhm)
        low = int(ends[ends < start].max(initial=-1)) + 1
        high = int(ends[ends >= start].min(initial=along.size - 1)) + 1
        chosen = chosen[low:high]
        centred = places[chosen] - places[chosen].mean(axis=0)
        ux, uy = np.linalg.svd(centred, full_matrices=False)[2][0]
    return chosen[np.argsort(centred @ (ux, uy))]


def _is_trail(chain: NDArray[np.int64], places: FloatArray, score: FloatArray, image: FloatImage, fwhm: float) -> bool:
    """Return whether peaks of one sign are on a line with even light all along it."""
    if chain.size < MIN_PIECES:
        return False
    start, end = places[chain[0]], places[chain[-1]]
    length = math.dist(start, end)
    if length < LENGTH_FWHM * fwhm:
        return False
    ux, uy = (end - start) / length
    centred = places[chain] - places[chain].mean(axis=0)
    if np.sqrt(np.mean((centred[:, 1] * ux - centred[:, 0] * uy) ** 2)) > WIDTH_FWHM * fwhm:
        return False
    share = np.linspace(0.0, 1.0, max(int(length), 2))
    line = start[:, None] + (end - start)[:, None] * share
    light = map_coordinates(image, line[::-1], order=1)
    light *= np.sign(light.sum())
    thirds = [part.mean() for part in np.array_split(light, 3)]
    fades = max(thirds) > MAX_FADE * min(thirds)
    return bool(not fades and light.mean() > MIN_LIGHT * score[chain].mean() and np.quantile(light, 0.1) > MIN_BETWEEN)
