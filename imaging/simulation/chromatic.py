"""How a source's colour changes where and how wide its image is: refraction, dispersion and seeing.

Blanco has no corrector of the atmospheric dispersion, so that all three are seen in every band. The light of a source
is a Wien spectrum of its g - i; a band is a box of the filter's width. The result agrees with the dispersions that DES
measured (Bernstein et al. 2017) and with the refraction of ERFA.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

REFERENCE_COLOUR = 0.61
"""The g - i of a star whose displacement is zero by convention (Bernstein et al. 2017)."""

PRESSURE_HPA, TEMPERATURE_C = 780.0, 10.0
"""Typical for Cerro Tololo, 2200 m."""

SEEING_EXPONENT = -0.2
"""Width of Kolmogorov seeing against wavelength (Fried 1966)."""


def bandwidth_nm(band: str) -> float:
    """Return the rms width of a band: that of a box of the width in the filter's name."""
    return float(BANDS[band].filter_id.split()[-1]) / 10.0 / np.sqrt(12.0)


def effective_wavelength_nm(band: str, g_minus_i: FloatArray) -> FloatArray:
    """Return the mean wavelength of a source's photons in a band: (n,) nm; the central one for the reference colour.

    Parameters
    ----------
    band
        Band.
    g_minus_i
        (n,) colours, magnitudes; limited to -1 to 4.
    """
    centre, g, i = (BANDS[name].wavelength_nm for name in (band, "g", "i"))
    excess = np.clip(g_minus_i, -1.0, 4.0) - REFERENCE_COLOUR
    wien_nm = 0.4 * np.log(10.0) * excess / (1.0 / g - 1.0 / i)
    return centre + bandwidth_nm(band) ** 2 * wien_nm / centre**2


def passband_slope_mag(camera_seed: int, ccdnum: int, band: str, rms_mmag: float) -> float:
    """Return how much brighter a source becomes on a CCD per magnitude of g - i than on the mean one, magnitudes."""
    random = random_stream(camera_seed, "passbands", ccdnum, list(BANDS).index(band))
    return float(random.normal(0.0, rms_mmag / 1000.0))


def refractivity(wavelength_nm: FloatArray | float) -> FloatArray:
    """Return n - 1 of dry air at the observatory (Filippenko 1982, PASP 94, 715, after Edlen)."""
    inverse2 = (1000.0 / np.asarray(wavelength_nm, dtype=float)) ** 2
    at_sea = 1e-6 * (64.328 + 29498.1 / (146.0 - inverse2) + 255.4 / (41.0 - inverse2))
    mmhg = PRESSURE_HPA * 0.750062
    factor = (
        mmhg * (1.0 + (1.049 - 0.0157 * TEMPERATURE_C) * 1e-6 * mmhg) / (720.883 * (1.0 + 0.003661 * TEMPERATURE_C))
    )
    return at_sea * factor


def refraction_shift_arcsec(
    band: str, zenith_distance_deg: float, parallactic_deg: float, g_minus_i: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the displacement of sources of a colour from those of the reference colour, to the east and north.

    Parameters
    ----------
    band
        Band.
    zenith_distance_deg, parallactic_deg
        Zenith distance of the field, and position angle of the zenith from north to east.
    g_minus_i
        (n,) colours, magnitudes.
    """
    bent = refractivity(effective_wavelength_nm(band, g_minus_i)) - refractivity(BANDS[band].wavelength_nm)
    towards_zenith = np.degrees(bent) * 3600.0 * np.tan(np.radians(zenith_distance_deg))
    angle = np.radians(parallactic_deg)
    return towards_zenith * np.sin(angle), towards_zenith * np.cos(angle)


def dispersion_arcsec(band: str, zenith_distance_deg: float) -> float:
    """Return the rms length of the short spectrum into which the atmosphere draws a source, towards the zenith."""
    centre, width = BANDS[band].wavelength_nm, bandwidth_nm(band)
    change = refractivity(centre - width) - refractivity(centre + width)
    return float(np.degrees(change / 2.0) * 3600.0 * np.tan(np.radians(zenith_distance_deg)))


def seeing_factor(band: str, g_minus_i: FloatArray) -> FloatArray:
    """Return the width of a source's image over that of the reference colour: (n,)."""
    return (effective_wavelength_nm(band, g_minus_i) / BANDS[band].wavelength_nm) ** SEEING_EXPONENT
