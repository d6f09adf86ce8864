"""Train the real/bogus score by logistic regression of fakes against artefacts, and test it on held-out data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from imaging.difference.score import FEATURES, ScoreModel, design

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Limits = tuple[float | None, float | None]

PENALTY = 20.0
"""Weight of the L2 penalty on the weights relative to the log likelihood. A night has ten to a hundred artefacts; with
a penalty of one the score is worse on nights that were left out."""


NOISE_SNR, NOISE_PRIOR = 6.0, 1.5
"""Signal to noise below which bogus detections have this larger weight: fakes are common there, but transients are not,
and every CCD has two noise peaks above five sigma."""


FALLS, BENDS = ((None, 0.0), (None, 0.0)), ((None, None), (None, 0.0))
AGAINST = ("log_chi2", "elongation", "dipole_fraction", "negative_fraction", "masked_fraction", "star_nearness")
UNUSUAL = ("spread", "spread_sigma", "size", "fit_ratio")
LIMITS: Mapping[str, tuple[Limits, Limits]] = {
    "log_snr": ((0.0, 1.0), (0.0, 0.0)),
    **dict.fromkeys((*AGAINST, "pixel_excess"), FALLS),
    **dict.fromkeys(UNUSUAL, BENDS),
}
"""Limits of the weights of features and of their squares. What speaks against a source may not raise the score, an
unusual value of either sign neither, and a high signal to noise hardly excuses anything: without these limits the few
artefacts of each kind in a training set decide how the score behaves far from the usual values."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Completeness and contamination of a labelled set at a threshold.

    Attributes
    ----------
    threshold
        Lowest accepted probability.
    real_kept
        Fraction of real detections accepted.
    bogus_kept
        Fraction of bogus detections accepted.
    n_real, n_bogus
        Size of the set.
    """

    threshold: float
    real_kept: float
    bogus_kept: float
    n_real: int
    n_bogus: int


def train_score(
    features: FloatArray,
    is_real: BoolArray,
    version: str,
    source: NDArray[np.int64] | None = None,
    limits: Mapping[str, tuple[Limits, Limits]] = LIMITS,
) -> ScoreModel:
    """Fit the score's model.

    Parameters
    ----------
    features
        (n, k) features, see :func:`imaging.difference.score.features_of`.
    is_real
        (n,) labels.
    version
        Name of the training run.
    source
        (n,) numbers of the sources of the labels; None if there is one.
    limits
        Limits of the weights of features and of their squares; those without are free.
    """
    if features.shape[1] != len(FEATURES):
        raise ValueError(f"{features.shape[1]} features given, {len(FEATURES)} expected")
    mean, scale = np.median(features, axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    columns = design(features, mean, scale)
    weight = class_weights(features, is_real, source)
    sign = np.where(is_real, 1.0, -1.0)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (columns @ parameters[:-1] + parameters[-1])
        value = np.sum(weight * np.logaddexp(0.0, -margin)) + 0.5 * PENALTY * np.sum(parameters[:-1] ** 2)
        slope = -weight * sign * expit(-margin)
        gradient = np.append(columns.T @ slope + PENALTY * parameters[:-1], slope.sum())
        return float(value), gradient

    start = np.zeros(columns.shape[1] + 1)
    free = (None, None)
    bounds = [*(limits.get(name, (free, free))[power] for power in (0, 1) for name in FEATURES), free]
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return ScoreModel(version, mean, scale, best.x[:-1], float(best.x[-1]))


def class_weights(features: FloatArray, is_real: BoolArray, source: NDArray[np.int64] | None = None) -> FloatArray:
    """Return (n,) weights with equal sums of both classes in every source, increased for noise peaks by their odds.

    Parameters
    ----------
    features, is_real
        (n, k) features and (n,) labels.
    source
        (n,) numbers of the sources of the labels, so that many simulated fakes do not outweigh the artefacts of
        nights; None if there is one.
    """
    _, part = np.unique(is_real + 2 * (0 if source is None else source), return_inverse=True)
    count = np.bincount(part)
    balanced = is_real.size / (count.size * count[part])
    faint = features[:, FEATURES.index("noise_exponent")] < 0.5 * NOISE_SNR**2
    return np.where(faint & ~is_real, NOISE_PRIOR * balanced, balanced)


def confusion(model: ScoreModel, features: FloatArray, is_real: BoolArray, threshold: float) -> Confusion:
    """Apply a model to a labelled set.

    Parameters
    ----------
    model
        Model.
    features, is_real
        (n, k) features and (n,) labels.
    threshold
        Lowest accepted probability.
    """
    kept = model.probability(features) >= threshold
    n_real, n_bogus = int(is_real.sum()), int((~is_real).sum())
    return Confusion(
        threshold,
        float(kept[is_real].mean()) if n_real else float("nan"),
        float(kept[~is_real].mean()) if n_bogus else float("nan"),
        n_real,
        n_bogus,
    )


def reliability(
    model: ScoreModel,
    features: FloatArray,
    is_real: BoolArray,
    source: NDArray[np.int64] | None = None,
    bins: int = 5,
) -> list[dict[str, float]]:
    """Compare a model's probabilities with the fractions that are real, weighted as in the training.

    Parameters
    ----------
    model
        Model.
    features, is_real
        (n, k) features and (n,) labels of a held-out set.
    source
        (n,) numbers of the sources of the labels; None if there is one.
    bins
        Bins of the probability.

    Returns
    -------
    rows
        Per non-empty bin: mean probability, fraction that is real, number of detections.
    """
    probability = model.probability(features)
    weight = class_weights(features, is_real, source)
    number = np.minimum((probability * bins).astype(int), bins - 1)
    rows = []
    for k in range(bins):
        inside = number == k
        if inside.any():
            share = np.average(is_real[inside], weights=weight[inside])
            mean = np.average(probability[inside], weights=weight[inside])
            rows.append({"score": float(mean), "share_real": float(share), "n": int(inside.sum())})
    return rows


def model_content(model: ScoreModel, recipe: str, judged: Sequence[Mapping[str, float]] = ()) -> dict[str, object]:
    """Return a model as a JSON document; numbers are rounded to six digits.

    Parameters
    ----------
    model
        Model.
    recipe
        Description of the training.
    judged
        Its :func:`reliability` on held-out data.
    """

    def rounded(values: FloatArray) -> list[float]:
        return [float(f"{v:.6g}") for v in values]

    return {
        "version": model.version,
        "recipe": recipe,
        "reliability": [{key: float(f"{value:.3g}") for key, value in row.items()} for row in judged],
        "features": list(FEATURES),
        "mean": rounded(model.mean),
        "scale": rounded(model.scale),
        "weights": rounded(model.weights),
        "offset": float(f"{model.offset:.6g}"),
    }
