"""Simulated displacement of positions by turbulence and differential refraction."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from imaging.simulation.chromatic import REFERENCE_COLOUR
from imaging.simulation.exposures import TurbulenceTruth
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

GRID = 320
GRID_STEP_DEG = 0.01
"""Size of the periodic square on which turbulence is drawn: 3.2 degrees, larger than the field."""

DISPERSION_ARCSEC = {"u": 0.150, "g": 0.045, "r": 0.0084, "i": 0.0032, "z": 0.0014, "Y": 0.001, "VR": 0.030}
"""Displacement towards the horizon per magnitude of g - i and per tangent of the zenith distance: Bernstein et al.
(2017) for g to Y, estimates for u and VR."""


def potential_spectrum(truth: TurbulenceTruth) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the wave numbers to the east and north, radians per degree, and the amplitude of the potential's waves."""
    frequency = 2 * np.pi * np.fft.fftfreq(GRID, GRID_STEP_DEG)
    kx, ky = frequency[None, :], frequency[:, None]
    wind = np.radians(truth.wind_deg)
    along, across = kx * np.cos(wind) + ky * np.sin(wind), -kx * np.sin(wind) + ky * np.cos(wind)
    k2 = 1.3 * along**2 + 0.75 * across**2
    k0 = 60.0 / truth.correlation_arcmin
    amplitude = (k2 + k0**2) ** (-11.0 / 12.0) / np.sqrt(np.maximum(kx**2 + ky**2, frequency[1] ** 2))
    return np.asarray(kx, dtype=np.float64), np.asarray(ky, dtype=np.float64), np.asarray(amplitude, dtype=np.float64)


@lru_cache(maxsize=8)
def turbulence_grids(truth: TurbulenceTruth) -> tuple[FloatArray, FloatArray]:
    """Draw the displacement field: the gradient of a Gaussian random potential.

    The displacements' power falls as (k^2 + k0^2)^(-11/6) with k0 the inverse correlation length, stretched along the
    wind; a gradient field has no curl, as DES measured (Bernstein et al. 2017; Fortino et al. 2021).

    Returns
    -------
    east, north
        (320, 320) spline coefficients of the displacement in arcseconds, rows to the north.
    """
    random = random_stream(truth.seed[0], "turbulence", truth.seed[1])
    kx, ky, amplitude = potential_spectrum(truth)
    potential = np.fft.fft2(random.standard_normal((GRID, GRID))) * amplitude
    east, north = np.fft.ifft2(1j * kx * potential).real, np.fft.ifft2(1j * ky * potential).real
    rms = np.sqrt((east.var() + north.var()) / 2)
    factor = truth.rms_mas / 1000.0 / rms
    return tuple(spline_filter(grid * factor, order=3, mode="grid-wrap") for grid in (east, north))


def turbulence_arcsec(truth: TurbulenceTruth, xi: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the turbulent displacement to the east and north in arcseconds.

    Parameters
    ----------
    truth
        The exposure's turbulence.
    xi, eta
        (n,) positions on the tangent plane, degrees.
    """
    if truth.rms_mas == 0.0:
        return np.zeros_like(xi), np.zeros_like(eta)
    east, north = turbulence_grids(truth)
    place = np.stack([eta / GRID_STEP_DEG + GRID / 2, xi / GRID_STEP_DEG + GRID / 2])
    return tuple(map_coordinates(g, place, order=3, mode="grid-wrap", prefilter=False) for g in (east, north))


def refraction_arcsec(
    band: str, zenith_distance_deg: float, parallactic_deg: float, g_minus_i: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the displacement of sources by their colour, to the east and north in arcseconds.

    Blue light is refracted more, so that a blue star is displaced towards the zenith.

    Parameters
    ----------
    band
        Band.
    zenith_distance_deg, parallactic_deg
        Zenith distance of the field, and position angle of the zenith from north to east.
    g_minus_i
        (n,) colours, magnitudes.
    """
    towards_zenith = -DISPERSION_ARCSEC[band] * np.tan(np.radians(zenith_distance_deg)) * (g_minus_i - REFERENCE_COLOUR)
    angle = np.radians(parallactic_deg)
    return towards_zenith * np.sin(angle), towards_zenith * np.cos(angle)
