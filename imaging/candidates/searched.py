"""Depth of a night over the sky map, and the probability to detect a source of given brightness."""

from typing import Any

import numpy as np
import pyarrow as pa

from imaging.bands import BANDS
from imaging.candidates.settings import LightcurveSettings
from imaging.candidates.templates import kilonova_magnitude
from imaging.schemas.searched import SEARCHED_PIXELS
from imaging.skymap.coverage import Coverage
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import FloatArray
from imaging.tables import make_table, with_facts

MAGNITUDES = tuple(float(m) for m in np.arange(18.0, 25.01, 0.5))
"""Apparent magnitudes for which the detection probability is computed."""

ABSOLUTE_MAGNITUDES = (-18.0, -17.0, -16.0, -15.0, -14.0, -13.0, -12.0)
"""Absolute magnitudes, equal in all bands and exposures, for which the detection probability is computed."""

STEPS = 11
"""Number of distances that sample the map's distribution along each line of sight."""


def searched_pixels(coverage: Coverage) -> pa.Table:
    """Tabulate the searched grid pixels with their depth in every band.

    Returns
    -------
    table
        Rows of :data:`imaging.schemas.searched.SEARCHED_PIXELS`, in the order of the pixel number. Its facts are the
        HEALPix keywords of FITS sky maps.
    """
    n = len(coverage.pixel)
    columns: dict[str, Any] = {
        "healpix": coverage.pixel,
        "ra": coverage.ra_deg,
        "dec": coverage.dec_deg,
        "probability": coverage.probability,
        "distance_mean_mpc": _nullable(coverage.distance_mpc),
        "distance_sigma_mpc": _nullable(coverage.distance_sigma_mpc),
        "n_images": np.bincount(coverage.pair_pixel, minlength=n),
    }
    columns |= {f"m50_{band}": _nullable(coverage.depth_mag(band)) for band in BANDS}
    order = coverage.settings.order
    grid = {"PIXTYPE": "HEALPIX", "ORDERING": "NESTED", "ORDER": order, "NSIDE": 2**order}
    return with_facts(make_table(columns, SEARCHED_PIXELS), grid | {"INDXSCHM": "EXPLICIT", "COORDSYS": "C"})


def search_report(coverage: Coverage, mjd_event: float, settings: LightcurveSettings) -> dict[str, Any]:
    """Return the detection probabilities of the night as a JSON document.

    Parameters
    ----------
    coverage
        The searched part of the map.
    mjd_event
        Time of the merger, MJD UTC.
    settings
        Luminosity of kilonovae relative to AT2017gfo.

    Returns
    -------
    report
        ``probability_searched``, ``area_searched_deg2``; ``found_apparent``: by band, [magnitude, probability] pairs of
        a source of that magnitude in that band anywhere in the map; ``found_absolute``: the same for an absolute
        magnitude in all bands at the map's distance; ``found_at2017gfo`` and ``found_kilonova``: for AT2017gfo and for
        a typical kilonova at the age and in the band of each exposure. Null where the map has no distance.
    """
    bands = [band for band in BANDS if np.any(coverage.footprints.band == band)]
    ages = kilonova_by_footprint(coverage.footprints, mjd_event)
    absolute = [
        [mag, _number(coverage.probability_found_absolute(dict.fromkeys(bands, mag), steps=STEPS))]
        for mag in ABSOLUTE_MAGNITUDES
    ]
    typical = ages + settings.luminosity_offset_mag
    return {
        "probability_searched": coverage.probability_searched,
        "area_searched_deg2": coverage.area_searched_deg2,
        "found_apparent": {
            band: [[mag, _number(coverage.probability_found({band: mag}))] for mag in MAGNITUDES] for band in bands
        },
        "found_absolute": absolute,
        "found_at2017gfo": _number(coverage.probability_found_footprints(ages, steps=STEPS)),
        "found_kilonova": _number(coverage.probability_found_footprints(typical, steps=STEPS)),
    }


def kilonova_by_footprint(footprints: Footprints, mjd_event: float) -> FloatArray:
    """Return the (n,) absolute magnitude of AT2017gfo at the time and in the band of every CCD image.

    Infinite before the merger, and in bands without a light curve.
    """
    magnitude = np.full(len(footprints), np.inf)
    for band in ("u", "g", "r", "i", "z", "Y"):
        chosen = footprints.band == band
        if chosen.any():
            magnitude[chosen] = kilonova_magnitude(footprints.mjd[chosen] - mjd_event, band)
    return magnitude


def _number(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _nullable(values: FloatArray) -> pa.Array:
    return pa.array(values, type=pa.float32(), mask=~np.isfinite(values))
