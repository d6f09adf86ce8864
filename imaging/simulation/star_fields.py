"""Simulated CCD images with known truth: stars with a varying Moffat PSF and round galaxies on noise.

Simpler than a simulated night: no detector, no optics. The PSF includes the pixel response and is sampled at pixel
centres.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.image import CcdImage
from imaging.photometry.colours import published_colour_terms
from imaging.schemas.reference import REFERENCE_STARS
from imaging.simulation.stars import FIRST_ID
from imaging.tables import make_table
from imaging.wcs.sphere import offset_position
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MoffatPsf:
    """An elliptical Moffat profile whose size and shape vary quadratically over the CCD.

    Attributes
    ----------
    fwhm_pixels, beta
        Size at the centre of the CCD, and index of the profile.
    ellipticity
        (e1, e2) at the centre.
    size_variation, shape_variation
        Amplitudes of the variation from the centre to a corner.
    shape
        (ny, nx) of the CCD.
    """

    fwhm_pixels: float = 4.2
    beta: float = 3.0
    ellipticity: tuple[float, float] = (0.02, -0.01)
    size_variation: float = 0.03
    shape_variation: float = 0.03
    shape: tuple[int, int] = (4096, 2048)

    def inverse_shape(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return (n, 3) coefficients (xx, xy, yy) of the squared radius in units of the Moffat's core."""
        u = 2 * np.asarray(x) / self.shape[1] - 1
        v = 2 * np.asarray(y) / self.shape[0] - 1
        core = self.fwhm_pixels / (2 * np.sqrt(2 ** (1 / self.beta) - 1))
        size = core * (1 + self.size_variation * (0.5 * (u**2 + v**2) - 0.4 + 0.3 * u * v - 0.2 * u))
        e1 = self.ellipticity[0] + self.shape_variation * (0.5 * v - 0.4 * u * u + 0.2 * u * v)
        e2 = self.ellipticity[1] + self.shape_variation * (-0.4 * u + 0.3 * v * v)
        scale = 1.0 / (size**2 * (1 - e1**2 - e2**2))
        return np.stack([scale * (1 - e1), -2 * scale * e2, scale * (1 + e1)], axis=-1)

    def normalisation(self, shapes: FloatArray) -> FloatArray:
        """Return the peak of a source of unit total flux."""
        determinant = shapes[:, 0] * shapes[:, 2] - 0.25 * shapes[:, 1] ** 2
        return (self.beta - 1) / np.pi * np.sqrt(determinant)

    def stamp(self, x: float, y: float, half_width: int) -> FloatArray:
        """Draw a source of unit flux in the reference aperture, centred on (x, y) within its pixel."""
        image = np.zeros((2 * half_width + 1, 2 * half_width + 1), np.float32)
        x0, y0 = np.floor(x + 0.5), np.floor(y + 0.5)
        shapes = self.inverse_shape(np.array([x]), np.array([y]))
        place = np.array([half_width + x - x0]), np.array([half_width + y - y0])
        peak = self.normalisation(shapes) / aperture_fraction(self, np.array([x]), np.array([y]))
        add_moffats(image, *place, peak, shapes, self.beta, np.array([float(half_width + 1) * 1.5]))
        return image.astype(float)


@njit(cache=True)
def add_moffats(
    image: NDArray[np.float32],
    x: FloatArray,
    y: FloatArray,
    peak: FloatArray,
    shapes: FloatArray,
    beta: float,
    radius: FloatArray,
) -> None:
    """Add Moffat profiles to an image, each out to its radius in pixels."""
    ny, nx = image.shape
    for k in range(x.size):
        r = radius[k]
        for j in range(max(0, int(y[k] - r)), min(ny, int(y[k] + r) + 2)):
            dy = j - y[k]
            for i in range(max(0, int(x[k] - r)), min(nx, int(x[k] + r) + 2)):
                dx = i - x[k]
                if dx * dx + dy * dy <= r * r:
                    q = shapes[k, 0] * dx * dx + shapes[k, 1] * dx * dy + shapes[k, 2] * dy * dy
                    image[j, i] += peak[k] * (1.0 + q) ** (-beta)


def aperture_fraction(psf: MoffatPsf, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the fraction of the total flux inside the reference aperture (round profile of the same area)."""
    shapes = psf.inverse_shape(x, y)
    determinant = shapes[:, 0] * shapes[:, 2] - 0.25 * shapes[:, 1] ** 2
    q = (REFERENCE_APERTURE_PIXELS / 2) ** 2 * np.sqrt(determinant)
    return 1.0 - (1.0 + q) ** (1.0 - psf.beta)


@dataclass(frozen=True)
class StarField:
    """A simulated CCD image and its truth.

    Attributes
    ----------
    image
        Sky-subtracted pixels with mask and weight.
    psf
        The true PSF.
    x, y, flux
        (n,) true positions (pixels, 0-based) and fluxes in the reference aperture (electrons).
    is_galaxy
        (n,) bool.
    sky_sigma
        Noise of blank sky, electrons.
    """

    image: CcdImage
    psf: MoffatPsf
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    is_galaxy: NDArray[np.bool_]
    sky_sigma: float


SATURATION = 170_000.0
"""Electrons."""


def draw_field(
    seed: int,
    *,
    psf: MoffatPsf | None = None,
    n_stars: int = 1200,
    n_galaxies: int = 1500,
    mag_range: tuple[float, float] = (14.0, 24.0),
    slope: float = 0.22,
    zeropoint_mag: float = 31.76,
    sky_electrons: float = 2800.0,
    bad_columns: int = 3,
) -> StarField:
    """Draw a CCD.

    Parameters
    ----------
    seed
        Random seed.
    psf
        The PSF, which also gives the size of the CCD.
    n_stars, n_galaxies
        Numbers of sources.
    mag_range, slope
        Magnitude limits, and logarithmic slope of the counts of the stars; that of the galaxies is twice as steep.
    zeropoint_mag
        AB magnitude of one electron.
    sky_electrons
        Level of the sky, already subtracted from the pixels.
    bad_columns
        Number of masked columns.
    """
    psf = psf or MoffatPsf()
    ny, nx = psf.shape
    random = np.random.default_rng(seed)
    n = n_stars + n_galaxies
    x, y = random.uniform(-15, nx + 14, n), random.uniform(-15, ny + 14, n)
    slopes = np.where(np.arange(n) < n_stars, slope, 2 * slope)
    low, high = 10 ** (slopes * mag_range[0]), 10 ** (slopes * mag_range[1])
    mag = np.log10(low + random.uniform(size=n) * (high - low)) / slopes
    flux = 10 ** (-0.4 * (mag - zeropoint_mag))
    is_galaxy = np.arange(n) >= n_stars
    truth = np.zeros((ny, nx), np.float32)
    _add_sources(truth, psf, x[~is_galaxy], y[~is_galaxy], flux[~is_galaxy])
    sizes = 1.5 + 0.8 * (24.5 - np.clip(mag[is_galaxy], 16, 24)) * random.lognormal(0, 0.4, n_galaxies)
    for radius, share in ((0.15, 0.15), (0.5, 0.3), (1.0, 0.3), (1.7, 0.17), (2.6, 0.08)):
        for angle in np.arange(8) * np.pi / 4 + 3 * radius:
            dx, dy = radius * sizes * np.cos(angle), radius * sizes * np.sin(angle)
            _add_sources(truth, psf, x[is_galaxy] + dx, y[is_galaxy] + dy, flux[is_galaxy] * share / 8)
    return _with_noise(truth, psf, (x, y, flux, is_galaxy), sky_electrons, bad_columns, random)


def _add_sources(image: NDArray[np.float32], psf: MoffatPsf, x: FloatArray, y: FloatArray, flux: FloatArray) -> None:
    shapes = psf.inverse_shape(x, y)
    peak = flux * psf.normalisation(shapes) / aperture_fraction(psf, x, y)
    core = 1.0 / np.sqrt(np.sqrt(shapes[:, 0] * shapes[:, 2]))
    radius = np.clip(core * np.sqrt(np.maximum(peak / 0.05, 1.0) ** (1 / psf.beta)), 8.0, 150.0)
    add_moffats(image, x, y, peak, shapes, psf.beta, radius)


def _with_noise(
    truth: NDArray[np.float32],
    psf: MoffatPsf,
    sources: tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]],
    sky_electrons: float,
    bad_columns: int,
    random: np.random.Generator,
) -> StarField:
    read_noise = 7.0
    sigma = np.sqrt(truth + sky_electrons + read_noise**2)
    science = truth + sigma * random.standard_normal(truth.shape, dtype=np.float32)
    mask = np.zeros(truth.shape, np.int16)
    saturated = truth + sky_electrons > SATURATION
    mask[saturated] |= np.int16(MaskBit.SATURATE)
    science[saturated] = SATURATION - sky_electrons
    columns = random.choice(truth.shape[1], bad_columns, replace=False)
    mask[:, columns] |= np.int16(MaskBit.BPM)
    science[:, columns] = 5000.0
    weight = np.full(truth.shape, 1.0 / (sky_electrons + read_noise**2), np.float32)
    weight[mask != 0] = 0.0
    image = CcdImage(science.astype(np.float32), mask, weight, {})
    return StarField(image, psf, *sources, float(np.sqrt(sky_electrons + read_noise**2)))


EPOCH_YEAR = 2016.0
FAINTEST_G = 20.7


def reference_stars(
    field: StarField, wcs: TpvWcs, mjd: float, seed: int, *, band: str = "i", zeropoint_mag: float = 31.76
) -> pa.Table:
    """Return the reference catalogue of a simulated CCD: its stars, moved back to 2016, with errors.

    Parameters
    ----------
    field
        The CCD.
    wcs
        Its true coordinates.
    mjd
        Epoch of the exposure.
    seed
        Seed of colours, motions and errors.
    band, zeropoint_mag
        Band of the exposure and magnitude of one electron.
    """
    random = np.random.default_rng(seed)
    stars = ~field.is_galaxy
    n = int(stars.sum())
    colour = np.clip(random.normal(1.1, 0.35, n), 0.45, 2.3)
    term = published_colour_terms().bands[band]
    mag = zeropoint_mag - 2.5 * np.log10(field.flux[stars]) + random.normal(0.0, term.scatter_mag, n)
    g = mag - np.polynomial.Polynomial(term.coefficients)(colour)
    error = 0.03 + 0.3 * 10 ** (0.25 * (g - 20.0))
    motion = random.normal(0, 6, n), random.normal(-3, 6, n)
    years = 2000.0 + (mjd - 51544.5) / 365.25 - EPOCH_YEAR
    ra, dec = wcs.pixel_to_sky(field.x[stars], field.y[stars])
    for k in range(n):
        east, north = (-(m[k] * years + error[k] * random.normal()) / 1000.0 for m in motion)
        ra[k], dec[k] = offset_position(ra[k], dec[k], east, north)
    mag_error = 0.002 + 0.01 * 10 ** (0.3 * (g - 20.0))
    bp = g + 0.45 * colour + mag_error * random.normal(size=n)
    columns = {
        "source_id": FIRST_ID + np.arange(n),
        "ref_epoch": np.full(n, EPOCH_YEAR),
        "parallax": np.zeros(n),
        "ruwe": np.ones(n),
        "variable": np.zeros(n, bool),
    }
    columns |= {"ra": ra, "dec": dec, "pmra": motion[0], "pmdec": motion[1]}
    columns |= {f"{name}_error": error for name in ("ra", "dec", "pmra", "pmdec", "parallax")}
    for name, values, errors in (("g", g, np.full(n, 0.003)), ("bp", bp, mag_error), ("rp", bp - colour, mag_error)):
        columns |= {f"phot_{name}_mean_mag": values, f"phot_{name}_mean_mag_error": errors}
    return make_table(columns, REFERENCE_STARS).filter(pa.array(g < FAINTEST_G))
