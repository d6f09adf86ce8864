"""Classes of light curves with their probabilities, and the rule from which on a class is named."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.candidates.lightcurve import RIVALS, LightcurveLikelihood
from imaging.candidates.settings import RankSettings

FloatArray = NDArray[np.float64]

CLASSES = ("kilonova", *RIVALS)
"""Classes, in the order of the probabilities."""

UNDECIDED = "undecided"

MIN_FADING = 0.2
"""Smallest log likelihood ratio of a kilonova and a supernova or constant source over several nights, each of the
brightness that fits best. Supernovae a day apart have -0.9 to 0.1, AT2017gfo in i at 0.5 and 1.4 days has 0.3."""

MIN_POINTS = 2
"""With fewer points no variation can be seen."""

REASONS = ("one point", "one night, one band", "fades no faster than a supernova", "several classes fit")
"""Why no class is named, each the first that holds."""

STEADY = CLASSES[:3]
"""Classes that hardly change within a night: only a second band or night tells them apart."""


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes of n light curves.

    Attributes
    ----------
    name
        (n,) a class of :data:`CLASSES`, or :data:`UNDECIDED`.
    probability
        (n, 5) probability of each class, where a kilonova and all contaminants together have equal odds beforehand.
    reason
        (n,) why no class is named, of :data:`REASONS`; None if one is.
    """

    name: NDArray[np.object_]
    probability: FloatArray
    reason: NDArray[np.object_]


def probability_column(name: str) -> str:
    """Return the column of a class's probability: ``probability_slow_variable``."""
    return f"probability_{name.replace(' ', '_')}"


def classify(kilonova: FloatArray, likelihood: LightcurveLikelihood, settings: RankSettings) -> Classes:
    """Name the class of each light curve where the evidence excludes all others.

    The odds of a class against all others must reach ``class_log_odds`` ("strong evidence" in Jeffreys, Theory of
    Probability, appendix B). The odds of a kilonova rest on its brightness too, which a supernova can have. Points
    of one night and one band therefore name no class that is constant within the night. Once there are several
    nights, a kilonova of any brightness must fit better than a supernova or a constant source of any brightness.

    Parameters
    ----------
    kilonova
        (n,) log likelihood of a kilonova, :func:`imaging.candidates.lightcurve.marginal_kilonova`.
    likelihood
        Light curves of n candidates.
    settings
        The margin.
    """
    logs = np.concatenate([kilonova[:, None], likelihood.rivals], axis=1).astype(float)
    probability = np.exp(logs - logs.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    best = np.argmax(logs, axis=1)
    holds = (
        likelihood.n_after < MIN_POINTS,
        (best < len(STEADY)) & likelihood.one_colour,
        (best == 0) & (likelihood.fading < MIN_FADING),
        probability.max(axis=1) < 1.0 / (1.0 + np.exp(-settings.class_log_odds)),
    )
    why = np.select(holds, range(len(REASONS)), -1)
    name = np.where(why < 0, np.array(CLASSES, dtype=object)[best], UNDECIDED)
    return Classes(name, probability, np.array([*REASONS, None], dtype=object)[why])
