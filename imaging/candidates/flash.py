"""Candidates that are absent from another exposure of the same hours: glints of satellites, flares, artefacts.

A glint of 1 to 5 arcsec looks like a star. No kilonova fades by half within three hours: AT2017gfo in g, the fastest,
lost 2 mag per day (Villar et al. 2017, ApJ 851, L21).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.tables import column

MAX_HOURS = 3.0
"""Longest time between the two exposures."""

MAX_SHARE, MIN_SIGMA = 0.5, 5.0
"""Largest flux in the other exposure, in units of that in the first, and least significance of their difference."""

EXPOSURE_DAYS = 0.01
"""Largest difference in time of the same exposure on different CCDs."""


def are_flashes(candidates: pa.Table, forced: pa.Table) -> NDArray[np.bool_]:
    """Return (n,) which candidates have lost half their flux, in the same band, within three hours of a detection.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`, in any order. Masked points and points without a
        flux do not count.
    """
    found = np.zeros(candidates.num_rows, dtype=bool)
    names = candidates.column("candidate_id").combine_chunks()
    place = pc.index_in(forced.column("candidate_id"), value_set=names).to_numpy(zero_copy_only=False)
    flux, error, mjd = (column(forced, name).astype(float) for name in ("flux", "flux_error", "mjd"))
    good = np.isfinite(place) & np.isfinite(flux) & (error > 0)
    good &= ~np.asarray(forced.column("masked").fill_null(False)).astype(bool)
    _, band = np.unique(column(forced, "band").astype(str), return_inverse=True)
    place = np.where(good, place, 0).astype(np.int64)
    order = np.lexsort((mjd, band, place))
    order = order[good[order]]
    place, band, mjd, flux, error = (values[order] for values in (place, band, mjd, flux, error))
    first, last = (column(candidates, name)[place] for name in ("mjd_first", "mjd_last"))
    seen = (mjd > first - EXPOSURE_DAYS) & (mjd < last + EXPOSURE_DAYS)
    for step in range(1, len(order)):
        a, b = slice(None, -step), slice(step, None)
        near = (place[a] == place[b]) & (band[a] == band[b]) & (mjd[b] - mjd[a] < MAX_HOURS / 24.0)
        if not near.any():
            break
        for bright, faint in ((a, b), (b, a)):
            fades = near & seen[bright] & (flux[faint] < MAX_SHARE * flux[bright])
            fades &= flux[bright] - flux[faint] > MIN_SIGMA * np.hypot(error[bright], error[faint])
            found[place[bright][fades]] = True
    return found
