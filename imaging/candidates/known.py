"""Match candidates with known transients, variable stars, active nuclei and minor planets."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.spatial import cKDTree

from imaging.candidates.crossmatch import with_columns
from imaging.candidates.points import ARCSEC, FloatArray, IntArray
from imaging.candidates.settings import CrossmatchSettings
from imaging.minor_planets.positions import PredictedPositions
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.reference import KnownKind
from imaging.tables import column
from imaging.wcs.sphere import unit_vectors

FLAGS = {KnownKind.VARIABLE: CandidateFlag.KNOWN_VARIABLE, KnownKind.NUCLEUS: CandidateFlag.ACTIVE_NUCLEUS}
"""Kind of a known source to the flag of candidates on it."""


def match_known_sources(
    candidates: pa.Table,
    catalogues: Mapping[str, pa.Table],
    transient_lists: tuple[str, ...],
    settings: CrossmatchSettings,
) -> pa.Table:
    """Match candidates with catalogues of known transients, variable stars and active nuclei.

    Of several transients at a position that of the first catalogue is named, with the earliest discovery of all; of
    several other sources the nearest in the first catalogue.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    catalogues
        Name to rows of :data:`imaging.schemas.reference.KNOWN_SOURCES`, in order of preference.
    transient_lists
        Catalogues whose sources have been reported as transients, whatever their type.
    settings
        Radius.

    Returns
    -------
    candidates
        With the columns ``reported_*`` and ``known_*`` and the flags KNOWN_VARIABLE and ACTIVE_NUCLEUS.
    """
    n = candidates.num_rows
    if not n or not catalogues:
        return candidates
    reported, known = _Counterparts(n), _Counterparts(n)
    flags = column(candidates, "flags").astype(np.int64)
    places = unit_vectors(column(candidates, "ra"), column(candidates, "dec"))
    reach = settings.known_radius_arcsec + 3.0 * column(candidates, "position_error_arcsec").astype(float)
    for name, sources in catalogues.items():
        kind = column(sources, "kind").astype(np.int64)
        transient = (kind == KnownKind.TRANSIENT) | (name in transient_lists)
        reported.add(name, sources.filter(pa.array(transient)), places, reach)
        others = sources.filter(pa.array(kind != KnownKind.TRANSIENT))
        rows, matched = known.add(name, others, places, reach)
        for which, flag in FLAGS.items():
            flags[rows[column(others, "kind")[matched] == which]] |= int(flag)
    return with_columns(
        candidates,
        flags=flags,
        reported_as=pa.array(reported.name, type=pa.string()),
        reported_type=pa.array(reported.type, type=pa.string()),
        reported_in=pa.array(reported.catalogue, type=pa.string()),
        reported_mjd=reported.mjd,
        reported_separation_arcsec=reported.separation,
        known_as=pa.array(known.name, type=pa.string()),
        known_type=pa.array(known.type, type=pa.string()),
        known_in=pa.array(known.catalogue, type=pa.string()),
        known_separation_arcsec=known.separation,
    )


class _Counterparts:
    """The counterpart of each of n candidates."""

    def __init__(self, n: int) -> None:
        self.name, self.type, self.catalogue = (np.full(n, None, dtype=object) for _ in range(3))
        self.mjd, self.separation = np.full(n, np.nan), np.full(n, np.nan)

    def add(
        self, catalogue: str, sources: pa.Table, places: FloatArray, reach: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Take the sources of a catalogue where there is no counterpart yet; return candidates and their sources."""
        if sources.num_rows == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        tree = cKDTree(unit_vectors(column(sources, "ra"), column(sources, "dec")))
        distance, nearest = tree.query(places)
        rows = np.flatnonzero(distance / ARCSEC < reach)
        nearest = nearest[rows]
        self.mjd[rows] = np.fmin(self.mjd[rows], column(sources, "mjd")[nearest])
        new = np.array([self.name[row] is None for row in rows], dtype=bool)
        chosen = sources.take(pa.array(nearest[new]))
        self.name[rows[new]] = chosen.column("name").to_pylist()
        self.type[rows[new]] = chosen.column("type").to_pylist()
        self.catalogue[rows[new]] = catalogue
        self.separation[rows[new]] = distance[rows[new]] / ARCSEC
        return rows, nearest


def match_minor_planets(
    candidates: pa.Table, predicted: PredictedPositions, exposures: Mapping[int, float], settings: CrossmatchSettings
) -> pa.Table:
    """Match candidates with the predicted positions of known minor planets.

    A minor planet is the candidate if it is at the position in every exposure that detected the candidate; for an
    object that moves within the night the mean of the predicted positions is compared with that of the detections.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    predicted
        Known minor planets at the times of the exposures.
    exposures
        Exposure number to the middle of the exposure, MJD UTC, one of the predicted times.
    settings
        Radius.

    Returns
    -------
    candidates
        With the columns ``minor_planet*`` and the flag MINOR_PLANET.
    """
    n = candidates.num_rows
    if not n or not len(predicted):
        return candidates
    start, place = _detections(candidates, predicted, exposures)
    owner = np.repeat(np.arange(n), np.diff(start))
    vectors = unit_vectors(predicted.ra.ravel(), predicted.dec.ravel()).reshape(*predicted.ra.shape, 3)
    positions = unit_vectors(column(candidates, "ra"), column(candidates, "dec"))
    reach = settings.minor_planet_radius_arcsec + 3.0 * column(candidates, "position_error_arcsec").astype(float)
    flags = column(candidates, "flags").astype(np.int64)
    moving = (flags & int(CandidateFlag.MOVER)) != 0
    best, separation = np.full(n, -1), np.full(n, np.nan)
    resting = ~moving[owner]
    for row, planet, apart in _resting(owner[resting], place[resting], positions, vectors, reach):
        if not apart >= separation[row]:
            best[row], separation[row] = planet, apart
    for row in np.flatnonzero(moving).tolist():
        mean = vectors[:, place[start[row] : start[row + 1]]].mean(axis=1)
        apart = np.linalg.norm(mean - positions[row], axis=-1) / ARCSEC
        nearest = int(apart.argmin())
        if apart[nearest] < reach[row]:
            best[row], separation[row] = nearest, apart[nearest]
    found = best >= 0
    names = np.full(n, None, dtype=object)
    names[found] = predicted.name[best[found]]
    return with_columns(
        candidates,
        flags=flags | np.where(found, int(CandidateFlag.MINOR_PLANET), 0),
        minor_planet=pa.array(names, type=pa.string()),
        minor_planet_separation_arcsec=separation,
        minor_planet_mag=np.where(found, predicted.mag[best], np.nan),
    )


def _detections(
    candidates: pa.Table, predicted: PredictedPositions, exposures: Mapping[int, float]
) -> tuple[IntArray, IntArray]:
    """Return the (n + 1) first detections of the candidates, and the number of each one's time among the predicted."""
    ids = candidates.column("detection_ids").combine_chunks()
    counts = np.asarray(pc.list_value_length(ids).fill_null(0)).astype(np.int64)
    expnum = np.asarray(ids.flatten()).astype(np.int64) // DETECTIONS_PER_EXPOSURE
    numbers, which = np.unique(expnum, return_inverse=True)
    times = np.array([exposures[int(number)] for number in numbers])
    return np.concatenate([[0], np.cumsum(counts)]), np.searchsorted(predicted.mjd, times)[which]


DETECTIONS_PER_EXPOSURE = 10_000_000
"""A detection's identifier over this is the number of its exposure."""


def _resting(
    owner: IntArray, place: IntArray, positions: FloatArray, vectors: FloatArray, reach: FloatArray
) -> list[tuple[int, int, float]]:
    """Return (candidate, minor planet, separation) of pairs that coincide in every exposure of the candidate."""
    pairs: dict[tuple[int, int], list[float]] = {}
    farthest = float(reach[owner].max(initial=0.0)) * ARCSEC
    for number in np.unique(place):
        rows = owner[place == number]
        tree = cKDTree(positions[rows])
        for planet, near in enumerate(tree.query_ball_point(vectors[:, number], farthest, return_sorted=True)):
            for row in rows[near].tolist():
                apart = float(np.linalg.norm(vectors[planet, number] - positions[row]) / ARCSEC)
                if apart < reach[row]:
                    pairs.setdefault((row, planet), []).append(apart)
    counts = np.bincount(owner, minlength=len(positions))
    return [
        (row, planet, float(np.mean(all_))) for (row, planet), all_ in sorted(pairs.items()) if len(all_) == counts[row]
    ]
