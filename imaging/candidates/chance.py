"""Detections of one exposure that noise or a residual explains, and which candidates are left without them.

A search tests as many independent places as fit into the image, so peaks of noise exceed five sigma about once per CCD.
A source in two exposures cannot be one: two peaks fall on the same place once in a million CCDs. Residuals of stars
and other light seldom do, as the next exposure has another pointing and seeing.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.candidates.crossmatch import with_columns
from imaging.candidates.settings import AssociateSettings
from imaging.numerics.noise_peaks import exceeded
from imaging.schemas.candidates import CandidateFlag
from imaging.skymap.footprints import Footprints, known_or
from imaging.tables import column

FloatArray = NDArray[np.float64]

TYPICAL_PEAKS = 1.0
"""Peaks of noise above five sigma of a CCD whose number is unknown: that of a FWHM of 1.1 arcsec."""


def without_chance(ranked: pa.Table, forced: pa.Table, footprints: Footprints, settings: AssociateSettings) -> pa.Table:
    """Leave out the candidates that are one detection and that noise or a residual explains.

    A lone detection stays if its signal to noise reaches what noise rarely exceeds in its image, or if that of the
    night's photometry at its place does, of all exposures in one band or, with a flat spectrum, in all bands. Where
    another exposure of the night saw the place, its probability to be real, if known, must not be low.

    Parameters
    ----------
    ranked
        Ranked rows of :data:`imaging.schemas.candidates.CANDIDATES`, the best first.
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`.
    footprints
        CCD images of the night.
    settings
        The expected number of peaks of noise that stay per image, and the lowest probability.

    Returns
    -------
    left
        The other candidates in the same order, with ranks counted anew.
    """
    lone = (column(ranked, "flags") & int(CandidateFlag.SINGLE_DETECTION)) != 0
    if not lone.any():
        return ranked
    own = column(ranked, "snr_best").astype(float)
    limit = _thresholds(ranked, footprints, settings.chance_per_ccd)
    combined, looked_at = _night_photometry(ranked, forced, footprints)
    kept = ~lone | (np.fmax(own, combined) >= limit)
    doubtful = column(ranked, "probability_real").astype(float) < settings.lone_probability
    kept &= ~(lone & doubtful & (looked_at > 1))
    left = ranked.filter(pa.array(kept))
    return with_columns(left, rank=np.arange(1, left.num_rows + 1))


def _thresholds(ranked: pa.Table, footprints: Footprints, limit: float) -> FloatArray:
    """Return (n,) the threshold of the image of each candidate's first detection."""
    lists = ranked.column("detection_ids").combine_chunks()
    first = pc.list_element(lists, 0).to_numpy(zero_copy_only=False) // 100_000
    image = footprints.expnum * 100 + footprints.ccd
    place = pc.index_in(pa.array(first), value_set=pa.array(image)).to_numpy(zero_copy_only=False)
    peaks = np.append(known_or(footprints.noise_peaks, TYPICAL_PEAKS, len(footprints)), TYPICAL_PEAKS)
    return exceeded(peaks[np.where(np.isfinite(place), place, -1).astype(np.int64)], limit)


def _night_photometry(
    ranked: pa.Table, forced: pa.Table, footprints: Footprints
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return (n,) the signal to noise of the night's mean flux and the number of its measurements.

    The signal to noise is the highest of one band and of all, 0 if unknown.
    """
    night = pc.is_in(forced.column("expnum"), value_set=pa.array(np.unique(footprints.expnum), type=pa.int64()))
    forced = forced.filter(night)
    names = ranked.column("candidate_id").combine_chunks()
    place = pc.index_in(forced.column("candidate_id"), value_set=names).to_numpy(zero_copy_only=False)
    flux, error = (column(forced, name).astype(float) for name in ("flux", "flux_error"))
    good = np.isfinite(place) & np.isfinite(flux) & (error > 0)
    good &= ~np.asarray(forced.column("masked").fill_null(False)).astype(bool)
    place, flux, weight = place[good].astype(np.int64), flux[good], error[good] ** -2.0
    bands, band = np.unique(column(forced, "band").astype(str)[good], return_inverse=True)
    shape = (ranked.num_rows, len(bands))
    total, sums = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (place, band), weight * flux)
    np.add.at(sums, (place, band), weight)
    total, sums = (np.column_stack([of_band, of_band.sum(axis=1)]) for of_band in (total, sums))
    snr = np.divide(total, np.sqrt(sums), out=np.zeros_like(total), where=sums > 0)
    return snr.max(axis=1), np.bincount(place, minlength=ranked.num_rows)
