"""Expected colours of stars for which the reference catalogue has none, from Gaia's G and from the band of the image.

G minus the instrumental magnitude follows the colour. Where G is known, it gives the colour; a star that the catalogue
does not list is fainter than its limit in G, which in red bands only red stars are.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.numerics.robust import clipped, mad_sigma
from imaging.photometry.settings import PhotometrySettings
from imaging.tables import column

FloatArray = NDArray[np.float64]

MINIMUM_STARS = 30
"""Fewest stars of known colour that give the relation; with fewer no colour is estimated."""

DEGREE, BINS = 3, 60
"""Degree of the relation between colour and G minus the instrumental magnitude; steps of the colours considered."""

SCATTER_MAG = 0.05
"""Intrinsic scatter of G minus the magnitude at a given colour."""

LIMIT_WIDTH_MAG = 0.1
"""Width of the limit of the catalogue in G."""

MISSED = 0.03
"""Share of brighter stars that the catalogue does not list."""


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
    colour, g_mag, magnitude = np.full((3, numbers.size), np.nan)
    colour[rows] = column(matches, "colour_mag").astype(np.float64)
    g_mag[rows] = column(matches, "reference_mag").astype(np.float64)
    flux = column(catalogue, "flux_psf").astype(np.float64)
    point_like = np.abs(column(catalogue, "spread_model")) < settings.spread_limit
    usable = (flux > 0.0) & (np.isfinite(g_mag) | point_like)
    magnitude[usable] = -2.5 * np.log10(flux[usable])
    return expected_colours(magnitude, g_mag, colour)


def expected_colours(magnitude: FloatArray, g_mag: FloatArray, colour_mag: FloatArray) -> FloatArray:
    """Return colours with the missing ones estimated.

    Parameters
    ----------
    magnitude
        (n,) instrumental magnitudes in the band; NaN where unknown.
    g_mag
        (n,) Gaia G; NaN for sources that the catalogue does not list.
    colour_mag
        (n,) BP - RP; NaN where unknown.

    Returns
    -------
    colour_mag
        (n,) BP - RP; where it is unknown the mean over the colours of the fainter half of the known stars, weighted by
        their probability. NaN where the magnitude is unknown, or everywhere where it was with few known stars.
    """
    apart = g_mag - magnitude
    known = np.isfinite(apart) & np.isfinite(colour_mag)
    if known.sum() < MINIMUM_STARS:
        return colour_mag
    low, high = np.quantile(colour_mag[known], [0.01, 0.99])
    edges = np.linspace(low, high, BINS + 1)
    colours, ranged = 0.5 * (edges[1:] + edges[:-1]), np.clip(colour_mag, low, high)
    for _ in range(3):
        relation = np.polynomial.Polynomial.fit(ranged[known], apart[known], DEGREE)
        known[known] = clipped(apart[known] - relation(ranged[known]), 4.0)
    scatter = np.hypot(SCATTER_MAG, mad_sigma(apart[known] - relation(ranged[known])))
    faint = known & (magnitude >= np.median(magnitude[known]))
    share = np.histogram(ranged[faint], edges)[0] + 0.5
    unknown = np.isfinite(magnitude) & ~np.isfinite(colour_mag)
    limit = np.quantile(g_mag[np.isfinite(g_mag)], 0.99)
    expected = relation(colours)
    listed = np.isfinite(apart[unknown])[:, None]
    seen = np.nan_to_num(apart[unknown])[:, None] - expected
    beyond = np.clip((limit - magnitude[unknown][:, None] - expected) / LIMIT_WIDTH_MAG, -50.0, 50.0)
    likely = np.where(listed, np.exp(-0.5 * (seen / scatter) ** 2) + 1e-9, MISSED + 1.0 / (1.0 + np.exp(beyond)))
    found = colour_mag.copy()
    found[unknown] = (likely * share) @ colours / (likely @ share)
    return found
