"""Variability of candidates among the template exposures, before the merger.

A difference compares the night with the stack of templates and does not show whether a source varied among the
templates. Each template is therefore measured separately, and its deviation from their mean is added to the forced
photometry. A template taken after the merger may hold light of the transient; then the fluxes are taken relative to
those before the merger.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.candidates.settings import LightcurveSettings
from imaging.candidates.templates import AB_ZERO_NJY
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.tables import column, make_table

FloatArray = NDArray[np.float64]

LIMIT_SNR, SHOWN_SNR = 5.0, 2.0
"""Significance of the limiting magnitudes, and the lowest for a magnitude, as in the forced photometry."""


def template_history(direct: pa.Table, settings: LightcurveSettings) -> pa.Table:
    """Return the flux deviation of every template exposure from the mean of its band.

    Parameters
    ----------
    direct
        Rows of :data:`imaging.schemas.difference.DIRECT_PHOTOMETRY`; a template measured for several search exposures
        counts once. Search exposures, masked points and points without a flux are ignored.
    settings
        Systematic error: PSF fluxes of galaxies change with the seeing.

    Returns
    -------
    history
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`, ordered by candidate, band and time; none for a
        band with only one template.
    """
    flux, error = (column(direct, name).astype(float) for name in ("flux", "flux_error"))
    side = np.asarray(direct.column("side").to_pylist(), dtype=object)
    masked = np.asarray(direct.column("masked").fill_null(True)).astype(bool)
    chosen = np.flatnonzero((side == "template") & ~masked & np.isfinite(flux) & np.isfinite(error) & (error > 0))
    names, bands = (
        direct.column(name).take(pa.array(chosen)).combine_chunks().dictionary_encode()
        for name in ("candidate_id", "band")
    )
    owner, band = (np.asarray(codes.indices).astype(np.int64) for codes in (names, bands))
    keys = np.stack([owner, band, column(direct, "expnum")[chosen].astype(np.int64)])
    _, first = np.unique(keys, axis=1, return_index=True)
    chosen, group = chosen[first], owner[first] * max(len(bands.dictionary), 1) + band[first]
    departure, error = _departures(flux[chosen], error[chosen], group, settings.history_host_fraction)
    several = np.isfinite(departure)
    return _table(direct.take(pa.array(chosen[several])), departure[several], error[several])


def relative_to_before(lightcurves: pa.Table, direct: pa.Table, mjd_event: float) -> pa.Table:
    """Subtract the mean flux before the merger where a template taken after it may hold light of the transient.

    Such a template makes all fluxes of its band too low by the same amount, those before the merger too.

    Parameters
    ----------
    lightcurves
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`, of differences and templates.
    direct
        Rows of :data:`imaging.schemas.difference.DIRECT_PHOTOMETRY`: which templates each candidate and band has.
    mjd_event
        Time of the merger, MJD UTC.

    Returns
    -------
    relative
        The rows in their order. Fluxes of a candidate and band with a template after the merger and photometry before
        it are relative to the weighted mean of the latter, whose error is added in quadrature.
    """
    late = pc.and_(pc.equal(direct.column("side"), "template"), pc.greater(direct.column("mjd"), mjd_event))
    keys = _candidate_and_band(lightcurves)
    concerned = pc.is_in(keys, value_set=_candidate_and_band(direct.filter(late)).unique())
    chosen = np.flatnonzero(concerned.to_numpy(zero_copy_only=False))
    rows = lightcurves.take(pa.array(chosen))
    label = np.asarray(keys.take(pa.array(chosen)).dictionary_encode().indices).astype(np.int64)
    flux, error = (column(rows, name).astype(float) for name in ("flux", "flux_error"))
    good = ~np.asarray(rows.column("masked").fill_null(True)).astype(bool) & (column(rows, "mjd") <= mjd_event)
    good &= np.isfinite(flux) & np.isfinite(error) & (error > 0)
    weight = np.zeros(len(rows))
    weight[good] = 1.0 / error[good] ** 2
    total = np.bincount(label, weight)[label]
    known = total > 0
    mean = np.bincount(label, weight * np.where(good, flux, 0.0))[label][known] / total[known]
    photometry = _photometry(flux[known] - mean, np.hypot(error[known], total[known] ** -0.5))
    changed = np.zeros(lightcurves.num_rows, dtype=bool)
    changed[chosen[known]] = True
    for name, values in photometry.items():
        old = lightcurves.column(name).combine_chunks()
        new = pc.replace_with_mask(old, pa.array(changed), pa.array(values).cast(old.type))
        lightcurves = lightcurves.set_column(
            lightcurves.schema.get_field_index(name), FORCED_PHOTOMETRY.field(name), new
        )
    return lightcurves


def _candidate_and_band(rows: pa.Table) -> pa.Array:
    names, bands = (rows.column(name).combine_chunks().cast(pa.string()) for name in ("candidate_id", "band"))
    return pc.binary_join_element_wise(names, bands, " ")


def _departures(
    flux: FloatArray, error: FloatArray, group: NDArray[np.int64], fraction: float
) -> tuple[FloatArray, FloatArray]:
    """Return deviations from the weighted mean of each group, NaN for groups of one, and their errors."""
    label = np.unique(group, return_inverse=True)[1]
    weight = 1.0 / error**2
    mean = (np.bincount(label, weight * flux) / np.bincount(label, weight))[label]
    alone = (np.bincount(label) < 2)[label]
    return np.where(alone, np.nan, flux - mean), np.hypot(error, fraction * np.maximum(mean, 0.0))


def _table(rows: pa.Table, flux: FloatArray, error: FloatArray) -> pa.Table:
    kept = {
        name: rows.column(name).combine_chunks() for name in ("candidate_id", "expnum", "band", "night", "ccd", "mjd")
    }
    masked = {"masked": np.zeros(len(flux), dtype=bool)}
    table = make_table(kept | _photometry(flux, error) | masked, FORCED_PHOTOMETRY)
    return table.sort_by([("candidate_id", "ascending"), ("band", "ascending"), ("mjd", "ascending")])


def _photometry(flux: FloatArray, error: FloatArray) -> dict[str, Any]:
    """Return the columns of fluxes in nanojansky, with magnitudes of those above :data:`SHOWN_SNR`."""
    snr = flux / error
    shown = snr > SHOWN_SNR
    with np.errstate(invalid="ignore", divide="ignore"):
        mag = np.where(shown, -2.5 * np.log10(flux / AB_ZERO_NJY), np.nan)
        mag_error = np.where(shown, 2.5 / np.log(10.0) / snr, np.nan)
    return {
        "flux": flux,
        "flux_error": error,
        "snr": snr,
        "mag": pa.array(mag, mask=~shown, type=pa.float32()),
        "mag_error": pa.array(mag_error, mask=~shown, type=pa.float32()),
        "limit_mag": -2.5 * np.log10(LIMIT_SNR * error / AB_ZERO_NJY),
    }
