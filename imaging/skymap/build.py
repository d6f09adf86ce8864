"""Build a :class:`~imaging.skymap.model.SkyMap` from flat or multi-order HEALPix columns."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from astropy_healpix import core as healpix
from numpy.typing import ArrayLike, NDArray

from imaging.errors import InputError
from imaging.skymap.distance import moments_of, norm_of
from imaging.skymap.model import DEEPEST_ORDER, SUM_TOLERANCE, DistanceColumns, FloatArray, IntArray, SkyMap
from imaging.wcs.sphere import separation_deg

REMEDY = "fetch the sky map again, or another version of it"

UNSEEN = -1.6375e30
"""Value of pixels without data in HEALPix files."""

LARGEST_SUM = 1e20
"""Sum of the values of a map above which it is none of probabilities, normalised or not."""

LARGEST_DISTANCE = 1e9
"""Largest distance that is possible, Mpc."""

LARGEST_NORM = 1e100
"""Largest norm of a distance, 1/Mpc^2; where the distance is far below zero, real maps have 1e33."""

LITTLE = 4e-7
"""Probability of four neighbours of a large flat map below which they become one pixel: a field of DECam on them has
1e-4, and published multi-order maps have larger pixels there."""

MANY = 20_000
"""Number of pixels in a 48th of the sky from which on they do: a million on the whole sky need 0.05 GB."""

NEGLIGIBLE = 1e-7
"""Probability that the dropped pixels of a large flat map may have together, relative to its sum."""

ROUNDING = 1e-6
"""Largest negative probability that is a rounding error, in units of the largest probability."""

LEVEL_TOLERANCE = 0.02
"""Largest distance from one of the highest credible level of a map. The mean of the levels of a whole sky is above one
half, because the pixels of highest density come first."""

DISTANCE_NAMES = ("mu_mpc", "sigma_mpc", "norm")


def skymap_from_flat(
    probability: ArrayLike,
    *,
    nested: bool,
    index: ArrayLike | None = None,
    nside: int | None = None,
    distance: Mapping[str, ArrayLike] | None = None,
    **about: str | float,
) -> SkyMap:
    """Build a sky map from pixels of one size.

    Neighbours with the same values are merged into larger pixels without loss, and pixels without probability are
    dropped, which reduces a map of 50 million pixels to thousands.

    Parameters
    ----------
    probability
        (n,) probability per pixel.
    nested
        Whether the pixels are numbered in nested rather than ring order.
    index
        (n,) pixel numbers; all pixels in order if None.
    nside
        HEALPix resolution; from the number of pixels if None.
    distance
        Columns ``mu_mpc``, ``sigma_mpc`` and ``norm``, (n,) each.
    about
        Further attributes of the map, such as ``name`` and ``mjd``.

    Raises
    ------
    InputError
        If this is not a sky map.
    """
    values = np.asarray(probability, dtype=float).ravel()
    nside = round(np.sqrt(values.size / 12.0)) if nside is None else int(nside)
    order = int(nside).bit_length() - 1
    whole = index is None
    if nside < 1 or nside != 1 << order or (whole and values.size != 12 * nside**2):
        raise InputError(
            "the sky map has an impossible number of pixels",
            value=f"{values.size} at nside {nside}",
            limit="12 nside^2 with nside a power of two",
            remedy=REMEDY,
        )
    values = clean_probability(values)
    if whole:
        _require_no_levels(float(values.max()), float(values.sum()), values.size)
    kept = np.flatnonzero(values)
    pixel = kept if whole else np.asarray(index, dtype=np.int64)[kept]
    if np.any((pixel < 0) | (pixel >= 12 * nside**2)):
        raise InputError("the sky map has pixel numbers out of range", limit=f"0 to {12 * nside**2 - 1}", remedy=REMEDY)
    if not nested:
        pixel = healpix.ring_to_nested(pixel, nside)
    columns = [values[kept], *_distance_arrays(distance, kept)]
    return _finish(np.full(kept.size, order, dtype=np.int64), pixel.astype(np.int64), columns, about, join=True)


def skymap_from_parts(
    read: Callable[[slice | IntArray, int | None], list[FloatArray]], nside: int, *, nested: bool, **about: str | float
) -> SkyMap:
    """Build a sky map of the whole sky from pixels of one size, a quarter of a base pixel at a time, to save memory.

    Pixels that together have less than 1e-7 of the probability are dropped. Where :data:`MANY` pixels remain, four
    neighbours that together have less than :data:`LITTLE` become one, with the mean of their distances.

    Parameters
    ----------
    read
        Returns probability and, if there is one, distance (as :class:`~imaging.skymap.model.DistanceColumns`) of some
        rows; of these columns the first ones if a number is given.
    nside
        HEALPix resolution, a power of two.
    nested
        Whether the rows are in nested rather than ring order.
    about
        Further attributes of the map, such as ``name`` and ``mjd``.

    Raises
    ------
    InputError
        If this is not a sky map.
    """
    level, size, n_pixels = nside.bit_length() - 1, nside**2 // 4, 12 * nside**2
    total = _total(read(slice(first, first + size), 1)[0] for first in range(0, n_pixels, size))
    least = NEGLIGIBLE * total / n_pixels
    parts: list[list[NDArray[Any]]] = []
    for first in range(0, n_pixels, size):
        pixel = np.arange(first, first + size, dtype=np.int64)
        columns = read(slice(first, first + size) if nested else healpix.nested_to_ring(pixel, nside), None)
        kept = np.flatnonzero((columns[0] > least) & np.isfinite(columns[0]))
        columns = [column[kept] for column in columns]
        order, pixel, columns = _join_equal(np.full(kept.size, level, dtype=np.int64), pixel[kept], columns)
        if pixel.size > MANY:
            order, pixel, columns = _join_faint(order, pixel, columns, LITTLE * total)
        parts.append([order, pixel, *columns])
    joined = [np.concatenate([part.pop(0) for part in parts]) for _ in range(len(parts[0]))]
    return _sky_map(joined[0], joined[1], joined[2:], about)


def _total(parts: Iterable[FloatArray]) -> float:
    """Return the sum of all probabilities; raise if the values of all parts are none of a sky map."""
    total, lowest, highest, n_pixels = 0.0, 0.0, 0.0, 0
    for values in parts:
        known = _known(values)
        total, lowest, highest = total + known.sum(), min(lowest, known.min()), max(highest, known.max())
        n_pixels += known.size
    _require_probabilities(lowest, highest)
    _require_no_levels(highest, float(total), n_pixels)
    return float(total)


def skymap_from_multiorder(
    uniq: ArrayLike,
    probability_density_per_sr: ArrayLike,
    *,
    per_pixel: bool = False,
    distance: Mapping[str, ArrayLike] | None = None,
    **about: str | float,
) -> SkyMap:
    """Build a sky map from multi-order pixels.

    Parameters
    ----------
    uniq
        (n,) pixel and order in one number: 4 nside^2 + nested pixel number.
    probability_density_per_sr
        (n,) probability density per steradian.
    per_pixel
        Whether the values are the probabilities of the pixels instead.
    distance
        Columns ``mu_mpc``, ``sigma_mpc`` and ``norm``, (n,) each.
    about
        Further attributes of the map, such as ``name`` and ``mjd``.

    Raises
    ------
    InputError
        If this is not a sky map or its pixels overlap.
    """
    number = np.asarray(uniq, dtype=np.int64)
    density = clean_probability(np.asarray(probability_density_per_sr, dtype=float).ravel())
    kept = np.flatnonzero(density)
    if np.any(number < 4):
        raise InputError(
            "the sky map has pixel numbers out of range", value=number.min(), limit="4 or more", remedy=REMEDY
        )
    order = _floor_log4(number[kept] // 4)
    pixel = number[kept] - (4 << (2 * order))
    given = density[kept]
    # in the order of the writer, so that a map that is written and read stays the same to the last bit
    as_density = given * 4 * np.pi / (12.0 * 4.0**order)
    sums = {True: float(given.sum()), False: float(as_density.sum())}
    if abs(sums[per_pixel] - 1.0) > SUM_TOLERANCE >= abs(sums[not per_pixel] - 1.0) and np.ptp(order) > 0:
        kinds = {True: "probabilities of pixels", False: "densities"}
        value = f"they sum to {sums[per_pixel]:.3g} as {kinds[per_pixel]}, to one as {kinds[not per_pixel]}"
        raise InputError("the name or unit of the sky map's values is wrong", value=value, remedy=REMEDY)
    probability = given if per_pixel else as_density
    return _finish(order, pixel, [probability, *_distance_arrays(distance, kept)], about, join=False)


def gaussian_skymap(
    ra_deg: float,
    dec_deg: float,
    sigma_deg: float,
    *,
    distance_mpc: float,
    distance_sigma_mpc: float,
    order: int = 9,
    **about: str | float,
) -> SkyMap:
    """Build the map of a round Gaussian localisation with one distance, for simulations.

    Parameters
    ----------
    ra_deg, dec_deg
        Centre.
    sigma_deg
        Width per axis; a few degrees at most.
    distance_mpc, distance_sigma_mpc
        Location and scale of the Gaussian that multiplies r^2.
    order
        HEALPix order of the pixels.
    about
        Further attributes of the map, such as ``name`` and ``mjd``.
    """
    pixel = np.arange(12 * 4**order, dtype=np.int64)
    ra, dec = healpix.healpix_to_lonlat(pixel, 2**order, order="nested")
    exponent = -0.5 * (separation_deg(ra.to_value("deg"), dec.to_value("deg"), ra_deg, dec_deg) / sigma_deg) ** 2
    probability = np.where(exponent > -30.0, np.exp(np.maximum(exponent, -30.0)), 0.0)
    kept = np.flatnonzero(probability)
    n = kept.size
    mu, sigma = np.full(n, float(distance_mpc)), np.full(n, float(distance_sigma_mpc))
    columns = [probability[kept] / probability.sum(), mu, sigma, norm_of(mu, sigma)]
    mean, scatter = moments_of(mu[:1], sigma[:1])
    stated = {"distance_mean_mpc": float(mean[0]), "distance_sigma_mpc": float(scatter[0])}
    return _finish(np.full(n, order, dtype=np.int64), kept, columns, stated | about, join=True)


def clean_probability(values: FloatArray) -> FloatArray:
    """Return probabilities with zero outside a map: NaN, HEALPix's UNSEEN, and rounding errors below zero."""
    if values.size == 0:
        raise InputError("the sky map is empty", remedy=REMEDY)
    known = _known(values)
    _require_probabilities(float(known.min()), float(known.max()))
    return np.maximum(known, 0.0)


def _known(values: FloatArray) -> FloatArray:
    """Return values with zero where there are none."""
    outside = ~np.isfinite(values) | (values == UNSEEN) | (values == np.float32(UNSEEN))
    if np.isposinf(values).any():
        raise InputError("the sky map has infinite probabilities", remedy=REMEDY)
    return np.where(outside, 0.0, values) if outside.any() else values


def _require_probabilities(lowest: float, highest: float) -> None:
    if lowest < -ROUNDING * max(highest, 0.0):
        raise InputError("the sky map has negative probabilities", value=f"{lowest:.3g}", remedy=REMEDY)
    if highest <= 0.0:
        raise InputError("the sky map has no probability anywhere", remedy=REMEDY)


def _require_no_levels(highest: float, total: float, n_pixels: int) -> None:
    if 1.0 - LEVEL_TOLERANCE < highest <= 1.0 + ROUNDING and total >= max(0.5 * n_pixels, 1.5):
        value, limit = f"half of them are near one, their sum is {total:.3g}", "probabilities of pixels"
        raise InputError("the values of the sky map are credible levels", value=value, limit=limit, remedy=REMEDY)


def _distance_arrays(distance: Mapping[str, ArrayLike] | None, kept: IntArray) -> list[FloatArray]:
    if distance is None:
        return []
    return [np.asarray(distance[name], dtype=float).ravel()[kept] for name in DISTANCE_NAMES]


def _floor_log4(values: IntArray) -> IntArray:
    """Return the largest k with 4^k <= value."""
    powers = 4 ** np.arange(DEEPEST_ORDER + 1, dtype=np.int64)
    return np.searchsorted(powers, values, side="right") - 1


def _finish(
    order: IntArray,
    pixel: IntArray,
    columns: list[FloatArray],
    about: Mapping[str, str | float],
    *,
    join: bool,
) -> SkyMap:
    start = pixel << (2 * (DEEPEST_ORDER - order))
    if np.any(start[:-1] > start[1:]):
        sort = np.argsort(start, kind="stable")
        order, pixel, start, columns = order[sort], pixel[sort], start[sort], [column[sort] for column in columns]
    if np.any(start[:-1] + (1 << (2 * (DEEPEST_ORDER - order[:-1]))) > start[1:]):
        raise InputError("the sky map has pixels that overlap", remedy=REMEDY)
    if join:
        order, pixel, columns = _join_equal(order, pixel, columns)
    return _sky_map(order, pixel, columns, about)


def _sky_map(order: IntArray, pixel: IntArray, columns: list[FloatArray], about: Mapping[str, str | float]) -> SkyMap:
    """Return the map of sorted pixels that do not overlap; the first column is changed."""
    probability, *rest = columns
    total = float(probability.sum())
    if not total <= LARGEST_SUM:
        value, limit = f"{total:.3g}", f"{LARGEST_SUM:g}"
        raise InputError(
            "the sum of the sky map's probabilities is impossible", value=value, limit=limit, remedy=REMEDY
        )
    if any(_largest(values) > LARGEST_DISTANCE for values in rest[:2]):
        limit = f"{LARGEST_DISTANCE:g} Mpc"
        raise InputError("the sky map has impossible distances", limit=limit, remedy=REMEDY)
    if rest and _largest(rest[2]) > LARGEST_NORM:
        raise InputError("the sky map has impossible norms of distance", limit=f"{LARGEST_NORM:g}", remedy=REMEDY)
    distance = DistanceColumns(*rest) if rest else None
    probability /= total
    return SkyMap(order, pixel, probability, total, distance, **about)  # type: ignore[arg-type]


def _largest(values: FloatArray) -> float:
    """Return the largest absolute value that is finite, without a copy of the values."""
    known = np.isfinite(values)
    return max(float(values.max(initial=0.0, where=known)), -float(values.min(initial=0.0, where=known)))


def _join_equal(
    order: IntArray, pixel: IntArray, columns: list[FloatArray]
) -> tuple[IntArray, IntArray, list[FloatArray]]:
    """Merge four sibling pixels with equal values into their parent pixel, repeatedly.

    ``columns[0]`` is a probability and is summed; the other columns are unchanged in the parent.
    """
    done: list[tuple[IntArray, IntArray, list[FloatArray]]] = []
    while pixel.size >= 4 and order[0] > 0:
        first = _families(order, pixel)
        for column in columns:
            for sister in (1, 2, 3):
                first = first[_same(column[first], column[first + sister])]
        if first.size == 0:
            break
        alone = np.ones(pixel.size, dtype=bool)
        for sister in range(4):
            alone[first + sister] = False
        done.append((order[alone], pixel[alone], [column[alone] for column in columns]))
        order, pixel = order[first] - 1, pixel[first] >> 2
        columns = [columns[0][first] * 4.0, *[column[first] for column in columns[1:]]]
    done.append((order, pixel, columns))
    order = np.concatenate([part[0] for part in done])
    pixel = np.concatenate([part[1] for part in done])
    columns = [np.concatenate([part[2][i] for part in done]) for i in range(len(columns))]
    sort = np.argsort(pixel << (2 * (DEEPEST_ORDER - order)), kind="stable")
    return order[sort], pixel[sort], [column[sort] for column in columns]


def _join_faint(
    order: IntArray, pixel: IntArray, columns: list[FloatArray], little: float
) -> tuple[IntArray, IntArray, list[FloatArray]]:
    """Merge four sibling pixels that together have less than a probability into their parent pixel, repeatedly.

    The distances of the parent are the means, weighted by probability; siblings of which one has none stay.
    """
    for level in range(int(order.max(initial=0)), 0, -1):
        first = _families(order, pixel)
        first = first[order[first] == level]
        family = [np.stack([column[first + sister] for sister in range(4)]) for column in columns]
        together = family[0].sum(axis=0)
        joined = (together < little) & np.isfinite(family).all(axis=(0, 1))
        first, together = first[joined], together[joined]
        for column, values in zip(columns[1:], family[1:], strict=True):
            column[first] = (values * family[0]).sum(axis=0)[joined] / together
        columns[0][first], order[first], pixel[first] = together, level - 1, pixel[first] >> 2
        kept = np.ones(order.size, dtype=bool)
        kept[(first[:, None] + np.arange(1, 4)).ravel()] = False
        order, pixel, columns = order[kept], pixel[kept], [column[kept] for column in columns]
    return order, pixel, columns


def _families(order: IntArray, pixel: IntArray) -> IntArray:
    """Return where four sibling pixels begin among sorted ones."""
    first = np.flatnonzero((pixel[:-3] & 3 == 0) & (pixel[3:] == pixel[:-3] + 3))
    same = [order[first + sister] == order[first] for sister in (1, 2, 3)]
    return first[np.logical_and.reduce(same)]


def _same(first: FloatArray, second: FloatArray) -> NDArray[np.bool_]:
    return (first == second) | (np.isnan(first) & np.isnan(second))
