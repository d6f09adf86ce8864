"""What the tests of the simulated sky share: small records made by hand, and projections and moments by other means."""

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from imaging.bands import BANDS
from imaging.simulation.galaxies import Galaxies
from imaging.simulation.stars import Stars
from imaging.simulation.transients import Transients
from tests.simulated_exposures import MJD


def some_stars(ra, dec, mag, **changes) -> Stars:
    """Stars that stand still and do not vary, of one magnitude in all bands."""
    ra, dec, mag = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=float)) for v in (ra, dec, mag)))
    n, still = ra.size, np.zeros(ra.size)
    values = {
        "source_id": 1000 + np.arange(n),
        "ra": ra.copy(),
        "dec": dec.copy(),
        "pmra": still,
        "pmdec": still,
        "parallax": still,
        "g": mag.copy(),
        "bp": mag + 0.4,
        "rp": mag - 0.4,
        "mags": {band: mag.copy() for band in BANDS},
        "variability": np.zeros(n, dtype=np.int8),
        "amplitude_mag": still,
        "period_d": np.ones(n),
        "phase": still,
    }
    return Stars(**(values | changes))


def some_galaxies(ra, dec, mag, **changes) -> Galaxies:
    """Round galaxies without a bulge, of one magnitude in all bands and a half-light radius of 1 arcsec."""
    ra, dec, mag = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=float)) for v in (ra, dec, mag)))
    n = ra.size
    values = {
        "source_id": 2000 + np.arange(n),
        "ra": ra.copy(),
        "dec": dec.copy(),
        "redshift": np.full(n, 0.1),
        "mags": {band: mag.copy() for band in BANDS},
        "radius_arcsec": np.ones(n),
        "axis_ratio": np.ones(n),
        "position_angle_deg": np.zeros(n),
        "bulge": np.zeros(n),
    }
    return Galaxies(**(values | changes))


def some_transients(kind, **changes) -> Transients:
    """Transients of the given kinds at one place, that began at :data:`MJD`."""
    kind = np.atleast_1d(np.asarray(kind, dtype=np.int8))
    n = kind.size
    values = {
        "source_id": 3000 + np.arange(n),
        "kind": kind,
        "ra": np.full(n, 190.0),
        "dec": np.full(n, -10.0),
        "host_id": np.full(n, 2000),
        "start_mjd": np.full(n, MJD),
        "peak_mag": np.full(n, 20.0),
        "stretch": np.ones(n),
        "distance_mpc": np.full(n, 40.0),
    }
    return Transients(**(values | changes))


def tangent_plane(ra0, dec0) -> WCS:
    """Astropy's gnomonic projection, in degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (ra0, dec0), (1, 1), (1, 1)
    wcs.wcs.set()
    return wcs


def project(ra, dec, ra0, dec0) -> tuple[np.ndarray, np.ndarray]:
    """Degrees to the east and north on the tangent plane, by astropy."""
    xi, eta = tangent_plane(ra0, dec0).wcs_world2pix(np.atleast_1d(ra), np.atleast_1d(dec), 0)
    return xi, eta


def coordinates(ra, dec) -> SkyCoord:
    return SkyCoord(ra, dec, unit="deg")


def moments(image) -> tuple[float, float, float, np.ndarray]:
    """Sum, centroid x and y, and covariance (xx, xy, yy) of an image without background."""
    light = np.asarray(image, dtype=float)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    total = light.sum()
    cx, cy = (light * x).sum() / total, (light * y).sum() / total
    second = [(light * a * b).sum() / total for a, b in ((x - cx, x - cx), (x - cx, y - cy), (y - cy, y - cy))]
    return total, cx, cy, np.array(second)
