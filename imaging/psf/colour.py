"""The width of the PSF against the colour of the source.

Seeing by turbulence is narrower at longer wavelengths (Fried 1966), so that a red star is sharper than a blue one in
the same band, by half a per cent per magnitude in g. To first order the image of a star of colour c is
``P + a (c - c0) D``: P the PSF of the reference colour, D its derivative by the logarithm of its width at constant flux
in the reference aperture, and ``a`` a number of the CCD, measured on its stars with an expected value as prior.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.numerics.robust import mad_sigma
from imaging.psf.model import PsfModel
from imaging.psf.profile import ProfileBasis

FloatArray = NDArray[np.float64]

REFERENCE_COLOUR_MAG = 0.82
"""BP - RP of the Sun, which has the g - i of 0.61 to which DES refers positions (Bernstein et al. 2017)."""

EXPECTED_PER_MAG = MappingProxyType(
    {"u": -0.0044, "g": -0.0047, "r": -0.0019, "i": -0.0010, "z": -0.0006, "Y": -0.0003, "VR": -0.0059}
)
"""Expected relative change of the width per magnitude of BP - RP: seeing proportional to the wavelength to the power of
-0.2, and mean wavelengths of the photons of black bodies of 3200 to 7500 K in bands with the filters' edges."""

PRIOR_WIDTH, LEAST_PRIOR_WIDTH = 0.5, 0.0002
"""Uncertainty of an expected change: relative (outer scale of the turbulence, molecular bands), and its least."""

UNKNOWN_PRIOR_WIDTH = 0.003
"""Uncertainty in a band without an expected change, per magnitude."""

STEP = 0.01
"""Relative change of the width in numerical derivatives."""


def width_per_mag(excess_mag: FloatArray, width: FloatArray, error: FloatArray, band: str) -> tuple[float, float]:
    """Fit the relative width of stars against their colour.

    Parameters
    ----------
    excess_mag
        (n,) colours minus the reference colour, magnitudes.
    width, error
        (n,) relative widths and their errors.
    band
        Band, for the expected change.

    Returns
    -------
    slope
        Relative change of the width per magnitude.
    mean_mag
        Weighted mean of ``excess_mag``; 0 without a star.
    """
    expected = EXPECTED_PER_MAG.get(band, 0.0)
    uncertainty = max(PRIOR_WIDTH * abs(expected), LEAST_PRIOR_WIDTH) if expected else UNKNOWN_PRIOR_WIDTH
    if not excess_mag.size:
        return expected, 0.0
    weight = 1.0 / (error**2 + mad_sigma(width) ** 2)
    clip = 4.0 * np.hypot(error, mad_sigma(width))
    weight = np.where(np.abs(width - np.median(width)) <= clip, weight, 0.0)
    mean = float(np.average(excess_mag, weights=weight))
    centred = excess_mag - mean
    information = float(weight @ centred**2) + uncertainty**-2
    return (float(weight @ (centred * width)) + expected * uncertainty**-2) / information, mean


def width_by_colour(
    matrix: FloatArray,
    vector: FloatArray,
    local: FloatArray,
    direction: FloatArray,
    colour_mag: FloatArray,
    band: str,
) -> tuple[float, float, FloatArray]:
    """Fit the relative width of stars against their colour, from the normal equations of a PSF fit.

    Parameters
    ----------
    matrix, vector
        (n, n_free, n_free), (n, n_free) normal equations of each star.
    local
        (n, n_free) free coefficients of the fitted PSF at each star.
    direction
        (n_free,) from :func:`width_direction`.
    colour_mag
        (n,) BP - RP, NaN if unknown.
    band
        Band, for the expected change.

    Returns
    -------
    slope, mean_mag
        As of :func:`width_per_mag`.
    explained
        (n,) relative widths that the colours explain, with respect to the mean star; 0 for unknown colours.
    """
    along = matrix @ direction
    information = along @ direction
    excess_mag = colour_mag - REFERENCE_COLOUR_MAG
    known = np.isfinite(excess_mag) & (information > 0.0)
    width = (vector @ direction - np.einsum("ni,ni->n", along, local))[known] / information[known]
    slope, mean = width_per_mag(excess_mag[known], width, information[known] ** -0.5, band)
    return slope, mean, slope * np.where(known, excess_mag - mean, 0.0)


def at_constant_flux(derivative: FloatArray, profile: FloatArray, radius: FloatArray) -> FloatArray:
    """Return a derivative of a profile plus as much of the profile as keeps the flux in the reference aperture.

    Parameters
    ----------
    derivative, profile
        Values on a regular grid.
    radius
        Distances of the grid's points from the centre, pixels.
    """
    inside = radius < REFERENCE_APERTURE_PIXELS / 2
    return derivative - profile * (derivative[inside].sum() / profile[inside].sum())


def width_direction(basis: ProfileBasis, free: FloatArray, central: FloatArray) -> FloatArray:
    """Return the derivative of a PSF by the logarithm of its width, in the free directions of its fit: (n_free,).

    Parameters
    ----------
    basis
        Basis of the fit.
    free
        (n_basis, n_free) free directions.
    central
        (n_basis,) coefficients of the PSF.
    """
    reach = int(2.0 * basis.radius)
    grid = np.arange(-reach, reach + 1) * 0.5
    dx, dy = (a.ravel() for a in np.meshgrid(grid, grid))
    profile, wide, narrow = (
        basis.evaluate(dx / factor, dy / factor) @ central / factor**2 for factor in (1.0, 1.0 + STEP, 1.0 - STEP)
    )
    derivative = at_constant_flux((wide - narrow) / (2.0 * STEP), profile, np.hypot(dx, dy))
    return np.asarray(np.linalg.lstsq(basis.evaluate(dx, dy) @ free, derivative, rcond=None)[0])


def flux_response(psf: PsfModel, radius: float) -> float:
    """Return the relative change of the flux of a PSF fit per relative change of the source's width; about -1.

    Parameters
    ----------
    psf
        PSF with which the flux is fitted.
    radius
        Radius of the fit, pixels; the weights are those of the sky noise.
    """
    offsets = np.arange(-60, 61) * 0.2

    def scaled(factor: float) -> FloatArray:
        places: FloatArray = np.asarray(offsets / factor, dtype=np.float64)
        return psf.at_offsets(*psf.origin, places, places) / factor**2

    distance = np.hypot(*np.meshgrid(offsets, offsets))
    profile = scaled(1.0)
    derivative = at_constant_flux((scaled(1.0 + STEP) - scaled(1.0 - STEP)) / (2.0 * STEP), profile, distance)
    near = distance < radius
    return float(np.sum((profile * derivative)[near]) / np.sum(profile[near] ** 2))


def flux_factor(psf: PsfModel, radius: float, colour_mag: FloatArray) -> FloatArray:
    """Return the factors on PSF fluxes of sources of known colour, (n,); 1 where the colour is not known.

    Parameters
    ----------
    psf
        PSF with which the fluxes were fitted.
    radius
        Radius of the fit, pixels.
    colour_mag
        (n,) BP - RP, NaN if unknown.
    """
    if psf.width_per_mag == 0.0:
        return np.ones(colour_mag.size)
    excess = np.where(np.isfinite(colour_mag), colour_mag - REFERENCE_COLOUR_MAG, 0.0)
    return 1.0 / (1.0 + flux_response(psf, radius) * psf.width_per_mag * excess)
