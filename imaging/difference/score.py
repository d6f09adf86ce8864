"""Real/bogus score: probability that a detection is real, by logistic regression on physical features.

Transients have the shape of the PSF, no negative side, no masked pixels and no bright star at their position; cosmic
rays are sharper; residuals of stars are dipoles or rings and increase with the subtracted flux. Noise peaks resemble
faint sources; they are identified only by their frequency, which falls like a Gaussian: two per CCD above five sigma,
one in ten CCDs above six. A logistic model of these features and their squares is sufficient and interpretable;
:mod:`imaging.difference.train` trains it.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from imaging.difference.detect import DifferenceDetections
from imaging.difference.settings import DetectionSettings
from imaging.package_data import read_text
from imaging.schemas.difference import DetectionFlag

FloatArray = NDArray[np.float64]

FEATURES = (
    "log_snr",
    "log_chi2",
    "spread",
    "spread_sigma",
    "elongation",
    "size",
    "dipole_fraction",
    "negative_fraction",
    "masked_fraction",
    "log_template_ratio",
    "star_nearness",
    "noise_exponent",
    "pixel_excess",
    "fit_ratio",
)
"""Names of the features, in the order of the columns."""

FLAGS_OF_FEATURES = (
    DetectionFlag.DIPOLE
    | DetectionFlag.COSMIC_RAY
    | DetectionFlag.NOT_PSF
    | DetectionFlag.NEGATIVE_PIXELS
    | DetectionFlag.NEAR_STAR
)
"""Flags that cut one feature each; the score weighs the same features together."""

MAX_NOISE_SNR = 7.0
"""Signal to noise above which no detection is noise."""

SPREAD_SCALE = 0.005
"""Largest error of a reliable spread_model."""


PSF_SNR = 30.0
"""Signal to noise above which the error of a fitted flux is that of the PSF model and its significance is lower."""


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """A logistic model of standardised features and their squares.

    Attributes
    ----------
    version
        Name of the training run.
    mean, scale
        (k,) standardisation of the features.
    weights
        (2 k,) weights of the standardised features and of their squares.
    offset
        Constant.
    """

    version: str
    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    offset: float

    def probability(self, features: FloatArray) -> FloatArray:
        """Return the (n,) probabilities to be real of (n, k) features."""
        return expit(design(features, self.mean, self.scale) @ self.weights + self.offset)


def design(features: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the (n, 2 k) standardised features, clipped at five sigma, and their squares."""
    standard = np.clip((features - mean) / scale, -5.0, 5.0)
    return np.concatenate([standard, standard**2], axis=1)


def features_of(detections: DifferenceDetections, fwhm_pixels: float) -> FloatArray:
    """Return the (n, k) features of detections, in the order of :data:`FEATURES`.

    The peak of the matched filter and the fitted flux of a faint point source have the same significance (``fit_ratio``
    is the logarithm of their ratio); those of residuals differ.

    Parameters
    ----------
    detections
        Detections of either sign.
    fwhm_pixels
        Seeing of the difference.
    """
    m = detections.measured
    sigma = fwhm_pixels / 2.3548
    flux = np.maximum(np.abs(m.flux), 1.0)
    distance = np.nan_to_num(detections.star_distance_arcsec, nan=60.0)
    snr, fitted_snr = np.maximum(np.abs(detections.score), 1.0), np.abs(m.flux) / np.maximum(m.flux_error, 1e-6)
    return np.stack(
        [
            np.log10(snr),
            np.log10(np.clip(m.chi2, 0.1, 100.0)),
            np.clip(m.spread, -0.1, 0.1) / (1.0 + (m.spread_error / SPREAD_SCALE) ** 2),
            np.clip(m.spread / np.maximum(m.spread_error, 1e-6), -20.0, 20.0),
            np.clip(m.a_image / np.maximum(m.b_image, 0.3 * sigma), 1.0, 6.0),
            np.clip(np.sqrt(m.a_image * m.b_image) / sigma, 0.0, 3.0),
            detections.dipole_fraction,
            m.negative_fraction,
            m.masked_fraction,
            np.log10(1.0 + np.maximum(detections.template_flux, 0.0) / flux),
            1.0 / (1.0 + distance),
            0.5 * np.minimum(np.abs(detections.score), MAX_NOISE_SNR) ** 2,
            np.clip(detections.pixel_excess, 0.0, 20.0),
            np.log10(np.clip(fitted_snr / snr, 0.2, 5.0)) / (1.0 + (snr / PSF_SNR) ** 2),
        ],
        axis=1,
    )


def read_model(text: str) -> ScoreModel:
    """Return the model of a JSON document of :func:`imaging.difference.train.model_content`.

    Raises
    ------
    ValueError
        If it was trained on other features.
    """
    content = json.loads(text)
    if tuple(content["features"]) != FEATURES:
        raise ValueError("the score model was trained on other features: train it again")
    mean, scale, weights = (np.array(content[key], dtype=float) for key in ("mean", "scale", "weights"))
    return ScoreModel(str(content["version"]), mean, scale, weights, float(content["offset"]))


@lru_cache
def shipped_model() -> ScoreModel:
    """Return the package's model."""
    return read_model(read_text("imaging.difference", "score.json"))


def score_detections(
    detections: DifferenceDetections, fwhm_pixels: float, model: ScoreModel | None = None
) -> FloatArray:
    """Return the (n,) probabilities to be real.

    Parameters
    ----------
    detections
        Detections.
    fwhm_pixels
        Seeing of the difference.
    model
        Model; None takes the package's.
    """
    if len(detections) == 0:
        return np.zeros(0)
    return (model or shipped_model()).probability(features_of(detections, fwhm_pixels))


def judge(
    detections: DifferenceDetections, fwhm_pixels: float, settings: DetectionSettings
) -> tuple[DifferenceDetections, FloatArray]:
    """Score detections, and take the flags of single features, of bright ones STREAK too, where the score vouches.

    Parameters
    ----------
    detections
        Detections with all flags.
    fwhm_pixels
        Seeing of the difference.
    settings
        Score from which on a flag of a feature does not reject, and signal to noise for STREAK.

    Returns
    -------
    detections
        The detections with the flags that remain.
    score
        (n,) probabilities to be real.
    """
    score = score_detections(detections, fwhm_pixels)
    return without_vouched_flags(detections, score, settings), score


def without_vouched_flags(
    detections: DifferenceDetections, score: FloatArray, settings: DetectionSettings
) -> DifferenceDetections:
    """Return detections with the flags that remain at given scores, (n,); a trail's all do. See :func:`judge`."""
    star_like = (score >= settings.vouching_score) & ~(detections.measured.trail_length > 0)
    bright = star_like & (np.abs(detections.score) >= settings.vouching_snr)
    lifted = np.where(star_like, int(FLAGS_OF_FEATURES), 0) | np.where(bright, int(DetectionFlag.STREAK), 0)
    return replace(detections, flags=(detections.flags & ~lifted).astype(np.int32))
