"""Probability of a detection to be real, calibrated with the fakes and all detections of a night.

The real/bogus score was trained on other nights, where artefacts were more or less frequent. The fakes show the scores
of real sources of this night, all detections those of the mixture of real and bogus ones. Where detections are more
frequent than fakes, relative to the highest scores, the excess is bogus. A night has few detections in a bin, so that
the score is weighed with them, as a fixed number of detections.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.tables import column

FloatArray = NDArray[np.float64]

SNR_EDGES = (7.0, 12.0)
"""Limits between the classes of signal to noise that are calibrated separately: faint real sources have low scores."""

FAKE_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the fakes below the edges of the bins of scores."""

MIN_FAKES = 30
"""Fewest fakes of a class of signal to noise that calibrate it; below, the score itself is the probability."""

SCORE_WEIGHT = 25.0
"""Number of detections that the score itself counts as in a bin: so many tell a share with an error of 0.09, as the
shipped score does on held-out nights (``reliability`` in ``score.json``, root mean square of 0.2 to 0.8)."""


def probability_real(detections: pa.Table, fakes: pa.Table) -> FloatArray:
    """Return the probability of each detection to be real.

    Parameters
    ----------
    detections
        (n,) rows of :data:`imaging.schemas.difference.DETECTIONS`: all detections of the night that passed the cuts.
    fakes
        Rows of :data:`imaging.schemas.difference.FAKES` of the same exposures.

    Returns
    -------
    probability
        (n,), NaN without a score. In each bin of scores, the expected number of real detections over the number of
        detections, with the score as prior. In the bin of the highest scores, that of 60 % of the fakes, all count as
        real for that number, and their probability is the score.
    """
    score, snr = (column(detections, name).astype(float) for name in ("real_score", "snr"))
    passed = fakes.filter(fakes.column("passed"))
    of_fakes, snr_of_fakes = (column(passed, name).astype(float) for name in ("real_score", "snr"))
    known = np.isfinite(of_fakes)
    of_fakes, kind_of_fakes = of_fakes[known], np.digitize(snr_of_fakes[known], SNR_EDGES)
    kind = np.where(np.isfinite(score), np.digitize(np.abs(snr), SNR_EDGES), -1)
    probability = score.copy()
    for number in range(len(SNR_EDGES) + 1):
        ours, theirs = kind == number, of_fakes[kind_of_fakes == number]
        if ours.any() and len(theirs) >= MIN_FAKES:
            probability[ours] = _calibrated(score[ours], theirs)
    return probability


def _calibrated(score: FloatArray, of_fakes: FloatArray) -> FloatArray:
    edges = np.quantile(of_fakes, FAKE_SHARES)
    n = len(edges) + 1
    bins = np.digitize(score, edges)
    found = np.bincount(bins, minlength=n)
    share = np.bincount(np.digitize(of_fakes, edges), minlength=n) / len(of_fakes)
    expected = share * found[-1] / share[-1]
    total = np.maximum(found, expected)
    result: FloatArray = (expected[bins] + SCORE_WEIGHT * score) / (total[bins] + SCORE_WEIGHT)
    return np.where(bins == n - 1, score, result)
