"""Simulated kilonova, supernovae and active galactic nuclei."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.simulation.galaxies import Galaxies, luminosity_distance_mpc
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

INVISIBLE_MAG = 99.0

KILONOVA_DISTANCE_MPC = 40.0
_KILONOVA_DAYS = np.array([0.25, 0.5, 1.0, 1.5, 2.5, 3.5, 4.5, 5.5, 7.5, 9.5, 12.5, 20.0])
_KILONOVA_MAG = {
    "u": np.array([17.9, 17.9, 18.9, 20.2, 21.9, 23.1, 24.2, 25.0, 26.5, 28.0, 30.0, 34.0]),
    "g": np.array([17.6, 17.4, 18.0, 18.75, 20.2, 21.2, 22.1, 22.9, 24.2, 25.4, 27.0, 31.0]),
    "r": np.array([17.55, 17.3, 17.55, 18.0, 19.1, 20.0, 20.8, 21.4, 22.6, 23.6, 25.2, 29.0]),
    "i": np.array([17.75, 17.45, 17.5, 17.8, 18.45, 19.2, 19.85, 20.5, 21.5, 22.5, 24.0, 27.5]),
    "z": np.array([17.9, 17.6, 17.5, 17.6, 18.0, 18.5, 18.95, 19.5, 20.4, 21.3, 22.8, 26.0]),
    "Y": np.array([18.0, 17.7, 17.5, 17.5, 17.75, 18.1, 18.5, 18.9, 19.7, 20.5, 21.9, 25.0]),
}
_KILONOVA_MAG["VR"] = 0.45 * _KILONOVA_MAG["g"] + 0.55 * _KILONOVA_MAG["r"]
"""AT2017gfo at 40 Mpc, AB magnitudes against days since the merger, smoothed by eye from the collected photometry
(Villar et al. 2017 and references there)."""

_SUPERNOVA = {
    "supernova_ia": (
        np.array([0.5, 2.0, 5.0, 10.0, 15.0, 18.0, 23.0, 28.0, 33.0, 48.0, 78.0, 118.0, 200.0]),
        np.array([6.0, 3.5, 1.9, 0.5, 0.05, 0.0, 0.15, 0.5, 0.9, 1.8, 2.6, 3.6, 5.5]),
    ),
    "supernova_ii": (
        np.array([0.2, 1.0, 3.0, 7.0, 12.0, 40.0, 80.0, 100.0, 130.0, 200.0]),
        np.array([4.0, 2.0, 0.8, 0.1, 0.0, 0.3, 0.6, 1.8, 3.0, 4.0]),
    ),
}
"""Days since the explosion and magnitudes below the peak in i, rest frame: schematic light curves."""

_COLOUR_WEIGHT = {"u": 1.9, "g": 1.0, "r": 0.42, "i": 0.0, "z": -0.2, "Y": -0.3, "VR": 0.7}
"""Magnitude minus i in units of g - i."""

KINDS = ("kilonova", "supernova_ia", "supernova_ii", "active_nucleus")


@dataclass(frozen=True, eq=False)
class Transients:
    """Stationary variable sources; all arrays have length n.

    Attributes
    ----------
    source_id
        Identifier.
    kind
        Index into :data:`KINDS`.
    ra, dec
        Position, degrees.
    host_id
        Identifier of the host galaxy.
    start_mjd
        Merger or explosion, MJD; phase of the variability of active nuclei.
    peak_mag
        i magnitude at maximum; mean magnitude of active nuclei.
    stretch
        Stretch factor of the light curve; rms variability in magnitudes of active nuclei.
    distance_mpc
        Luminosity distance.
    """

    source_id: NDArray[np.int64]
    kind: NDArray[np.int8]
    ra: FloatArray
    dec: FloatArray
    host_id: NDArray[np.int64]
    start_mjd: FloatArray
    peak_mag: FloatArray
    stretch: FloatArray
    distance_mpc: FloatArray

    def magnitude(self, band: str, mjd: float) -> FloatArray:
        """Return AB magnitudes in a band at a given time; 99 before the merger or explosion."""
        mags = np.full(len(self.kind), INVISIBLE_MAG)
        days = mjd - self.start_mjd
        for code, kind in enumerate(KINDS):
            chosen = self.kind == code
            if not chosen.any():
                continue
            if kind == "kilonova":
                mags[chosen] = kilonova_magnitude(band, days[chosen], self.distance_mpc[chosen])
            elif kind == "active_nucleus":
                wander = nucleus_wander(days[chosen], self.source_id[chosen])
                mags[chosen] = self.peak_mag[chosen] + 0.35 * _COLOUR_WEIGHT[band] + self.stretch[chosen] * wander
            else:
                mags[chosen] = _supernova(kind, band, days[chosen] / self.stretch[chosen], self.peak_mag[chosen])
        return mags


def kilonova_magnitude(band: str, days: FloatArray, distance_mpc: FloatArray) -> FloatArray:
    """Return the AB magnitude of a source like AT2017gfo, 99 before the merger.

    Parameters
    ----------
    band
        Band.
    days
        (n,) days since the merger.
    distance_mpc
        (n,) luminosity distances.
    """
    mags = np.interp(days, _KILONOVA_DAYS, _KILONOVA_MAG[band])
    early = np.clip(days / _KILONOVA_DAYS[0], 1e-6, 1.0)
    mags = mags - 2.5 * np.log10(early) + 5.0 * np.log10(distance_mpc / KILONOVA_DISTANCE_MPC)
    return np.where(days > 0.0, mags, INVISIBLE_MAG)


def _supernova(kind: str, band: str, days: FloatArray, peak_mag: FloatArray) -> FloatArray:
    when, below = _SUPERNOVA[kind]
    slope, first, last = (0.035, -0.25, 1.5) if kind == "supernova_ia" else (0.014, -0.25, 1.1)
    g_minus_i = np.clip(first + slope * days, first, last)
    mags = peak_mag + np.interp(days, when, below) + g_minus_i * _COLOUR_WEIGHT[band]
    return np.where(days > when[0], mags, INVISIBLE_MAG)


def nucleus_wander(days: FloatArray, source_id: NDArray[np.int64]) -> FloatArray:
    """Return a random light curve of rms one for each nucleus: 24 waves with periods from three days to three years."""
    frequency = np.geomspace(1.0 / 1000.0, 1.0 / 3.0, 24)
    weight = frequency**-0.45
    weight *= np.sqrt(2.0 / np.sum(weight**2))
    phase = (source_id[:, None] * 0.6180339887 + np.arange(24) ** 2 * 0.7548776662) % 1.0
    return np.sum(weight * np.cos(2 * np.pi * (frequency * days[:, None] + phase)), axis=1)


def make_transients(
    seed: int,
    galaxies: Galaxies,
    host: int,
    numbers: Mapping[str, float],
    search_mjd: float,
    merger_mjd: float,
    distance_mpc: float,
    *,
    by_profile: bool = False,
) -> Transients:
    """Draw the kilonova, the supernovae and the active nuclei.

    Parameters
    ----------
    seed
        Seed of the sky.
    galaxies
        All galaxies.
    host
        Index of the kilonova's host.
    numbers
        Mean numbers of ``supernovae`` and ``active_nuclei``.
    search_mjd
        Time of the search; supernovae exploded up to 110 days before it.
    merger_mjd, distance_mpc
        Time and distance of the merger.
    by_profile
        Whether supernovae follow the light of their hosts.
    """
    random = random_stream(seed, "transients")
    mag_i = galaxies.mags["i"]
    eligible = np.flatnonzero((mag_i > 16.5) & (mag_i < 23.0) & (galaxies.redshift > 0.01))
    eligible = eligible[eligible != host]
    weight = 10.0 ** (-0.25 * mag_i[eligible])
    n_supernovae, n_nuclei = random.poisson(numbers["supernovae"]), random.poisson(numbers["active_nuclei"])
    n_chosen = min(n_supernovae + n_nuclei, len(eligible))
    chosen = random.choice(eligible, n_chosen, replace=False, p=weight / weight.sum()) if n_chosen else eligible[:0]
    at = np.concatenate([[host], chosen]).astype(np.intp)
    n = len(at)
    kind = np.where(np.arange(n) <= n_supernovae, random.choice([1, 2], n, p=[0.6, 0.4]), 3).astype(np.int8)
    kind[0] = 0
    distance = luminosity_distance_mpc(galaxies.redshift[at])
    distance[0] = distance_mpc
    absolute = np.where(kind == 1, random.normal(-19.1, 0.2, n), random.normal(-17.4, 0.7, n))
    nucleus = mag_i[at] + random.uniform(0.3, 2.0, n)
    peak = np.where(kind == 3, nucleus, np.maximum(absolute + 5.0 * np.log10(distance) + 25.0, 17.0))
    start = search_mjd - random.uniform(0.5, 110.0, n)
    start[0] = merger_mjd
    stretch = np.where(
        kind == 3, random.uniform(0.1, 0.35, n), (1.0 + galaxies.redshift[at]) * random.normal(1.0, 0.07, n)
    )
    radii = np.where(kind == 3, 0.0, np.where(kind == 0, 1.3, random.gamma(1.5, 0.5, n)))
    if by_profile:
        radii = np.where(np.isin(kind, (0, 3)), radii, _radii_by_profile(seed, galaxies.bulge[at]))
    ra, dec = _near(random, galaxies, at, radii)
    return Transients(
        3_000_000_000 + np.arange(n), kind, ra, dec, galaxies.source_id[at], start, peak, stretch, distance
    )


def _radii_by_profile(seed: int, bulge: FloatArray) -> FloatArray:
    """Draw radii in units of the half-light radius from exponential discs and de Vaucouleurs bulges.

    The light inside r is an incomplete gamma function of order 2 in r / h, and of order 8 in 7.669 r^(1/4).
    """
    random = random_stream(seed, "host radii")
    n = len(bulge)
    disc, spheroid = random.gamma(2.0, 1.0, n) / 1.678, (random.gamma(8.0, 1.0, n) / 7.669) ** 4
    return np.where(random.random(n) < bulge, spheroid, disc)


def _near(
    random: np.random.Generator, galaxies: Galaxies, at: NDArray[np.intp], radii: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Place sources around galaxies, at a distance in units of the half-light ellipse."""
    angle = random.uniform(0.0, 2 * np.pi, len(at))
    along = radii * galaxies.radius_arcsec[at] * np.cos(angle)
    across = radii * galaxies.radius_arcsec[at] * galaxies.axis_ratio[at] * np.sin(angle)
    pa = np.radians(galaxies.position_angle_deg[at])
    east, north = along * np.sin(pa) + across * np.cos(pa), along * np.cos(pa) - across * np.sin(pa)
    dec = np.clip(galaxies.dec[at] + north / 3600.0, -90.0, 90.0)
    return (galaxies.ra[at] + east / 3600.0 / np.maximum(np.cos(np.radians(dec)), 1e-6)) % 360.0, dec
