"""Where known minor planets are seen from the telescope during a night.

All orbits are first followed without perturbations to the middle of the night; only those that may be in the fields
are integrated with the planets. Positions are astrometric: corrected for light time, as the stars' positions are
catalogued. Magnitudes follow Bowell et al. (1989, Asteroids II, 524).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import erfa
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from imaging.minor_planets.motion import MJD_ZERO, Planets, integrate
from imaging.minor_planets.orbits import state_at
from imaging.planning.visibility import HEIGHT_M, LATITUDE_DEG, LONGITUDE_DEG
from imaging.tables import column
from imaging.wcs.sphere import unit_vectors

FloatArray = NDArray[np.float64]

LIGHT_DAYS_PER_AU = 499.004784 / 86400.0
AU_M = 149597870700.0
WGS84 = 1

NEAR_DEG, NEAR_AU = 0.5, 0.005
"""Allowed error of an unperturbed position half a year from its epoch: on the sky, and in space."""

USUAL_DAYS = 200.0
"""Age of elements to which :data:`NEAR_AU` applies; it grows with the square of the age."""

ORBITS_AT_ONCE = 200_000
MARGIN_DAYS, KNOTS = 0.1, 12
"""Period before and after the exposures for which paths are integrated, and number of points of a path in it."""


@dataclass(frozen=True, eq=False)
class PredictedPositions:
    """Minor planets near the fields of a night.

    Attributes
    ----------
    name
        (n,) readable designations.
    mjd
        (m,) times, UTC.
    ra, dec
        (n, m) astrometric positions, ICRS, degrees.
    mag
        (n,) V magnitude in the middle of the night; NaN if unknown.
    """

    name: NDArray[np.str_]
    mjd: FloatArray
    ra: FloatArray
    dec: FloatArray
    mag: FloatArray

    def __len__(self) -> int:
        """Return the number of minor planets."""
        return len(self.name)


def terrestrial_mjd(mjd_utc: FloatArray | float) -> FloatArray:
    """Return MJD TT of MJD UTC."""
    return np.asarray(np.add(*erfa.taitt(*erfa.utctai(MJD_ZERO, mjd_utc)))) - MJD_ZERO


def observer_au(mjd_utc: FloatArray, *, geocentre: bool = False) -> FloatArray:
    """Return the heliocentric position of the telescope, or of the Earth's centre; (m, 3), AU, ICRS."""
    earth = erfa.epv00(MJD_ZERO, terrestrial_mjd(mjd_utc))[0]["p"]
    if geocentre:
        return np.asarray(earth)
    site = erfa.gd2gc(WGS84, np.radians(LONGITUDE_DEG), np.radians(LATITUDE_DEG), HEIGHT_M) / AU_M
    to_terrestrial = erfa.c2t06a(MJD_ZERO, terrestrial_mjd(mjd_utc), MJD_ZERO, mjd_utc, 0.0, 0.0)
    return np.asarray(earth + np.einsum("...ji,j->...i", to_terrestrial, site))


def predict_positions(
    orbits: pa.Table,
    mjd_utc: FloatArray,
    fields: tuple[FloatArray, FloatArray],
    radius_deg: float,
    *,
    faint_mag: float = 30.0,
    max_days: float = 500.0,
) -> PredictedPositions:
    """Return the known minor planets in some fields of a night.

    Parameters
    ----------
    orbits
        Rows of :data:`imaging.schemas.reference.ORBITS`.
    mjd_utc
        (m,) times of the exposures, MJD UTC, within two days.
    fields
        RA and Dec of the centres of the fields, degrees.
    radius_deg
        Radius of a field.
    faint_mag
        Faintest predicted V magnitude; objects of unknown magnitude are kept.
    max_days
        Orbits with an epoch farther away are not used.

    Returns
    -------
    predicted
        Minor planets within the radius of a field at one of the times.
    """
    times = np.unique(mjd_utc)
    middle = 0.5 * (times[0] + times[-1])
    age = np.abs(column(orbits, "epoch_mjd") - middle)
    near = np.flatnonzero(age < max_days)
    chosen = [near[place] for place in _batches(orbits.take(pa.array(near)), middle, fields, radius_deg)]
    likely = orbits.take(pa.array(np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)))
    mags = _magnitudes(likely, middle)
    likely, mags = likely.filter(pa.array(~(mags > faint_mag))), mags[~(mags > faint_mag)]
    ra, dec = astrometric_positions(likely, times)
    inside = _in_fields(ra, dec, fields, radius_deg)
    names = np.array(likely.column("name").to_pylist(), dtype=np.str_)
    return PredictedPositions(names[inside], times, ra[inside], dec[inside], mags[inside])


def astrometric_positions(
    orbits: pa.Table, mjd_utc: FloatArray, observer: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return astrometric positions of minor planets.

    Parameters
    ----------
    orbits
        Rows of :data:`imaging.schemas.reference.ORBITS`.
    mjd_utc
        (m,) times in increasing order, MJD UTC.
    observer
        (m, 3) heliocentric positions of the observer, AU; None for the telescope.

    Returns
    -------
    ra, dec
        (n, m) degrees, ICRS.
    """
    here = observer_au(mjd_utc) if observer is None else observer
    times = terrestrial_mjd(mjd_utc)
    ra, dec = np.empty((2, orbits.num_rows, len(times)))
    epochs = column(orbits, "epoch_mjd")
    if not len(epochs):
        return ra, dec
    planets = Planets(min(epochs.min(), times[0]) - 1.0, max(epochs.max(), times[-1]) + 1.0)
    for epoch in np.unique(epochs):
        rows = np.flatnonzero(epochs == epoch)
        position, velocity = state_at(_elements(orbits.take(pa.array(rows))), 0.0)
        knots = np.linspace(times[0] - MARGIN_DAYS, times[-1] + MARGIN_DAYS, KNOTS + int(np.ptp(times) / MARGIN_DAYS))
        paths = integrate(position, velocity, float(epoch), knots, planets)
        ra[rows], dec[rows] = _seen(paths, knots, times, here)
    return ra, dec


def _seen(
    paths: FloatArray, knots: FloatArray, times: FloatArray, observer: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the directions of paths (n, k, 3) from the observer (m, 3) at times, light time considered."""
    follow = CubicSpline(knots, paths, axis=1)
    position, velocity, acceleration = (follow(times, order) for order in range(3))
    towards = position - observer
    for _ in range(3):
        delay = LIGHT_DAYS_PER_AU * np.linalg.norm(towards, axis=-1, keepdims=True)
        towards = position - delay * velocity + 0.5 * delay**2 * acceleration - observer
    ra = np.degrees(np.arctan2(towards[..., 1], towards[..., 0])) % 360.0
    return ra, np.degrees(np.arctan2(towards[..., 2], np.hypot(towards[..., 0], towards[..., 1])))


def _elements(orbits: pa.Table) -> dict[str, FloatArray]:
    return {field.name: column(orbits, field.name) for field in orbits.schema if pa.types.is_float64(field.type)}


def _batches(
    orbits: pa.Table, middle: float, fields: tuple[FloatArray, FloatArray], radius_deg: float
) -> list[NDArray[np.int64]]:
    """Return which orbits may be in the fields, by their unperturbed positions."""
    here = observer_au(np.array([middle]))[0]
    moment = float(terrestrial_mjd(middle))
    centres = cKDTree(unit_vectors(*fields))
    found = []
    for first in range(0, orbits.num_rows, ORBITS_AT_ONCE):
        elements = _elements(orbits.slice(first, ORBITS_AT_ONCE))
        days = moment - elements["epoch_mjd"]
        towards = state_at(elements, days)[0] - here
        distance = np.linalg.norm(towards, axis=-1)
        error = NEAR_AU * np.maximum((days / USUAL_DAYS) ** 2, 1.0) / np.maximum(distance, 1e-3)
        reach = np.minimum(np.radians(radius_deg + NEAR_DEG) + error, np.pi)
        chord, _ = centres.query(towards / distance[:, None])
        found.append(first + np.flatnonzero(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)) < reach))
    return found


def _in_fields(
    ra: FloatArray, dec: FloatArray, fields: tuple[FloatArray, FloatArray], radius_deg: float
) -> NDArray[np.bool_]:
    if not len(ra):
        return np.zeros(0, dtype=bool)
    chord, _ = cKDTree(unit_vectors(*fields)).query(unit_vectors(ra.ravel(), dec.ravel()))
    return (chord < 2.0 * np.sin(np.radians(radius_deg) / 2.0)).reshape(ra.shape).any(axis=1)


def _magnitudes(orbits: pa.Table, middle: float) -> FloatArray:
    """Return the V magnitudes of minor planets, NaN if unknown."""
    elements: Mapping[str, FloatArray] = _elements(orbits)
    here = observer_au(np.array([middle]))[0]
    position = state_at(elements, float(terrestrial_mjd(middle)) - elements["epoch_mjd"])[0]
    towards = position - here
    sun, distance = (np.linalg.norm(vector, axis=-1) for vector in (position, towards))
    cosine = np.einsum("ij,ij->i", position, towards) / (sun * distance)
    half = np.tan(0.5 * np.arccos(np.clip(cosine, -1.0, 1.0)))
    slope = column(orbits, "slope").astype(float)
    phase = (1.0 - slope) * np.exp(-3.33 * half**0.63) + slope * np.exp(-1.87 * half**1.22)
    return column(orbits, "absolute_mag").astype(float) + 5.0 * np.log10(sun * distance) - 2.5 * np.log10(phase)
