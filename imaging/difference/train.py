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

PENALTY = 1.0
"""Weight of the L2 penalty on the weights relative to the log likelihood."""


NOISE_SNR, NOISE_PRIOR = 6.0, 4.0
"""Signal to noise below which bogus detections have this larger weight: fakes are common there, but transients are not,
and every CCD has two noise peaks above five sigma."""


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


def train_score(features: FloatArray, is_real: BoolArray, version: str, weight: FloatArray | None = None) -> ScoreModel:
    """Fit the score's model.

    Parameters
    ----------
    features
        (n, k) features, see :func:`imaging.difference.score.features_of`.
    is_real
        (n,) labels.
    version
        Name of the training run.
    weight
        (n,) weights; None takes :func:`class_weights`.
    """
    if features.shape[1] != len(FEATURES):
        raise ValueError(f"{features.shape[1]} features given, {len(FEATURES)} expected")
    mean, scale = np.median(features, axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    columns = design(features, mean, scale)
    if weight is None:
        weight = class_weights(features, is_real)
    sign = np.where(is_real, 1.0, -1.0)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (columns @ parameters[:-1] + parameters[-1])
        value = np.sum(weight * np.logaddexp(0.0, -margin)) + 0.5 * PENALTY * np.sum(parameters[:-1] ** 2)
        slope = -weight * sign * expit(-margin)
        gradient = np.append(columns.T @ slope + PENALTY * parameters[:-1], slope.sum())
        return float(value), gradient

    start = np.zeros(columns.shape[1] + 1)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return ScoreModel(version, mean, scale, best.x[:-1], float(best.x[-1]))


def class_weights(features: FloatArray, is_real: BoolArray) -> FloatArray:
    """Return (n,) weights with equal sums of both classes, then increased for noise peaks by their true odds.

    Parameters
    ----------
    features, is_real
        (n, k) features and (n,) labels.
    """
    balanced = np.where(is_real, 0.5 / max(is_real.sum(), 1), 0.5 / max((~is_real).sum(), 1)) * is_real.size
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


def reliability(model: ScoreModel, features: FloatArray, is_real: BoolArray, bins: int = 5) -> list[dict[str, float]]:
    """Compare a model's probabilities with the fractions that are real, weighted as in the training.

    Parameters
    ----------
    model
        Model.
    features, is_real
        (n, k) features and (n,) labels of a held-out set.
    bins
        Bins of the probability.

    Returns
    -------
    rows
        Per non-empty bin: mean probability, fraction that is real, number of detections.
    """
    probability = model.probability(features)
    weight = class_weights(features, is_real)
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
