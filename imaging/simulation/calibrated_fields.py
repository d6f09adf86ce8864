"""Simulated catalogues of whole exposures without pixels, with true zero points.

Sky, stars, clouds, Gaia catalogue and colour terms are those of the simulator. Fluxes are the true ones with photon and
sky noise and with systematic errors of the size measured on pixels: a few thousandths from star to star, and a scale
error common to all CCDs of an exposure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.detector.ccds import NX, NY, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.exposure import Exposure
from imaging.photometry.colours import ColourTerms
from imaging.schemas.catalogue import CATALOGUE
from imaging.simulation.exposures import CloudTruth, Wave
from imaging.simulation.reference_catalogues import gaia_like_table, locus_colour_terms
from imaging.simulation.stars import Stars, make_stars
from imaging.tables import make_table
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]

FIELD = (150.0, -30.0)
RADIUS_DEG = 1.2
MJD = 60440.1
EXPTIME_S = 90.0
NOISE_PIXELS = 60.0
"""Effective number of noise pixels of a PSF flux, in average seeing."""
FLUX_FLOOR = 0.003
"""Relative systematic error of a flux: PSF model, flat field."""
FLUX_SCALE_MAG = 0.0003
"""Error of the PSF normalisation common to the CCDs of an exposure, magnitudes: measured on simulated pixels
(``bench.calibrated_pixels``)."""
CCD_SCATTER_MAG = 0.002
"""Residual error of the star flats from CCD to CCD."""
CLOUDS_MAG, PATCHINESS = 0.15, 0.3
"""Mean extinction of the clouds, and its rms over the field in units of the mean."""


@dataclass(frozen=True)
class SimulatedField:
    """Stars, their Gaia catalogue, and the colour terms."""

    seed: int
    stars: Stars
    gaia: pa.Table
    colour_terms: ColourTerms


@dataclass(frozen=True)
class SimulatedCatalogues:
    """One exposure: its CCDs' catalogues and true zero points."""

    exposure: Exposure
    catalogues: dict[int, pa.Table]
    true_zeropoint_mag: dict[int, float]


def make_field(seed: int) -> SimulatedField:
    """Draw the stars of a field at galactic latitude 19 degrees."""
    stars = make_stars(seed, *FIELD, RADIUS_DEG, 1.0, 20.0, MJD)
    return SimulatedField(seed, stars, gaia_like_table(seed, stars), locus_colour_terms())


def observe(field: SimulatedField, band: str, number: int, ccds: tuple[int, ...] = SCIENCE_CCDS) -> SimulatedCatalogues:
    """Observe a field through clouds.

    Parameters
    ----------
    field
        The field.
    band
        Band.
    number
        Number of the exposure; noise and clouds differ between numbers.
    ccds
        CCDs.
    """
    random = np.random.default_rng([field.seed, number, sum(map(ord, band))])
    exposure = Exposure(1_000_000 + 100 * field.seed + number, band, 20240510, MJD, EXPTIME_S, *FIELD, 1.2)
    clouds = _clouds(random)
    nominal = BANDS[band].zeropoint_rate_mag + 2.5 * np.log10(EXPTIME_S) - 0.2 * BANDS[band].extinction_mag
    ra, dec = field.stars.at_epoch(exposure.mjd_mid)
    xi, eta = sky_to_plane(ra, dec, *FIELD)
    extinction = clouds.extinction_mag(xi, eta)
    mags = field.stars.magnitude(band, exposure.mjd_mid)
    scale = float(random.normal(0.0, FLUX_SCALE_MAG))
    catalogues, truth = {}, {}
    for ccd in ccds:
        wcs = seed_wcs(ccd, *FIELD)
        x, y = wcs.sky_to_pixel(ra, dec)
        on = np.flatnonzero((x > 20) & (x < NX - 20) & (y > 20) & (y < NY - 20) & (mags < 23.5))
        own = float(random.normal(0.0, CCD_SCATTER_MAG))
        zeropoint = nominal + own + scale - extinction[on]
        catalogues[ccd] = _catalogue(random, exposure, ccd, (ra[on], dec[on], x[on], y[on]), mags[on], zeropoint)
        grid = np.meshgrid(np.linspace(0, NX, 20), np.linspace(0, NY, 40))
        plane = sky_to_plane(*wcs.pixel_to_sky(grid[0].ravel(), grid[1].ravel()), *FIELD)
        truth[ccd] = float(nominal + own - np.mean(clouds.extinction_mag(*plane)))
    return SimulatedCatalogues(exposure, catalogues, truth)


def _clouds(random: np.random.Generator) -> CloudTruth:
    mean = CLOUDS_MAG * random.uniform(0.2, 1.5)
    amplitude = mean * PATCHINESS * np.sqrt(2.0 / 4.0)
    waves = []
    for _ in range(4):
        k, direction = 2 * np.pi / random.uniform(3.0, 8.0), random.uniform(0.0, 2 * np.pi)
        waves.append(
            Wave(
                amplitude=float(amplitude),
                kx=float(k * np.cos(direction)),
                ky=float(k * np.sin(direction)),
                phase=float(random.uniform(0.0, 2 * np.pi)),
            )
        )
    return CloudTruth(mean_mag=float(mean), waves=tuple(waves))


def _catalogue(
    random: np.random.Generator,
    exposure: Exposure,
    ccd: int,
    place: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    mag: FloatArray,
    zeropoint: FloatArray,
) -> pa.Table:
    ra, dec, x, y = place
    n = ra.size
    true_flux = 10.0 ** (0.4 * (zeropoint - mag))
    sky = BANDS[exposure.band].sky_rate_electrons * exposure.exptime_s + 50.0
    error = np.sqrt(true_flux + NOISE_PIXELS * sky)
    flux = true_flux * (1.0 + random.normal(0.0, FLUX_FLOOR, n)) + error * random.normal(0.0, 1.0, n)
    centroid = np.hypot(1.8 * error / np.maximum(true_flux, 1.0), 0.01)
    jitter = centroid * 0.263 / 3600.0
    saturated = true_flux > 2.5e6
    columns: dict[str, Any] = {f.name: np.zeros(n) for f in CATALOGUE}
    columns |= {name: np.zeros((n, 12), np.float32) for name in ("flux_aper", "flux_aper_error")}
    columns |= {
        "expnum": np.full(n, exposure.expnum),
        "band": [exposure.band] * n,
        "night": np.full(n, exposure.night),
        "ccd": np.full(n, ccd),
        "number": np.arange(1, n + 1),
        "x": x,
        "y": y,
        "x_error": centroid,
        "y_error": centroid,
        "ra": (ra + random.normal(0.0, 1.0, n) * jitter / np.cos(np.radians(dec))) % 360.0,
        "dec": dec + random.normal(0.0, 1.0, n) * jitter,
        "flux_psf": flux,
        "flux_psf_error": error,
        "spread_model_error": np.maximum(0.3 * error / true_flux, 0.0005),
        "flags": np.where(saturated, 4, 0),
    }
    return make_table(columns, CATALOGUE)
