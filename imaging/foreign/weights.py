"""Weight maps of other programs: what their names say, as inverse variances."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHT_POWERS = {
    **dict.fromkeys(("WGT", "WEIGHT", "IVAR", "INVVAR", "WT"), 1),
    **dict.fromkeys(("WEIGHTS", "WGHT", "WEIGHTMAP", "WEIGHT_MAP", "INV_VAR", "INVERSE_VARIANCE", "IVM"), 1),
    **dict.fromkeys(("VAR", "VARIANCE", "STAT"), -1),  # STAT is that of ESO's data products
    **dict.fromkeys(("ERR", "ERROR", "RMS", "UNCERT", "SIGMA"), -2),
    **dict.fromkeys(("ERRS", "ERRORS", "UNC", "UNCERTAINTY", "STD", "STDDEV", "STDEV", "NOISE"), -2),
    "WHT": 1,  # of drizzled images, which have a variance or an error too
}
"""Names of weight extensions, the preferred first, with the power that makes an inverse variance of them."""

LIKE_A_WEIGHT = re.compile(r"W(?:EI)?GH?T|VAR|ERR|RMS|UNC|STD|NOISE|SIG")
"""Names of extensions that may be weights."""

LARGE_PERCENTILE, MIN_SHARE = 95.0, 1e-6
"""Percentile of the weights that is one of good pixels, and the share of it below which a weight is none: the
photons of the brightest star leave 1e-4, and an error of 1e10 stands for no data."""

MOST = 500_000
"""Of more than twice as many good pixels only some count for the percentile."""


def inverse_variance(values: NDArray[Any], power: int) -> NDArray[np.floating[Any]]:
    """Return a weight map as inverse variances, with zero where a pixel has no weight.

    Parameters
    ----------
    values
        (ny, nx) weights, variances or standard deviations.
    power
        Power that makes an inverse variance of them: 1, -1 or -2.
    """
    is_inverse = power == 1 and values.dtype.kind == "f"
    numbers = values if is_inverse else np.asarray(values, dtype=float)
    good = np.isfinite(numbers) & (numbers > 0)
    inverse = np.where(good, numbers, 0)
    if not is_inverse:
        np.power(numbers, power, out=inverse, where=good)
    if good.any():
        some = inverse[good][:: max(1, np.count_nonzero(good) // MOST)].astype(float)
        inverse[inverse < MIN_SHARE * np.percentile(some, LARGE_PERCENTILE)] = 0.0
    return inverse
