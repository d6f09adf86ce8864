"""Light-curve templates of kilonovae, supernovae and slow variables, as fluxes by time and band.

Kilonovae are AT2017gfo with other time scales and reddenings. Supernovae have three shapes (Ia-like, stripped
envelope, plateau) with the colours of a cooling black body. Slow variables are constant flux differences of either
sign and any colour. The shapes are coarse: they only distinguish a decline within days from one within weeks.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.candidates.settings import LightcurveSettings
from imaging.errors import InputError
from imaging.package_data import read_table

FloatArray = NDArray[np.float64]

AB_ZERO_NJY = 3.631e12
"""Flux of magnitude zero, nanojansky."""

PLANCK_NM_K = 1.4388e7
"""Second radiation constant h c / k, nanometre kelvin."""

SUPERNOVA_SHAPES = (
    # rise (days), decline after the peak (mag per day), days at which the decline slows, slower decline
    (17.0, 0.075, 30.0, 0.020),
    (12.0, 0.060, 25.0, 0.015),
    (8.0, 0.008, 90.0, 0.050),
)
"""Supernova light-curve shapes: Ia-like, stripped envelope, plateau."""

SUPERNOVA_REDDENING_MAG = (0.0, 0.7)
"""Reddening of supernovae by dust and redshift, magnitudes between g and z."""

VARIABLE_SLOPES = (-1.5, 0.0, 1.5, 3.0)
"""Colours of slow variables: flux density as a power of wavelength, from quasars to late-type stars."""


@lru_cache
def _anchors() -> tuple[FloatArray, dict[str, FloatArray]]:
    rows = read_table("imaging.candidates", "kilonova.csv")
    days = np.array([float(row["days"]) for row in rows])
    magnitudes = {band: np.array([float(row[band]) for row in rows]) for band in rows[0] if band != "days"}
    magnitudes["VR"] = 0.5 * (magnitudes["g"] + magnitudes["r"])
    return days, magnitudes


def kilonova_magnitude(days: FloatArray, band: str) -> FloatArray:
    """Return the absolute AB magnitude of AT2017gfo.

    Parameters
    ----------
    days
        (n,) days after the merger.
    band
        Band name.

    Returns
    -------
    magnitude
        (n,) infinite before the merger; interpolated in the logarithm of time and extrapolated at both ends.

    Raises
    ------
    InputError
        If there is no such band.
    """
    grid, magnitudes = _anchors()
    if band not in magnitudes:
        raise InputError("no kilonova light curve in this band", value=band, limit=", ".join(magnitudes))
    days = np.asarray(days, dtype=float)
    x, known = np.log(np.maximum(days, 1e-6)), np.log(grid)
    m = magnitudes[band]
    inside = np.interp(x, known, m)
    first, last = (m[1] - m[0]) / (known[1] - known[0]), (m[-1] - m[-2]) / (known[-1] - known[-2])
    continued = inside + np.where(x < known[0], first * (x - known[0]), 0.0)
    continued += np.where(x > known[-1], last * (x - known[-1]), 0.0)
    return np.where(days > 0, continued, np.inf)


def kilonova_anchors() -> dict[str, list[float]]:
    """Return the data points of :func:`kilonova_magnitude`: ``days``, and absolute magnitudes by band."""
    days, magnitudes = _anchors()
    return {"days": days.tolist()} | {band: values.tolist() for band, values in magnitudes.items()}


def kilonova_fluxes(days: FloatArray, band: NDArray[np.str_], settings: LightcurveSettings) -> FloatArray:
    """Return the fluxes of all kilonova templates at distance modulus zero.

    Parameters
    ----------
    days
        (e,) days of the exposures after the merger.
    band
        (e,) their bands.
    settings
        Time scales and reddenings.

    Returns
    -------
    flux
        (k, e) nanojansky, zero before the merger.
    """
    flux = np.zeros((len(settings.faster), len(settings.redder_mag), len(days)))
    for name in np.unique(band):
        here = band == name
        for i, factor in enumerate(settings.faster):
            magnitude = kilonova_magnitude(days[here] / factor, str(name)) + settings.luminosity_offset_mag
            for j, reddening in enumerate(settings.redder_mag):
                flux[i, j, here] = AB_ZERO_NJY * 10 ** (-0.4 * (magnitude + reddening * reddening_shape(str(name))))
    return flux.reshape(len(settings.faster) * len(settings.redder_mag), len(days))


def supernova_fluxes(days: FloatArray, band: NDArray[np.str_], settings: LightcurveSettings) -> FloatArray:
    """Return the fluxes of all supernova templates whose peak in i has magnitude zero.

    Parameters
    ----------
    days, band
        (e,) days after the merger and bands of the exposures.
    settings
        Ages at the merger.

    Returns
    -------
    flux
        (k, e) nanojansky, zero before the explosion.
    """
    templates = []
    shift = np.array([reddening_shape(str(name)) for name in band])
    wavelength = np.array([BANDS[str(name)].wavelength_nm for name in band])
    for age in settings.supernova_ages_days:
        for shape in SUPERNOVA_SHAPES:
            since = days + age
            colour = _cooling_colour(since, wavelength)
            for reddening in SUPERNOVA_REDDENING_MAG:
                dust = 10 ** (-0.4 * reddening * shift)
                templates.append(AB_ZERO_NJY * _supernova_shape(since, *shape) * colour * dust)
    return np.array(templates)


def variable_fluxes(band: NDArray[np.str_]) -> FloatArray:
    """Return (k, e) fluxes, nanojansky, of constant sources of either sign with magnitude zero in i, by colour."""
    ratio = np.array([BANDS[str(name)].wavelength_nm for name in band]) / BANDS["i"].wavelength_nm
    return np.array([sign * AB_ZERO_NJY * ratio**slope for slope in VARIABLE_SLOPES for sign in (1.0, -1.0)])


def reddening_shape(band: str) -> float:
    """Return the change of magnitude per magnitude of reddening between g and z, zero in i, linear in 1/wavelength."""
    inverse = {name: 1.0 / BANDS[name].wavelength_nm for name in ("g", "i", "z", band)}
    return (inverse[band] - inverse["i"]) / (inverse["g"] - inverse["z"])


def _supernova_shape(days: FloatArray, rise: float, fast: float, knee: float, slow: float) -> FloatArray:
    """Return the flux relative to the peak: quadratic rise, then two exponential declines."""
    past = np.maximum(days - rise, 0.0)
    magnitudes = fast * np.minimum(past, knee) + slow * np.maximum(past - knee, 0.0)
    decline = 10 ** (-0.4 * magnitudes)
    return np.where(days < rise, np.clip(days / rise, 0.0, None) ** 2 * (2 - np.clip(days / rise, 0.0, 1.0)), decline)


def _cooling_colour(days: FloatArray, wavelength_nm: FloatArray) -> FloatArray:
    """Return the flux density relative to i of a black body that cools from 14,000 K to 5,500 K in 25 days."""
    temperature = 5500.0 + 8500.0 * np.exp(-np.maximum(days, 0.0) / 12.0)
    reference = BANDS["i"].wavelength_nm
    return (reference / wavelength_nm) ** 3 * (
        np.expm1(PLANCK_NM_K / (reference * temperature)) / np.expm1(PLANCK_NM_K / (wavelength_nm * temperature))
    )
