"""Train the real/bogus score: logistic regression of fakes against artefacts, with a held-out part."""

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
"""Weight of the squared weights against the log likelihood: what the training set does not constrain stays small."""


NOISE_SNR, NOISE_PRIOR = 6.0, 4.0
"""Bogus ones fainter than this signal to noise count so many times: fakes are common there, but transients are not,
and two noise peaks above five sigma are in every CCD."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """What a threshold does to a labelled set.

    Attributes
    ----------
    threshold
        Lowest probability that is kept.
    real_kept
        Share of the real ones that are kept.
    bogus_kept
        Share of the others that are kept.
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
        Name of the training.
    weight
        (n,) weights; :func:`class_weights` if left out.
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
    """Return (n,) weights that give both classes the same sum, and then noise peaks the odds that they have.

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
        Lowest probability that is kept.
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
    """Compare the probabilities that a model gives with the shares that are real, weighted as in the training.

    Parameters
    ----------
    model
        Model.
    features, is_real
        (n, k) features and (n,) labels of a set that it was not trained on.
    bins
        Bins of the probability.

    Returns
    -------
    rows
        Per bin that is not empty: mean probability, share that is real, number of detections.
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
    """Return what is shipped of a model, ready for JSON; numbers rounded to six digits.

    Parameters
    ----------
    model
        Model.
    recipe
        How it was trained, for a person.
    judged
        Its :func:`reliability` on what was held out.
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
