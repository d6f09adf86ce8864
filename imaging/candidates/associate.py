"""Associate the detections of all exposures of a night into candidates."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.bands import BANDS
from imaging.candidates.link import link_standing
from imaging.candidates.motion import link_movers
from imaging.candidates.naming import candidate_ids
from imaging.candidates.points import (
    ARCSEC,
    FloatArray,
    IntArray,
    Points,
    east_and_north,
    fit_motion,
    mean_vectors,
    renumbered,
)
from imaging.candidates.reliability import probability_real
from imaging.candidates.settings import AssociateSettings
from imaging.schemas.candidates import CANDIDATES, CandidateFlag
from imaging.schemas.difference import DetectionFlag
from imaging.schemas.fields import NO_ID
from imaging.skymap.footprints import Footprints, count_exposures
from imaging.tables import column, make_table
from imaging.wcs.sphere import unit_vectors

OF_TRAILS = int(DetectionFlag.STREAK | DetectionFlag.NOT_PSF)
"""Flags that a trail has as such."""


def associate_detections(
    detections: pa.Table,
    night: int,
    settings: AssociateSettings,
    footprints: Footprints | None = None,
    fakes: pa.Table | None = None,
) -> pa.Table:
    """Associate the detections of a night over its exposures.

    Detections of a stationary source become one candidate, as do those of a moving object; an unmatched detection is a
    candidate by itself, unless it is a trail. The result does not depend on the order of the rows.

    Parameters
    ----------
    detections
        Rows of :data:`imaging.schemas.difference.DETECTIONS` of any number of exposures and CCDs.
    night
        Night, YYYYMMDD.
    settings
        Cuts and limits.
    footprints
        CCD images of the night, to count the exposures that cover a candidate; without them only exposures that
        detected it count.
    fakes
        Rows of :data:`imaging.schemas.difference.FAKES` of the night, to calibrate the real/bogus score; without them
        the probability to be real is null.

    Returns
    -------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`, ordered by right ascension; columns of later steps are
        null.
    """
    ordered = _in_fixed_order(detections)
    good = ordered.filter(pa.array(_passes(ordered, settings)))
    if not good.num_rows:
        return CANDIDATES.empty_table()
    points = _points(good, settings)
    label, moving = link_movers(points, link_standing(points, settings), settings)
    kept = np.flatnonzero(moving | ~points.is_trail)
    if not kept.size:
        return CANDIDATES.empty_table()
    good, points, label = good.take(pa.array(kept)), points.subset(kept), renumbered(label[kept])
    columns = _summary(good, points, label, moving[kept], settings)
    if fakes is not None:
        still = np.flatnonzero(~points.is_trail)
        probability = probability_real(good.take(pa.array(still)), fakes)
        columns["probability_real"] = _highest(probability, label[still], len(columns["ra"]))
    columns["flags"] |= _negative_flags(ordered, columns, settings)
    if footprints is not None:
        columns["n_exposures"] = np.maximum(
            columns["n_exposures"], count_exposures(footprints, columns["ra"], columns["dec"])
        )
    order = np.lexsort((columns["dec"], columns["ra"]))
    detection_ids = columns.pop("detection_ids")
    columns = {name: values[order] for name, values in columns.items()}
    columns["candidate_id"] = np.array(candidate_ids(columns["ra"], columns["dec"]), dtype=object)
    columns["night"] = np.full(len(order), night)
    columns["detection_ids"] = detection_ids.take(pa.array(order))
    return candidate_table(columns)


def candidate_table(columns: dict[str, Any]) -> pa.Table:
    """Build a table of candidates; missing columns and non-finite floats are null, missing identifiers NO_ID."""
    n = len(columns["ra"])
    columns = {"gaia_source_id": np.full(n, NO_ID)} | columns
    filled: dict[str, Any] = {}
    for field in CANDIDATES:
        values = columns.get(field.name)
        if values is None:
            filled[field.name] = pa.nulls(n, field.type)
        elif pa.types.is_floating(field.type) and isinstance(values, np.ndarray):
            filled[field.name] = pa.array(values, type=field.type, mask=~np.isfinite(values))
        else:
            filled[field.name] = values
    return make_table(filled, CANDIDATES)


def _in_fixed_order(detections: pa.Table) -> pa.Table:
    order = np.lexsort((column(detections, "detection_id"), column(detections, "mjd")))
    return detections.take(pa.array(order))


def _passes(detections: pa.Table, settings: AssociateSettings) -> NDArray[np.bool_]:
    """Return which detections are used; the score is that of a point source."""
    score, is_trail = column(detections, "real_score"), column(detections, "trail_arcsec_per_hour") > 0
    refused = np.where(is_trail, settings.rejected_flags & ~OF_TRAILS, settings.rejected_flags)
    passes = (column(detections, "flags") & refused) == 0
    return passes & (is_trail | np.isnan(score) | (score >= settings.min_real_score))


def _points(detections: pa.Table, settings: AssociateSettings) -> Points:
    """Return detections as points; the place of a trail along it is the mean of its ends, which are independent."""
    vector = unit_vectors(column(detections, "ra"), column(detections, "dec"))
    sigma = column(detections, "position_error_arcsec").astype(float)
    length, error, angle, angle_error, rate = (
        np.nan_to_num(column(detections, name).astype(float))
        for name in (
            *("trail_arcsec", "trail_error_arcsec", "trail_angle_deg", "trail_angle_error_deg"),
            "trail_arcsec_per_hour",
        )
    )
    length = np.where(rate > 0, length, 0.0)
    east, north = (axis * length[:, None] * ARCSEC for axis in east_and_north(vector))
    angle, across = np.radians(angle)[:, None], length * np.radians(angle_error)
    return Points(
        vector=vector,
        sigma_arcsec=np.hypot(np.maximum(sigma, 0.5 * error), settings.error_floor_arcsec),
        expnum=column(detections, "expnum"),
        mjd=column(detections, "mjd"),
        mag=column(detections, "mag").astype(float),
        mag_error=column(detections, "mag_error").astype(float),
        band=column(detections, "band").astype(str),
        trail=east * np.sin(angle) + north * np.cos(angle),
        trail_error_arcsec=np.hypot(np.stack([error, across], axis=1), settings.trail_floor_arcsec),
        trail_days=length / np.where(rate > 0, rate, 1.0) / 24.0,
    )


def _summary(
    detections: pa.Table, points: Points, label: IntArray, moving: NDArray[np.bool_], settings: AssociateSettings
) -> dict[str, Any]:
    """Return one row per source as columns; ``label`` numbers the sources by their first detection."""
    n = int(label.max()) + 1
    order = np.argsort(label, kind="stable")
    start = np.searchsorted(label[order], np.arange(n))
    last = np.append(start[1:], len(order)) - 1
    count = last - start + 1
    mean, error = mean_vectors(points, label)
    rate, rate_error, _ = fit_motion(points, label)
    is_mover = np.zeros(n, dtype=bool)
    is_mover[label[moving]] = True
    flags = np.where(is_mover, int(CandidateFlag.MOVER), 0) | np.where(
        count == 1, int(CandidateFlag.SINGLE_DETECTION), 0
    )
    best = np.zeros(n)
    np.maximum.at(best, label, column(detections, "snr").astype(float))
    ids = pa.array(column(detections, "detection_id")[order], type=pa.int64())
    return {
        "ra": np.degrees(np.arctan2(mean[:, 1], mean[:, 0])) % 360.0,
        "dec": np.degrees(np.arctan2(mean[:, 2], np.hypot(mean[:, 0], mean[:, 1]))),
        "position_error_arcsec": np.hypot(error, settings.error_floor_arcsec),
        "n_detections": count,
        "n_exposures": _count_different(label, points.expnum, n),
        "bands": _bands(label, points.band, n),
        "mjd_first": points.mjd[order[start]],
        "mjd_last": points.mjd[order[last]],
        "snr_best": best,
        "mag_first": points.mag[order[start]],
        "mag_last": points.mag[order[last]],
        "real_score": _highest(column(detections, "real_score").astype(float), label, n),
        "motion_arcsec_per_hour": rate,
        "motion_error_arcsec_per_hour": np.where(np.isfinite(rate), rate_error, np.nan),
        "trail_arcsec": _highest(np.where(points.is_trail, column(detections, "trail_arcsec"), np.nan), label, n),
        "flags": flags.astype(np.int64),
        "detection_ids": pa.ListArray.from_arrays(pa.array(np.append(start, len(order)), type=pa.int32()), ids),
    }


def _count_different(label: IntArray, value: IntArray, n: int) -> IntArray:
    pairs = np.unique(np.stack([label, value], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=n)


def _bands(label: IntArray, band: NDArray[np.str_], n: int) -> NDArray[np.object_]:
    """Return the bands of each source in the order of wavelength, comma separated."""
    names = sorted(BANDS, key=lambda name: BANDS[name].wavelength_nm)
    bits = np.zeros(n, dtype=np.int64)
    for i, name in enumerate(names):
        bits[label[band == name]] |= 1 << i
    texts = {b: ",".join(name for i, name in enumerate(names) if b >> i & 1) for b in np.unique(bits).tolist()}
    return np.array([texts[b] for b in bits.tolist()], dtype=object)


def _highest(values: FloatArray, label: IntArray, n: int) -> FloatArray:
    """Return the highest value of the detections of each of n sources, NaN if none is known."""
    highest = np.full(n, np.nan)
    np.fmax.at(highest, label, values)
    return highest


def _negative_flags(detections: pa.Table, columns: dict[str, Any], settings: AssociateSettings) -> IntArray:
    """Return the flag NEGATIVE for sources with a negative detection at their position in some exposure."""
    ra, dec, error = columns["ra"], columns["dec"], columns["position_error_arcsec"]
    flags = np.zeros(len(ra), dtype=np.int64)
    all_flags = column(detections, "flags")
    chosen = (all_flags & int(DetectionFlag.NEGATIVE)) != 0
    chosen &= (all_flags & int(DetectionFlag.DIPOLE)) == 0
    if not chosen.any():
        return flags
    negative = detections.filter(pa.array(chosen))
    tree = cKDTree(unit_vectors(column(negative, "ra"), column(negative, "dec")))
    distance, nearest = tree.query(unit_vectors(ra, dec), distance_upper_bound=settings.max_separation_arcsec * ARCSEC)
    found = np.flatnonzero(np.isfinite(distance))
    sigma: FloatArray = np.hypot(column(negative, "position_error_arcsec").astype(float)[nearest[found]], error[found])
    close = (distance[found] / ARCSEC / sigma) ** 2 < settings.chi2_limit
    flags[found[close]] = int(CandidateFlag.NEGATIVE)
    return flags
