"""Simulated multi-order sky map with distances around the kilonova, in the format of published maps."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from imaging.exposure import MJD_EPOCH
from imaging.io.calibration_write import write_table_extensions
from imaging.simulation.streams import random_stream
from imaging.wcs.tpv import plane_to_sky, sky_to_plane

FloatArray = NDArray[np.float64]

FIRST_ORDER, ROUNDS = 4, 7
"""BAYESTAR's refinement: every round splits the most probable pixels, a quarter of the number of pixels of the first
order (Singer and Price 2016)."""

WIDTHS_DEG = (2.6, 4.8)
"""Sigma across and along the ellipse; the 90 % area is about 180 square degrees; the map is slightly curved."""

DISTANCE_ERROR = 0.22
"""Relative error of the distance along a line of sight."""


@dataclass(frozen=True, eq=False)
class SimulatedSkyMap:
    """A multi-order map.

    Attributes
    ----------
    uniq
        (n,) int64, HEALPix NUNIQ indices; the pixels cover the sky once.
    density
        (n,) probability per steradian.
    distmu, distsigma, distnorm
        (n,) parameters of the distance distribution of each pixel: Mpc, Mpc, 1/Mpc^2.
    """

    uniq: NDArray[np.int64]
    density: FloatArray
    distmu: FloatArray
    distsigma: FloatArray
    distnorm: FloatArray

    @property
    def pixel_steradian(self) -> FloatArray:
        """(n,) area of each pixel."""
        order = (np.log2(self.uniq // 4) / 2).astype(int)
        return 4 * np.pi / (12.0 * 4.0**order)


def make_skymap(seed: int, ra_deg: float, dec_deg: float, distance_mpc: float) -> SimulatedSkyMap:
    """Return a map with the source in its 90 % region, at a distance within its error.

    Parameters
    ----------
    seed
        Seed of the simulation.
    ra_deg, dec_deg, distance_mpc
        The source.
    """
    random = random_stream(seed, "sky map")
    angle = random.uniform(0.0, np.pi)
    offset = random.normal(0.0, 0.6, 2) * WIDTHS_DEG
    xi = offset[1] * np.cos(angle) - offset[0] * np.sin(angle)
    eta = offset[1] * np.sin(angle) + offset[0] * np.cos(angle)
    centre = tuple(float(c) for c in plane_to_sky(xi, eta, ra_deg, dec_deg))
    uniq = _refine(centre, angle)
    order, ra, dec = _positions(uniq)
    probability = _shape(ra, dec, centre, angle)
    area = 4 * np.pi / (12.0 * 4.0**order)
    density = probability / np.sum(probability * area)
    mean = distance_mpc * (1.0 + DISTANCE_ERROR * float(np.clip(random.normal(0.0, 0.4), -0.7, 0.7)))
    location = mean * (1.0 + DISTANCE_ERROR**2) / (1.0 + 3.0 * DISTANCE_ERROR**2)  # r^2 shifts the mean outwards
    distmu = location * (1.0 - 0.15 * np.sin(np.radians(2 * (ra - ra_deg))) * np.cos(np.radians(dec)))
    distsigma = DISTANCE_ERROR * distmu
    return SimulatedSkyMap(uniq, density, distmu, distsigma, _distance_norm(distmu, distsigma))


def _shape(ra: FloatArray, dec: FloatArray, centre: tuple[float, ...], angle: float) -> FloatArray:
    """Evaluate a curved Gaussian, with a floor far away as in real maps."""
    xi, eta = sky_to_plane(ra, dec, *centre)
    along, across = xi * np.cos(angle) + eta * np.sin(angle), -xi * np.sin(angle) + eta * np.cos(angle)
    across = across - 0.02 * along**2
    chi2 = (across / WIDTHS_DEG[0]) ** 2 + (along / WIDTHS_DEG[1]) ** 2
    return np.exp(-0.5 * np.where(np.isfinite(chi2), chi2, 400.0)) + 1e-9


def _positions(uniq: NDArray[np.int64]) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    order = (np.log2(uniq // 4) / 2).astype(np.int64)
    ra, dec = np.empty(len(uniq)), np.empty(len(uniq))
    for level in np.unique(order):
        chosen = order == level
        pixel = uniq[chosen] - 4 * 4 ** int(level)
        lon, lat = HEALPix(2 ** int(level), order="nested").healpix_to_lonlat(pixel)
        ra[chosen], dec[chosen] = lon.to_value(u.deg), lat.to_value(u.deg)
    return order, ra, dec


def _refine(centre: tuple[float, ...], angle: float) -> NDArray[np.int64]:
    n = 12 * 4**FIRST_ORDER
    uniq = 4 * 4**FIRST_ORDER + np.arange(n)
    for _ in range(ROUNDS):
        order, ra, dec = _positions(uniq)
        probability = _shape(ra, dec, centre, angle) / 4.0**order
        split = np.sort(np.argsort(-probability, kind="stable")[: n // 4])
        children = (4 * uniq[split][:, None] + np.arange(4)[None, :]).ravel()
        uniq = np.concatenate([np.delete(uniq, split), children])
    return np.sort(uniq)


def _distance_norm(mu: FloatArray, sigma: FloatArray) -> FloatArray:
    """Normalise r^2 N(r; mu, sigma); the part below zero distance is negligible for these errors."""
    return 1.0 / (mu**2 + sigma**2)


def write_skymap_file(path: Path, skymap: SimulatedSkyMap, event: str, merger_mjd: float) -> None:
    """Write a map with the keywords of a published one."""
    weight = skymap.density * skymap.pixel_steradian
    mu, sigma = skymap.distmu, skymap.distsigma
    mean = (mu**3 + 3 * mu * sigma**2) * skymap.distnorm
    square = (mu**4 + 6 * mu**2 * sigma**2 + 3 * sigma**4) * skymap.distnorm
    distance = float(np.sum(weight * mean))
    spread = float(np.sqrt(np.sum(weight * square) - distance**2))
    merger = MJD_EPOCH + timedelta(days=merger_mjd)
    header: dict[str, Any] = {
        "MOC": True,
        "PIXTYPE": ("HEALPIX", "HEALPIX pixelisation"),
        "ORDERING": ("NUNIQ", "Pixel ordering scheme: RING, NESTED, or NUNIQ"),
        "COORDSYS": ("C", "Ecliptic, Galactic or Celestial (equatorial)"),
        "MOCORDER": (FIRST_ORDER + ROUNDS, "MOC resolution (best order)"),
        "INDXSCHM": ("EXPLICIT", "Indexing: IMPLICIT or EXPLICIT"),
        "OBJECT": (event, "Unique identifier for this event"),
        "REFERENC": (f"simulation of {event}", "URL of this event"),
        "INSTRUME": ("H1,L1,V1", "Instruments that triggered this event"),
        "DATE-OBS": (merger.isoformat(timespec="microseconds"), "UTC date of the observation"),
        "MJD-OBS": (merger_mjd, "modified Julian date of the observation"),
        "DATE": ((merger + timedelta(minutes=5)).isoformat(timespec="microseconds"), "UTC date of file creation"),
        "CREATOR": ("SIMULATION", "Program that created this file"),
        "ORIGIN": ("SIMULATION", "Organization responsible for this FITS file"),
        "RUNTIME": (3.2, "Runtime in seconds of the CREATOR program"),
        "DISTMEAN": (distance, "Posterior mean distance (Mpc)"),
        "DISTSTD": (spread, "Posterior standard deviation of distance (Mpc)"),
        "LOGBCI": (16.2, "Log Bayes factor: coherent vs. incoherent"),
        "LOGBSN": (172.9, "Log Bayes factor: signal vs. noise"),
        "VCSVERS": ("simulation", "Software version"),
    }
    columns = {
        "UNIQ": skymap.uniq,
        "PROBDENSITY": skymap.density,
        "DISTMU": skymap.distmu,
        "DISTSIGMA": skymap.distsigma,
        "DISTNORM": skymap.distnorm,
    }
    units = {"PROBDENSITY": "sr-1", "DISTMU": "Mpc", "DISTSIGMA": "Mpc", "DISTNORM": "Mpc-2"}
    write_table_extensions(path, {"": columns}, units, header)
