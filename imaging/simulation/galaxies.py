"""The galaxies of a simulated field."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.stars import random_positions
from imaging.simulation.streams import random_stream
from imaging.wcs.tpv import plane_to_sky

FloatArray = NDArray[np.float64]

GALAXIES_PER_DEG2 = 120_000.0
"""Number of galaxies brighter than i = 25, as in deep surveys."""
BRIGHTEST_I, FAINTEST_I = 13.5, 25.5

EXPONENTIAL = (
    np.array([0.0217890, 0.1001865, 0.3685345, 0.5094907]),
    np.array([0.0354890, 0.1399768, 0.4609625, 1.5015957]),
)
DE_VAUCOULEURS = (
    np.array([0.0133863, 0.0324716, 0.0719288, 0.1342723, 0.2113627, 0.2709998, 0.2655786]),
    np.array([0.0008849, 0.0041872, 0.0169433, 0.0684850, 0.2872071, 1.3332025, 8.4021507]),
)
"""Weights and variances (in squared half-light radii) of the two profiles as sums of Gaussians, after Hogg and Lang
(2013); their narrowest components, far below the pixel, are merged."""

HUBBLE_MPC = 4282.7
"""Speed of light over a Hubble constant of 70 km/s/Mpc."""


@dataclass(frozen=True, eq=False)
class Galaxies:
    """The galaxies; all arrays have length n.

    Attributes
    ----------
    source_id
        Identifier.
    ra, dec
        Position, degrees.
    redshift
        Redshift.
    mags
        Band to AB magnitude, total.
    radius_arcsec
        Half-light radius along the major axis.
    axis_ratio
        Minor over major axis.
    position_angle_deg
        Position angle of the major axis, from north to east.
    bulge
        Fraction of the light in a de Vaucouleurs profile; the rest is exponential.
    """

    source_id: NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray
    redshift: FloatArray
    mags: Mapping[str, FloatArray]
    radius_arcsec: FloatArray
    axis_ratio: FloatArray
    position_angle_deg: FloatArray
    bulge: FloatArray

    def shape_pixels(self, chosen: NDArray[np.intp]) -> FloatArray:
        """Return half-light ellipses, x to the south and y to the east: (m, 3) squares in pixels, xx, xy, yy."""
        angle = np.radians(self.position_angle_deg[chosen])
        major2 = (self.radius_arcsec[chosen] / PIXEL_SCALE_ARCSEC) ** 2
        minor2 = major2 * self.axis_ratio[chosen] ** 2
        c, s = -np.cos(angle), np.sin(angle)
        return np.stack(
            [major2 * c * c + minor2 * s * s, (major2 - minor2) * c * s, major2 * s * s + minor2 * c * c], axis=-1
        )


def luminosity_distance_mpc(redshift: FloatArray) -> FloatArray:
    """Return the luminosity distance for small and moderate redshifts (deceleration parameter -0.55)."""
    z = np.asarray(redshift, dtype=float)
    return HUBBLE_MPC * z * (1.0 + 0.775 * z / (1.0 + 0.3 * z))


def redshift_at(distance_mpc: float) -> float:
    """Invert :func:`luminosity_distance_mpc`."""
    grid = np.linspace(0.0, 1.0, 20001)
    return float(np.interp(distance_mpc, luminosity_distance_mpc(grid), grid))


def make_galaxies(seed: int, ra_deg: float, dec_deg: float, radius_deg: float, density: float) -> Galaxies:
    """Draw the galaxies of a field; a fifth of them are in groups and clusters.

    Parameters
    ----------
    seed
        Seed of the sky.
    ra_deg, dec_deg, radius_deg
        The field, a disc.
    density
        Density relative to the cosmic mean.
    """
    random = random_stream(seed, "galaxies")
    quantile, magnitude, per_deg2 = _magnitude_distribution()
    n = random.poisson(density * per_deg2 * np.pi * radius_deg**2)
    mag_i = np.interp(random.random(n), quantile, magnitude)
    redshift = 0.06 * 10.0 ** (0.135 * (mag_i - 16.5)) * 10.0 ** random.normal(0.0, 0.16, n)
    ra, dec = random_positions(random, n, ra_deg, dec_deg, radius_deg)
    ra, dec = _cluster(random, ra, dec, (ra_deg, dec_deg, radius_deg))
    red = random.random(n) < np.clip(0.55 - 0.04 * (mag_i - 17.0), 0.12, 0.55)
    radius = 0.36 * 10.0 ** (-0.115 * (mag_i - 24.0) + random.normal(0.0, 0.16, n))
    bulge = np.where(red, random.uniform(0.5, 1.0, n), np.clip(random.exponential(0.15, n), 0.0, 0.6))
    axis_ratio = np.where(red, random.uniform(0.5, 1.0, n), random.uniform(0.2, 1.0, n))
    return Galaxies(
        2_000_000_000 + np.arange(n),
        ra,
        dec,
        redshift,
        colours(random, mag_i, redshift, red),
        np.clip(radius, 0.08, 12.0),
        axis_ratio,
        random.uniform(0.0, 180.0, n),
        bulge,
    )


def _magnitude_distribution() -> tuple[FloatArray, FloatArray, float]:
    grid = np.arange(BRIGHTEST_I, FAINTEST_I, 0.01)
    slope = np.where(grid < 17.5, 0.58, np.where(grid < 21.5, 0.42, 0.31))
    cumulative = np.cumsum(10.0 ** np.cumsum(slope * 0.01))
    total = GALAXIES_PER_DEG2 * cumulative[-1] / np.interp(25.0, grid, cumulative)
    return cumulative / cumulative[-1], grid, float(total)


def _cluster(
    random: np.random.Generator,
    ra: FloatArray,
    dec: FloatArray,
    field: tuple[float, float, float],
) -> tuple[FloatArray, FloatArray]:
    """Move a fifth of the galaxies into groups on the sky; their redshifts stay as drawn."""
    groups = max(int(40 * np.pi * field[2] ** 2), 1)
    group_ra, group_dec = random_positions(random, groups, *field)
    member = np.flatnonzero(random.random(len(ra)) < 0.2)
    group = random.integers(0, groups, len(member))
    distance = np.abs(random.standard_t(3, len(member))) * 0.02
    angle = random.uniform(0.0, 2 * np.pi, len(member))
    ra, dec = ra.copy(), dec.copy()
    dec_new = np.clip(group_dec[group] + distance * np.sin(angle), -90.0, 90.0)
    ra_new = group_ra[group] + distance * np.cos(angle) / np.maximum(np.cos(np.radians(dec_new)), 1e-6)
    ra[member], dec[member] = ra_new % 360.0, dec_new
    return ra, dec


def colours(
    random: np.random.Generator, mag_i: FloatArray, redshift: FloatArray, red: NDArray[np.bool_]
) -> dict[str, FloatArray]:
    """Return magnitudes in all bands: a red and a blue sequence that redden with redshift.

    Parameters
    ----------
    random
        Generator.
    mag_i, redshift
        (n,) i magnitudes and redshifts.
    red
        (n,) whether a galaxy is of the red sequence.
    """
    z = np.clip(redshift, 0.0, 0.9)
    n = len(mag_i)
    g_r = np.where(red, 0.65 + 2.2 * np.clip(z, 0, 0.38), 0.42 + 0.7 * z) + random.normal(0.0, 0.09, n)
    r_i = np.where(red, 0.33 + 0.9 * np.clip(z - 0.3, 0, 0.4), 0.20 + 0.35 * z) + random.normal(0.0, 0.05, n)
    i_z = np.where(red, 0.22 + 0.2 * z, 0.10 + 0.15 * z) + random.normal(0.0, 0.04, n)
    z_y = np.where(red, 0.08, 0.05) + random.normal(0.0, 0.03, n)
    u_g = np.where(red, 1.7, 0.9) + random.normal(0.0, 0.2, n)
    r = mag_i + r_i
    g = r + g_r
    mag_z = mag_i - i_z
    return {"u": g + u_g, "g": g, "r": r, "i": mag_i, "z": mag_z, "Y": mag_z - z_y, "VR": 0.45 * g + 0.55 * r}


def host_galaxy(seed: int, ra_deg: float, dec_deg: float, distance_mpc: float) -> Galaxies:
    """Return the kilonova's host: an early-type galaxy of absolute i = -21.3 at a given distance, as a list of one."""
    random = random_stream(seed, "host")
    mag_i = np.array([5.0 * np.log10(distance_mpc) + 25.0 - 21.3])
    redshift = np.array([redshift_at(distance_mpc)])
    radius_kpc = 3.6
    radius_arcsec = radius_kpc / (distance_mpc / (1.0 + redshift[0]) ** 2 * 1000.0) * 206265.0
    east, north = random.normal(0.0, 2e-5, 2)
    ra, dec = plane_to_sky(np.array([east]), np.array([north]), ra_deg, dec_deg)
    return Galaxies(
        np.array([2_999_999_999]),
        ra,
        dec,
        redshift,
        colours(random, mag_i, redshift, np.array([True])),
        np.array([radius_arcsec]),
        np.array([0.75]),
        np.array([float(random.uniform(0.0, 180.0))]),
        np.array([0.7]),
    )
