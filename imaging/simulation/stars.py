"""The stars of a simulated field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import erfa
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from imaging.bands import BANDS
from imaging.simulation.observing import galactic_latitude_deg
from imaging.simulation.streams import random_stream
from imaging.wcs.tpv import plane_to_sky

FloatArray = NDArray[np.float64]

REFERENCE_EPOCH_YR = 2016.0
STARS_PER_DEG2 = 5600.0
"""Number of stars brighter than G = 20.7 at galactic latitude 45 degrees; the Gaia archive has about 250 per CCD."""
FAINTEST_G = 26.0

_COUNT_SLOPES = ((4.0, 0.33), (14.0, 0.22), (17.0, 0.14), (20.5, 0.11), (23.0, 0.06), (FAINTEST_G, 0.0))
"""Slope of log10(counts per magnitude) above each magnitude."""

BRIGHT_G, FAINT_G = 4.0, 20.0
"""Magnitudes between which the density of a crowded field takes effect, from none to all of it: at low latitude and in
the Magellanic Clouds bright stars, which are near, are hardly more frequent than elsewhere."""

_COLOUR = np.array([-0.4, 0.0, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.2])
_LOCUS = {
    "G-r": np.array([-0.18, -0.10, -0.03, 0.015, 0.03, 0.0, -0.16, -0.465, -0.88, -1.35, -2.05]),
    "u-g": np.array([0.45, 1.0, 0.95, 1.30, 1.65, 2.40, 2.60, 2.55, 2.50, 2.50, 2.55]),
    "g-r": np.array([-0.42, -0.25, 0.20, 0.44, 0.58, 1.05, 1.40, 1.47, 1.50, 1.55, 1.70]),
    "r-i": np.array([-0.32, -0.22, 0.04, 0.13, 0.19, 0.42, 0.72, 1.12, 1.50, 1.85, 2.30]),
    "i-z": np.array([-0.22, -0.15, -0.01, 0.03, 0.06, 0.19, 0.33, 0.50, 0.68, 0.86, 1.12]),
    "z-Y": np.array([-0.10, -0.06, 0.00, 0.02, 0.03, 0.07, 0.11, 0.16, 0.22, 0.28, 0.38]),
}
"""The stellar locus as a function of BP - RP: DECam AB colours of main-sequence stars and Gaia's G (Vega) minus r."""

_ABSOLUTE_G = np.array([9.0, 1.2, 3.2, 4.6, 5.6, 7.2, 8.4, 9.8, 11.5, 13.0, 15.0])
"""Absolute G of the main sequence at the same colours."""

INTRINSIC_SCATTER_MAG = 0.012
"""Rms of a star's magnitude about the locus."""

WIGGLE_MAG = 0.003
"""Amplitude of small waves of the locus that low-order polynomials cannot fit."""

FIRST_ID = 4_657_193_606_465_000_000
"""Identifier of the first star: as long as those of Gaia, which floating-point numbers cannot hold."""


@dataclass(frozen=True, eq=False)
class Stars:
    """The stars; all arrays have length n.

    Attributes
    ----------
    source_id
        Identifier.
    ra, dec
        Position at epoch 2016.0, degrees.
    pmra, pmdec
        Proper motion, mas per year; pmra includes cos(dec).
    parallax
        Parallax, mas.
    g, bp, rp
        Gaia magnitudes (Vega).
    mags
        Band to AB magnitude.
    variability
        0 none, 1 RR Lyrae, 2 eclipsing binary, 3 flare star.
    amplitude_mag, period_d, phase
        Parameters of the variability; for flares the period is the decay time and the phase the MJD.
    """

    source_id: NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray
    pmra: FloatArray
    pmdec: FloatArray
    parallax: FloatArray
    g: FloatArray
    bp: FloatArray
    rp: FloatArray
    mags: Mapping[str, FloatArray]
    variability: NDArray[np.int8]
    amplitude_mag: FloatArray
    period_d: FloatArray
    phase: FloatArray

    def at_epoch(self, mjd: float) -> tuple[FloatArray, FloatArray]:
        """Return RA and Dec (degrees) at a given time: proper motion and parallax, no aberration."""
        years = 2000.0 + (mjd - 51544.5) / 365.25 - REFERENCE_EPOCH_YR
        a, d = np.radians(self.ra), np.radians(self.dec)
        x, y, z = erfa.epv00(2400000.5, mjd)[1]["p"]
        east = self.pmra * years + self.parallax * (x * np.sin(a) - y * np.cos(a))
        north = self.pmdec * years + self.parallax * ((x * np.cos(a) + y * np.sin(a)) * np.sin(d) - z * np.cos(d))
        dec = self.dec + north / 3.6e6
        return (self.ra + east / 3.6e6 / np.maximum(np.cos(d), 1e-9)) % 360.0, np.clip(dec, -90.0, 90.0)

    def magnitude(self, band: str, mjd: float) -> FloatArray:
        """Return AB magnitudes in a band at a given time, variability included."""
        return self.mags[band] + self._variation(band, mjd)

    def _variation(self, band: str, mjd: float) -> FloatArray:
        change = np.zeros(len(self.g))
        blueness = (780.0 / BANDS[band].wavelength_nm) ** 0.8
        pulsating, eclipsing, flaring = (self.variability == k for k in (1, 2, 3))
        cycle = ((mjd - self.phase) / np.maximum(self.period_d, 1e-6)) % 1.0
        saw = np.where(cycle < 0.85, cycle / 0.85 - 0.5, 0.5 - (cycle - 0.85) / 0.15)
        change[pulsating] = (self.amplitude_mag * saw)[pulsating] * blueness
        depth = np.exp(-0.5 * (np.minimum(cycle, 1 - cycle) / 0.035) ** 2) + 0.5 * np.exp(
            -0.5 * ((cycle - 0.5) / 0.035) ** 2
        )
        change[eclipsing] = (self.amplitude_mag * depth)[eclipsing]
        since = mjd - self.phase
        burst = np.where(since > 0, np.exp(-np.maximum(since, 0.0) / np.maximum(self.period_d, 1e-6)), 0.0)
        excess = (10.0 ** (0.4 * self.amplitude_mag) - 1.0) * burst * blueness**4
        change[flaring] = -2.5 * np.log10(1.0 + excess[flaring])
        return change


def stellar_locus(bp_rp: FloatArray) -> dict[str, FloatArray]:
    """Return the mean DECam magnitude minus Gaia G of stars, for every band.

    Parameters
    ----------
    bp_rp
        (n,) colours; clipped to -0.4 to 4.2.
    """
    c = np.clip(bp_rp, _COLOUR[0], _COLOUR[-1])
    step = {name: PchipInterpolator(_COLOUR, knots)(c) for name, knots in _LOCUS.items()}
    r = -step["G-r"]
    g, i = r + step["g-r"], r - step["r-i"]
    z = i - step["i-z"]
    offset = {"u": g + step["u-g"], "g": g, "r": r, "i": i, "z": z, "Y": z - step["z-Y"], "VR": 0.45 * g + 0.55 * r}
    return {
        band: value + WIGGLE_MAG * np.sin(2 * np.pi * c / 0.35 + number)
        for number, (band, value) in enumerate(offset.items())
    }


def make_stars(
    seed: int,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    density: float,
    variables_per_deg2: float,
    mjd: float,
    near: Callable[[FloatArray, FloatArray], NDArray[np.bool_]] | None = None,
) -> Stars:
    """Draw the stars of a field.

    Parameters
    ----------
    seed
        Seed of the sky.
    ra_deg, dec_deg, radius_deg
        The field, a disc.
    density
        Density of faint stars relative to galactic latitude 45 degrees; above one, that of bright stars is less.
    variables_per_deg2
        Number of variable stars per square degree.
    mjd
        Time around which flares occur.
    near
        Function that chooses positions (RA, Dec); only their stars are drawn, where the field has too many.
    """
    random = random_stream(seed, "stars")
    magnitude, number_per_deg2 = _magnitude_distribution()
    n = random.poisson(density * number_per_deg2 * np.pi * radius_deg**2)
    g = np.interp(random.random(n), *magnitude)
    ra, dec = random_positions(random, n, ra_deg, dec_deg, radius_deg)
    kept, area_deg2 = np.ones(n, dtype=bool), np.pi * radius_deg**2
    if near is not None:
        kept = near(ra, dec)
        area_deg2 *= kept.sum() / max(n, 1)
    if density > 1.0:
        share = density ** -np.clip((FAINT_G - g) / (FAINT_G - BRIGHT_G), 0.0, 1.0)
        kept = kept & (random_stream(seed, "bright stars of a crowded field").random(n) < share)
    number = np.flatnonzero(kept)
    g, ra, dec, n = g[number], ra[number], dec[number], len(number)
    colour = _draw_colours(random, g)
    pmra, pmdec, parallax = _draw_motions(random, g, colour, abs(galactic_latitude_deg(ra_deg, dec_deg)))
    scatter = random.normal(0.0, 0.7 * INTRINSIC_SCATTER_MAG, n)
    mags = {
        band: g + offset + scatter + random.normal(0.0, 0.71 * INTRINSIC_SCATTER_MAG, n)
        for band, offset in stellar_locus(colour).items()
    }
    bp = g + np.interp(colour, [-0.4, 0.5, 1.0, 2.0, 3.0, 4.2], [-0.12, 0.17, 0.42, 1.05, 1.65, 2.35])
    kind, amplitude, period, phase = _draw_variability(random, colour, g, variables_per_deg2 * area_deg2, mjd)
    motion = pmra, pmdec, parallax
    return Stars(FIRST_ID + number, ra, dec, *motion, g, bp, bp - colour, mags, kind, amplitude, period, phase)


def with_small_variables(stars: Stars, seed: int, share: float) -> Stars:
    """Return the stars with a share of those brighter than G = 21 pulsating by 0.01 to 0.3 mag.

    Parameters
    ----------
    stars
        The stars.
    seed
        Seed of the sky.
    share
        Share of the bright stars; Gaia finds some per cent (Eyer et al. 2023).
    """
    random = random_stream(seed, "small variables")
    n = len(stars.g)
    chosen = (random.random(n) < share) & (stars.g < 21.0) & (stars.variability == 0)
    return replace(
        stars,
        variability=np.where(chosen, 1, stars.variability).astype(np.int8),
        amplitude_mag=np.where(chosen, 10.0 ** random.uniform(-2.0, -0.5, n), stars.amplitude_mag),
        period_d=np.where(chosen, 10.0 ** random.uniform(-1.0, 2.0, n), stars.period_d),
        phase=np.where(chosen, random.uniform(50000.0, 50100.0, n), stars.phase),
    )


def random_positions(
    random: np.random.Generator, n: int, ra_deg: float, dec_deg: float, radius_deg: float
) -> tuple[FloatArray, FloatArray]:
    """Draw n positions, uniform over a disc on the sky: RA and Dec in degrees."""
    radius, angle = radius_deg * np.sqrt(random.random(n)), random.uniform(0.0, 2 * np.pi, n)
    return plane_to_sky(radius * np.cos(angle), radius * np.sin(angle), ra_deg, dec_deg)


def _magnitude_distribution() -> tuple[tuple[FloatArray, FloatArray], float]:
    """Return the inverse cumulative distribution of G (quantile, magnitude), and the number of all stars per deg2."""
    grid = np.arange(_COUNT_SLOPES[0][0], FAINTEST_G, 0.01)
    slope = np.zeros_like(grid)
    for start, value in _COUNT_SLOPES:
        slope[grid >= start] = value
    counts = 10.0 ** np.cumsum(slope * 0.01)
    cumulative = np.cumsum(counts)
    total = STARS_PER_DEG2 * cumulative[-1] / np.interp(20.7, grid, cumulative)
    return (np.concatenate([[0.0], cumulative / cumulative[-1]]), np.concatenate([grid[:1], grid])), float(total)


def _draw_colours(random: np.random.Generator, g: FloatArray) -> FloatArray:
    red_share = np.clip((g - 15.0) / 8.0, 0.0, 0.75)
    kind = random.random(len(g))
    colour = random.normal(0.85, 0.2, len(g))
    giants = (kind > 0.9) & (g < 16.0)
    colour[giants] = random.normal(1.25, 0.15, giants.sum())
    red = kind < red_share
    colour[red] = random.normal(2.4, 0.55, red.sum())
    blue = (kind > 0.975) & ~red
    colour[blue] = random.normal(0.2, 0.2, blue.sum())
    return np.clip(colour, _COLOUR[0], _COLOUR[-1])


def _draw_motions(
    random: np.random.Generator, g: FloatArray, colour: FloatArray, latitude_deg: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Main-sequence distances; 35 km/s per axis in the disc, 120 km/s beyond one kiloparsec above it."""
    kpc = 10.0 ** ((g - np.interp(colour, _COLOUR, _ABSOLUTE_G)) / 5.0 - 2.0)
    kpc = np.maximum(kpc, 0.01)
    speed = np.where(kpc * np.sin(np.radians(latitude_deg)) > 1.0, 120.0, 35.0)
    per_kpc = speed / 4.74 / kpc
    return random.normal(0.0, 1.0, len(g)) * per_kpc, random.normal(-0.3, 1.0, len(g)) * per_kpc, 1.0 / kpc


def _draw_variability(
    random: np.random.Generator, colour: FloatArray, g: FloatArray, wanted: float, mjd: float
) -> tuple[NDArray[np.int8], FloatArray, FloatArray, FloatArray]:
    """One RR Lyrae star to three eclipsing binaries to one flare star, G from 15 to 23."""
    n = len(g)
    kind = np.zeros(n, dtype=np.int8)
    amplitude, period, phase = np.zeros(n), np.ones(n), np.zeros(n)
    bright = (g > 15.0) & (g < 23.0)
    suitable = {1: bright & (colour < 1.0) & (g < 20.5), 2: bright & (colour < 2.2), 3: bright & (colour > 2.2)}
    for code, share in ((1, 0.2), (2, 0.6), (3, 0.2)):
        pool = np.flatnonzero(suitable[code] & (kind == 0))
        chosen = random.choice(pool, min(random.poisson(wanted * share), len(pool)), replace=False)
        m = len(chosen)
        kind[chosen] = code
        amplitude[chosen] = {
            1: random.uniform(0.3, 1.0, m),
            2: random.uniform(0.15, 0.7, m),
            3: random.uniform(0.5, 4.0, m),
        }[code]
        period[chosen] = {
            1: random.uniform(0.35, 0.75, m),
            2: 10 ** random.uniform(-0.6, 0.7, m),
            3: random.uniform(0.01, 0.04, m),
        }[code]
        phase[chosen] = mjd + (random.uniform(-0.05, 0.15, m) if code == 3 else random.uniform(0.0, 10.0, m))
    return kind, amplitude, period, phase
