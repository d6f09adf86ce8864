"""Expected colours of sources: from Gaia's BP - RP and its error, from G and from the band of the image.

G minus the instrumental magnitude follows the colour. Where G is known, it gives the colour, at the faint end better
than BP - RP does; a star that the catalogue does not list is fainter than its limit in G, which in red bands only red
stars are.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.numerics.robust import clipped, mad_sigma
from imaging.photometry.match import MAG_PER_RELATIVE_FLUX
from imaging.photometry.settings import PhotometrySettings
from imaging.tables import column

FloatArray = NDArray[np.float64]

MINIMUM_STARS = 30
"""Fewest stars of known colour that give the relation; with fewer no colour is estimated."""

PRECISE_MAG = 0.1
"""Largest error of a colour that counts as precise."""

DEGREE, STEPS = 3, 121
"""Degree of the relation between colour and G minus the instrumental magnitude; number of colours considered."""

SCATTER_MAG = 0.01
"""Lower limit of the scatter of G minus the magnitude at a given colour."""

OUTLIERS = 1e-3
"""Probability of G minus the magnitude that its scatter does not explain, relative to the peak: variable stars."""

LIMIT_WIDTH_MAG = 0.1
"""Width of the limit of the catalogue in G."""

MISSED = 0.03
"""Share of brighter stars that the catalogue does not list."""

COUNT_SLOPE, FLOOR = 0.12, 1e-4
"""Slope of the logarithm of the number of stars against G beyond the limit, and lowest frequency of a colour."""


def source_colours(catalogue: pa.Table, matches: pa.Table, settings: PhotometrySettings) -> FloatArray:
    """Return BP - RP of the sources of a CCD, estimated for stars of unknown colour; NaN for other sources.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    matches
        Columns of :data:`imaging.schemas.matches.ZEROPOINT_MATCHES`, with G as the magnitude of the reference.
    settings
        The limit of ``spread_model`` of a point source.
    """
    numbers = column(catalogue, "number")
    order = np.argsort(numbers)
    rows = order[np.searchsorted(numbers, column(matches, "number"), sorter=order)]
    colour, colour_error, g_mag, magnitude = np.full((4, numbers.size), np.nan)
    for values, name in (colour, "colour_mag"), (colour_error, "colour_error_mag"), (g_mag, "reference_mag"):
        values[rows] = column(matches, name).astype(np.float64)
    flux, flux_error = (column(catalogue, name).astype(np.float64) for name in ("flux_psf", "flux_psf_error"))
    point_like = np.abs(column(catalogue, "spread_model")) < settings.spread_limit
    usable = (flux > 0.0) & (np.isfinite(g_mag) | point_like)
    magnitude[usable] = -2.5 * np.log10(flux[usable])
    error = MAG_PER_RELATIVE_FLUX * flux_error / np.where(usable, flux, 1.0)
    return expected_colours((magnitude, error), g_mag, (colour, np.nan_to_num(colour_error)))


def expected_colours(
    magnitude: tuple[FloatArray, FloatArray], g_mag: FloatArray, colour: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Return colours with the uncertain ones improved and the missing ones estimated.

    Parameters
    ----------
    magnitude
        (n,) instrumental magnitudes in the band and their errors; NaN where unknown.
    g_mag
        (n,) Gaia G; NaN for sources that the catalogue does not list.
    colour
        (n,) BP - RP and their errors; NaN where unknown.

    Returns
    -------
    colour_mag
        (n,) BP - RP: means over all colours weighted by their probability, where the error exceeds the steps of the
        colours or the colour is unknown. The frequency of colours is the likeliest one of the fainter half of the stars
        with G. As it was where the magnitude is unknown, or everywhere with few stars of precise colours.
    """
    (mag, mag_error), (colour_mag, colour_error) = magnitude, colour
    apart, listed = g_mag - mag, np.isfinite(g_mag - mag)
    known = listed & np.isfinite(colour_mag)
    if (known & (colour_error < PRECISE_MAG)).sum() < MINIMUM_STARS:
        return colour_mag
    low, high = np.quantile(colour_mag[known], [0.01, 0.99])
    colours, ranged = np.linspace(low, high, STEPS), np.clip(colour_mag, low, high)
    relation, scatter = _relation(ranged[known], colour_error[known], apart[known], (low, high))
    expected = relation(colours)
    seen = ((apart[listed, None] - expected) / np.hypot(scatter, mag_error[listed])[:, None]) ** 2
    likely, coloured = np.exp(-0.5 * (seen - seen.min(axis=1, keepdims=True))), known[listed]
    stated = (ranged[known, None] - colours) / np.maximum(colour_error[known], colours[1] - low)[:, None]
    likely[coloured] = (np.exp(-0.5 * seen[coloured]) + OUTLIERS) * np.exp(-0.5 * stated**2)
    limit = np.quantile(g_mag[listed], 0.99)
    faint, share = likely[g_mag[listed] > np.median(g_mag[listed])], np.full(STEPS, 1.0 / STEPS)
    for _ in range(5):
        likelihood = faint @ share
        share = (FLOOR + (faint / likelihood[:, None]).mean(axis=0) * share) / (1.0 + STEPS * FLOOR)
    found = np.full(mag.size, np.nan)
    found[listed] = likely @ (share * colours) / (likely @ share)
    other = np.isfinite(mag) & ~listed
    beyond = np.clip((limit - mag[other, None] - expected) / LIMIT_WIDTH_MAG, -50.0, 50.0)
    likely = (MISSED + 1.0 / (1.0 + np.exp(beyond))) * share * 10.0 ** (COUNT_SLOPE * expected)
    found[other] = likely @ colours / likely.sum(axis=1)
    return np.where(np.isnan(found) | (known & (colour_error < colours[1] - low)), colour_mag, found)


def _relation(
    colour_mag: FloatArray, error: FloatArray, apart: FloatArray, domain: tuple[float, float]
) -> tuple[np.polynomial.Polynomial, float]:
    """Return G minus the magnitude as a function of the colour, and its scatter for stars of precise colours."""
    kept, weight = np.ones(apart.size, bool), 1.0 / np.hypot(PRECISE_MAG, error)
    for _ in range(3):
        relation = np.polynomial.Polynomial.fit(colour_mag[kept], apart[kept], DEGREE, domain=domain, w=weight[kept])
        left = apart - relation(colour_mag)
        kept[kept] = clipped(left[kept] * weight[kept], 4.0)
    return relation, float(np.hypot(SCATTER_MAG, mad_sigma(left[kept & (error < PRECISE_MAG)])))
