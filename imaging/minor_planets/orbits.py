"""Orbits of the Minor Planet Center (MPCORB), and positions on unperturbed orbits."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.schemas.reference import ORBITS
from imaging.tables import make_table

FloatArray = NDArray[np.float64]

BYTES = {
    "designation": (1, 7),
    "absolute_mag": (9, 13),
    "slope": (15, 19),
    "epoch": (21, 25),
    "mean_anomaly_deg": (27, 35),
    "perihelion_deg": (38, 46),
    "node_deg": (49, 57),
    "inclination_deg": (60, 68),
    "eccentricity": (71, 79),
    "semimajor_axis_au": (93, 103),
    "name": (167, 194),
}
"""Bytes of the columns of MPCORB.DAT, counted from 1 (minorplanetcenter.net/iau/info/MPOrbitFormat.html)."""

ELEMENTS = ("mean_anomaly_deg", "perihelion_deg", "node_deg", "inclination_deg", "eccentricity", "semimajor_axis_au")

POSSIBLE = {
    "mean_anomaly_deg": (-360.0, 360.0),
    "perihelion_deg": (-360.0, 360.0),
    "node_deg": (-360.0, 360.0),
    "inclination_deg": (0.0, 180.0),
    "eccentricity": (0.0, 100.0),
    "semimajor_axis_au": (-1e6, 1e6),
}
"""Smallest and largest possible element; of hyperbolas the semimajor axis is negative."""

GAUSS = 0.01720209895
"""Gaussian gravitational constant, AU^1.5 per day."""

OBLIQUITY_RAD = np.radians(84381.448 / 3600.0)
"""Obliquity of the ecliptic of J2000 of the orbits (IAU 1976)."""

DEFAULT_SLOPE = 0.15
MJD_ORDINAL = date(1858, 11, 17).toordinal()
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


def packed_mjd(packed: str) -> float:
    """Return the MJD (TT) of a packed date: ``K2669`` is 2026 June 9.

    Raises
    ------
    ValueError
        If it is not one.
    """
    if len(packed) != 5 or packed[0] not in "IJK":
        raise ValueError(f"{packed!r} is not a packed date")
    year = 100 * (18 + "IJK".index(packed[0])) + int(packed[1:3])
    return float(date(year, DIGITS.index(packed[3]), DIGITS.index(packed[4])).toordinal() - MJD_ORDINAL)


def orbits_of_text(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Convert columns of MPCORB as texts to orbits.

    Parameters
    ----------
    columns
        Texts of :data:`BYTES`.

    Returns
    -------
    orbits
        Rows of :data:`imaging.schemas.reference.ORBITS`; orbits that are not ellipses are omitted.

    Raises
    ------
    ValueError
        If an element or an epoch is not a number or cannot be.
    """
    texts = {name: np.char.strip(np.char.decode(values, "latin-1")) for name, values in columns.items()}
    elements = {name: texts[name].astype(float) for name in ELEMENTS}
    epochs, place = np.unique(texts["epoch"], return_inverse=True)
    for name, (low, high) in POSSIBLE.items():
        wrong = ~((elements[name] >= low) & (elements[name] <= high))
        if wrong.any():
            raise ValueError(f"{name} of {texts['designation'][wrong][0]} is {elements[name][wrong][0]:g}")
    faint, slope = (_number_or_nan(texts[name]) for name in ("absolute_mag", "slope"))
    if (np.abs(faint) > 99.0).any() or (np.abs(slope) > 9.0).any():
        raise ValueError("an absolute magnitude or slope that cannot be")
    named = texts["name"] != ""
    table = make_table(
        elements
        | {
            "designation": texts["designation"].astype(object),
            "name": np.where(named, texts["name"], texts["designation"]).astype(object),
            "epoch_mjd": np.array([packed_mjd(str(epoch)) for epoch in epochs])[place],
            "absolute_mag": pa.array(faint.astype(np.float32), mask=np.isnan(faint)),
            "slope": np.where(np.isnan(slope), DEFAULT_SLOPE, slope).astype(np.float32),
        },
        ORBITS,
    )
    return table.filter(pa.array((elements["eccentricity"] < 1.0) & (elements["semimajor_axis_au"] > 0.0)))


def _number_or_nan(texts: NDArray[np.str_]) -> FloatArray:
    return np.where(texts == "", "nan", texts).astype(float)


def state_at(elements: Mapping[str, FloatArray], days: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """Return positions and velocities on unperturbed orbits.

    Parameters
    ----------
    elements
        (n,) arrays named as in :data:`imaging.schemas.reference.ORBITS`.
    days
        Days after the epoch of the elements.

    Returns
    -------
    position, velocity
        (n, 3) heliocentric, equator of J2000; AU, and AU per day.
    """
    e, a = elements["eccentricity"], elements["semimajor_axis_au"]
    motion = GAUSS / a**1.5
    anomaly = eccentric_anomaly(np.radians(elements["mean_anomaly_deg"]) + motion * days, e)
    cosine, sine = np.cos(anomaly), np.sin(anomaly)
    root, distance = np.sqrt(1.0 - e**2), 1.0 - e * cosine
    along, across = a * (cosine - e), a * root * sine
    speed = a * motion / distance
    perihelion, quadrature = _axes(elements)
    return (
        along[:, None] * perihelion + across[:, None] * quadrature,
        (-speed * sine)[:, None] * perihelion + (speed * root * cosine)[:, None] * quadrature,
    )


def eccentric_anomaly(mean: FloatArray, e: FloatArray) -> FloatArray:
    """Solve Kepler's equation by Newton's method with the step limited to one radian.

    Parameters
    ----------
    mean, e
        (n,) mean anomaly in radians, and eccentricity below one.
    """
    mean = np.remainder(mean + np.pi, 2.0 * np.pi) - np.pi
    anomaly = mean + 0.85 * e * np.sign(mean)
    for _ in range(60):
        step = (anomaly - e * np.sin(anomaly) - mean) / (1.0 - e * np.cos(anomaly))
        anomaly = anomaly - np.clip(step, -1.0, 1.0)
        if np.abs(step).max(initial=0.0) < 1e-13:
            break
    return anomaly


def _axes(elements: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return (n, 3) unit vectors to the perihelion, and 90 degrees on in the orbit; equator of J2000."""
    w, node, i = (np.radians(elements[name]) for name in ("perihelion_deg", "node_deg", "inclination_deg"))
    tilt_cos, tilt_sin = np.cos(OBLIQUITY_RAD), np.sin(OBLIQUITY_RAD)
    axes = []
    for angle in (w, w + np.pi / 2.0):
        x = np.cos(angle) * np.cos(node) - np.sin(angle) * np.sin(node) * np.cos(i)
        y = np.cos(angle) * np.sin(node) + np.sin(angle) * np.cos(node) * np.cos(i)
        z = np.sin(angle) * np.sin(i)
        axes.append(np.stack([x, tilt_cos * y - tilt_sin * z, tilt_sin * y + tilt_cos * z], axis=-1))
    return axes[0], axes[1]
