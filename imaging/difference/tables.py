"""Convert detections and fakes to Arrow tables."""

import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.difference.detect import DifferenceDetections
from imaging.difference.fakes import Fakes
from imaging.difference.measure import Measurements
from imaging.difference.records import Difference, Identity
from imaging.difference.settings import DetectionSettings
from imaging.foreign.cards import positive
from imaging.schemas.difference import DETECTIONS, FAKES
from imaging.tables import make_table

FloatArray = NDArray[np.float64]

MAG_PER_RELATIVE_ERROR = 2.5 / math.log(10.0)


def detections_table(
    difference: Difference,
    detections: DifferenceDetections,
    real_score: FloatArray,
    identity: Identity,
    settings: DetectionSettings,
) -> pa.Table:
    """Return the table DETECTIONS of one difference.

    Parameters
    ----------
    difference
        The difference.
    detections
        Its detections.
    real_score
        (n,) probabilities to be real.
    identity
        Exposure and CCD.
    settings
        Systematic astrometric error.
    """
    n, m = len(detections), detections.measured
    ra, dec = difference.search.wcs.pixel_to_sky(m.x, m.y)
    centroid = np.sqrt(0.5 * (m.x_error**2 + m.y_error**2) + difference.shift_error**2) * difference.pixel_scale_arcsec
    is_bright = m.flux > 0
    mag = difference.search.zeropoint_mag - 2.5 * np.log10(np.where(is_bright, m.flux, 1.0))
    mag_error = MAG_PER_RELATIVE_ERROR * m.flux_error / np.where(is_bright, m.flux, 1.0)
    base = (identity.expnum * 100 + identity.ccd) * 100_000
    columns = identity.columns(n) | {
        "detection_id": base + np.arange(1, n + 1, dtype=np.int64),
        "mjd": np.full(n, identity.mjd),
        "x": m.x,
        "y": m.y,
        "ra": ra,
        "dec": dec,
        "position_error_arcsec": np.hypot(centroid, settings.astrometry_floor_arcsec),
        "flux": m.flux,
        "flux_error": m.flux_error,
        "snr": detections.score,
        "mag": pa.array(mag, mask=~is_bright),
        "mag_error": pa.array(mag_error, mask=~is_bright),
        "chi2_psf": m.chi2,
        "a_image": m.a_image,
        "b_image": m.b_image,
        "spread_model": m.spread,
        "spread_error": m.spread_error,
        "dipole_fraction": detections.dipole_fraction,
        "negative_fraction": m.negative_fraction,
        "masked_fraction": m.masked_fraction,
        "template_flux": detections.template_flux,
        "star_distance_arcsec": _finite(detections.star_distance_arcsec),
        **_trail_columns(difference, m),
        "pixel_excess": detections.pixel_excess,
        "real_score": real_score,
        "flags": detections.flags,
    }
    return make_table(columns, DETECTIONS)


def fakes_table(difference: Difference, fakes: Fakes, real_score: FloatArray, identity: Identity) -> pa.Table:
    """Return the table FAKES of one difference.

    Parameters
    ----------
    difference
        The difference.
    fakes
        Fakes with their detections.
    real_score
        (m,) probabilities to be real of all detections on the copy with fakes.
    identity
        Exposure and CCD.
    """
    n = len(fakes)
    ra, dec = difference.search.wcs.pixel_to_sky(fakes.x, fakes.y)
    missed = ~fakes.detected
    found = fakes.detections

    def of_match(values: NDArray[np.generic]) -> pa.Array:
        return pa.array(np.append(values, values.dtype.type(0))[fakes.match], mask=missed)

    bright = fakes.on_host & (fakes.surface_brightness > 0)
    surface = np.where(bright, fakes.surface_brightness, 1.0) / difference.pixel_scale_arcsec**2
    columns = identity.columns(n) | {
        "fake_id": np.arange(1, n + 1, dtype=np.int32),
        "x": fakes.x,
        "y": fakes.y,
        "ra": ra,
        "dec": dec,
        "mag": fakes.mag,
        "flux": fakes.flux,
        "snr_expected": fakes.snr_expected,
        "on_host": fakes.on_host,
        "host_surface_brightness": pa.array(difference.search.zeropoint_mag - 2.5 * np.log10(surface), mask=~bright),
        "on_good_pixels": fakes.on_good_pixels,
        "detected": fakes.detected,
        "passed": fakes.passed,
        "snr": of_match(found.score),
        "flux_measured": of_match(found.measured.flux),
        "flux_error": of_match(found.measured.flux_error),
        "real_score": of_match(real_score),
        "flags": of_match(found.flags),
    }
    return make_table(columns, FAKES)


def _trail_columns(difference: Difference, m: Measurements) -> dict[str, pa.Array]:
    """Return lengths, position angles north to east, their errors and the motion of trails; null elsewhere."""
    is_trail, angle = m.trail_length > 0, np.radians(m.trail_angle)
    dx, dy = 0.5 * m.trail_length * np.cos(angle), 0.5 * m.trail_length * np.sin(angle)
    (ra, dec), (ra0, dec0) = (difference.search.wcs.pixel_to_sky(m.x + k * dx, m.y + k * dy) for k in (1, -1))
    east = ((ra - ra0 + 180.0) % 360.0 - 180.0) * np.cos(np.radians(0.5 * (dec + dec0)))
    arcsec = 3600.0 * np.hypot(east, dec - dec0)
    hours = (positive(difference.search.pixels.header, "EXPTIME") or np.nan) / 3600.0
    values = {
        "trail_arcsec": arcsec,
        "trail_error_arcsec": m.trail_length_error * difference.pixel_scale_arcsec,
        "trail_angle_deg": np.degrees(np.arctan2(east, dec - dec0)) % 180.0,
        "trail_angle_error_deg": m.trail_angle_error,
        "trail_arcsec_per_hour": arcsec / hours,
    }
    return {name: _finite(np.where(is_trail, column, np.nan)) for name, column in values.items()}


def _finite(values: FloatArray) -> pa.Array:
    known = np.isfinite(values)
    return pa.array(np.where(known, values, 0.0), mask=~known)
