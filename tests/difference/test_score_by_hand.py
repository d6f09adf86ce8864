"""Features, logistic model and training of the score against their formulas and against SciPy."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.stats import norm

from imaging.difference.detect import DifferenceDetections
from imaging.difference.score import FEATURES, ScoreModel, design, features_of, judge, score_detections, shipped_model
from imaging.difference.settings import DetectionSettings
from imaging.difference.train import (
    NOISE_PRIOR,
    PENALTY,
    class_weights,
    confusion,
    model_content,
    reliability,
    train_score,
)
from imaging.schemas.difference import DetectionFlag as Flag
from tests.difference.drawn import measurements

FWHM = 4.0
SIGMA = FWHM / (2 * np.sqrt(2 * np.log(2)))
K = len(FEATURES)
GOOD = {
    "flux": 5e3,
    "chi2": 1.0,
    "a_image": SIGMA,
    "b_image": SIGMA,
    "spread": 0.0,
    "spread_error": 0.002,
    "negative_fraction": 0.023,
    "masked_fraction": 0.0,
}


def detections(score=20.0, *, dipole=0.0, template=0.0, distance=np.nan, excess=1.5, **columns):
    values = np.broadcast_arrays(*np.atleast_1d(score, dipole, template, distance, excess))
    fitted = {"flux_error": GOOD["flux"] / np.maximum(np.abs(values[0]), 1.0)}
    m = measurements(values[0].size, **(GOOD | fitted | columns))
    score, dipole, template, distance, excess = (np.array(v, float) for v in values)
    return DifferenceDetections(m, score, dipole, template, distance, excess, np.zeros(score.size, np.int32))


def feature(name, **values):
    return float(features_of(detections(**values), FWHM)[0, FEATURES.index(name)])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("log_snr", {"score": -100.0}, 2.0),
        ("log_snr", {"score": 0.2}, 0.0),
        ("log_chi2", {"chi2": 1e4}, 2.0),
        ("log_chi2", {"chi2": 0.0}, -1.0),
        ("spread", {"spread": 0.01, "spread_error": 0.005}, 0.005),
        ("spread", {"spread": -0.4, "spread_error": 0.0}, -0.1),
        ("spread", {"spread": 0.04, "spread_error": np.inf}, 0.0),
        ("spread_sigma", {"spread": 0.01, "spread_error": 0.004}, 2.5),
        ("spread_sigma", {"spread": -1.0, "spread_error": 0.0}, -20.0),
        ("elongation", {"a_image": 3.0, "b_image": 2.0}, 1.5),
        ("elongation", {"a_image": 3.0, "b_image": 0.0}, 3.0 / (0.3 * SIGMA)),
        ("elongation", {"a_image": 0.0, "b_image": 2.0}, 1.0),
        ("size", {"a_image": 4.0 * SIGMA, "b_image": SIGMA}, 2.0),
        ("size", {"a_image": 9.0 * SIGMA, "b_image": 4 * SIGMA}, 3.0),
        ("dipole_fraction", {"dipole": 0.4}, 0.4),
        ("negative_fraction", {"negative_fraction": 0.3}, 0.3),
        ("masked_fraction", {"masked_fraction": 0.2}, 0.2),
        ("log_template_ratio", {"template": 4.5e4, "flux": -5e3}, 1.0),
        ("log_template_ratio", {"template": -4.5e4}, 0.0),
        ("star_nearness", {"distance": 4.0}, 0.2),
        ("star_nearness", {"distance": np.nan}, 1 / 61),
        ("noise_exponent", {"score": -6.0}, 18.0),
        ("noise_exponent", {"score": 50.0}, 24.5),
        ("fit_ratio", {"score": -10.0, "flux": -5e3, "flux_error": 400.0}, np.log10(1.25) / (1 + 1 / 9)),
        ("fit_ratio", {"score": 6.0, "flux": 5e3, "flux_error": 1e9}, np.log10(0.2) / 1.04),
        ("fit_ratio", {"score": 6.0, "flux": 5e3, "flux_error": 0.0}, np.log10(5.0) / 1.04),
        ("pixel_excess", {"excess": 35.0}, 20.0),
        ("pixel_excess", {"excess": 7.0}, 7.0),
    ],
)
def test_a_feature_is_what_its_name_says(name, values, expected):
    assert feature(name, **values) == pytest.approx(expected, rel=2e-5, abs=1e-12)


def test_the_noise_exponent_is_the_logarithm_of_a_gaussian():
    first, second = (feature("noise_exponent", score=s) for s in (5.0, 6.0))
    assert second - first == pytest.approx(norm.logpdf(5.0) - norm.logpdf(6.0))


def test_the_design_holds_outliers_within_five_sigma():
    rng = np.random.default_rng(1)
    features, mean, scale = rng.normal(0.0, 8.0, (50, 3)), np.array([1.0, 0.0, -2.0]), np.array([1.0, 2.0, 0.5])
    columns = design(features, mean, scale)
    standard = (features - mean) / scale
    inside = np.abs(standard) <= 5
    assert columns.shape == (50, 6)
    assert columns[:, :3][inside] == pytest.approx(standard[inside])
    assert np.array_equal(columns[:, :3][~inside], 5 * np.sign(standard[~inside]))
    assert columns[:, 3:] == pytest.approx(columns[:, :3] ** 2)


def test_a_probability_is_the_logistic_function_of_the_weighted_sum():
    model = ScoreModel("v", np.array([1.0]), np.array([2.0]), np.array([0.5, -0.25]), 0.3)
    z = (4.0 - 1.0) / 2.0
    assert model.probability(np.array([[4.0]]))[0] == pytest.approx(1 / (1 + np.exp(-(0.5 * z - 0.25 * z**2 + 0.3))))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dipole", (0.0, 0.3, 0.6, 0.9)),
        ("negative_fraction", (0.02, 0.15, 0.3)),
        ("masked_fraction", (0.0, 0.15, 0.3)),
        ("excess", (2.0, 6.0, 10.0, 15.0)),
        ("chi2", (1.0, 3.0, 10.0)),
    ],
)
def test_the_shipped_score_falls_with_what_speaks_against_a_source(name, values):
    scores = [score_detections(detections(score=8.0, **{name: v}), FWHM)[0] for v in values]
    assert scores[0] > 0.5 and all(a >= b for a, b in itertools.pairwise(scores)), scores
    odds = [p / (1 - p) for p in scores]
    assert odds[-1] < odds[0] / 3


def test_the_shipped_score_grows_with_the_signal_of_a_clean_source_and_wants_no_detection():
    scores = score_detections(detections(score=np.array([5.0, 5.5, 6.0, 7.0, 15.0])), FWHM)
    assert (np.diff(scores) > 0).all() and scores[0] < 0.5 < scores[-1]
    assert score_detections(detections(score=np.zeros(0)), FWHM).shape == (0,)
    constant = ScoreModel("v", np.zeros(K), np.ones(K), np.zeros(2 * K), 0.0)
    assert score_detections(detections(), FWHM, constant)[0] == 0.5
    assert shipped_model().weights.size == 2 * K


def test_a_trail_does_not_reject_a_star_like_source_of_signal_to_noise_50():
    values = {"score": np.array([49.0, 51.0, 51.0]), "dipole": np.array([0.0, 0.0, 0.9])}
    values |= {"negative_fraction": np.array([0.023, 0.023, 0.3])}
    found = replace(detections(**values), flags=np.full(3, int(Flag.STREAK), np.int32))
    judged, score = judge(found, FWHM, DetectionSettings())
    assert (score[:2] > 0.98).all() and score[2] < 0.98
    assert judged.passed.tolist() == [False, True, False]


@pytest.mark.parametrize("flag", [Flag.DIPOLE, Flag.COSMIC_RAY, Flag.NOT_PSF, Flag.NEGATIVE_PIXELS, Flag.NEAR_STAR])
@pytest.mark.parametrize("snr", [15.0, 50.0])
def test_a_flag_of_one_feature_does_not_reject_a_star_like_source(flag, snr):
    found = replace(detections(score=snr), flags=np.array([int(flag)], np.int32))
    judged, score = judge(found, FWHM, DetectionSettings())
    assert score[0] > 0.98 and judged.passed.all()
    strict, _ = judge(found, FWHM, DetectionSettings(vouching_score=1.0))
    assert strict.flags[0] == flag


def test_a_flag_remains_where_the_score_is_low_and_where_it_says_what_the_score_does_not():
    of_features = Flag.DIPOLE | Flag.COSMIC_RAY | Flag.NOT_PSF | Flag.NEGATIVE_PIXELS | Flag.NEAR_STAR
    others = Flag.NEGATIVE | Flag.MASKED | Flag.STREAK | Flag.EDGE
    both = detections(score=np.full(2, 40.0), dipole=np.array([0.0, 0.9]), negative_fraction=np.array([0.023, 0.3]))
    judged, score = judge(
        replace(both, flags=np.full(2, int(of_features | others), np.int32)), FWHM, DetectionSettings()
    )
    assert score[0] > 0.98 > score[1]
    assert judged.flags.tolist() == [int(others), int(of_features | others)]


def a_training_set(n=500):
    rng = np.random.default_rng(2)
    features = rng.normal(0.0, 1.0, (n, K))
    features[:, FEATURES.index("noise_exponent")] = rng.uniform(12.5, 24.5, n)
    features[:, 4] = 1.0  # a column without any scatter
    return features, rng.random(n) < 1 / (1 + np.exp(-2 * features[:, 0] + features[:, 1] ** 2))


def test_weights_balance_the_classes_of_every_source_and_count_noise_peaks_more():
    features, real = a_training_set()
    weight = class_weights(features, real)
    faint = features[:, FEATURES.index("noise_exponent")] < 18.0
    assert weight[real] == pytest.approx(0.5 * real.size / real.sum())
    assert weight[~real & ~faint] == pytest.approx(0.5 * real.size / (~real).sum())
    assert weight[~real & faint] == pytest.approx(NOISE_PRIOR * 0.5 * real.size / (~real).sum())
    one_sided = class_weights(features, np.ones(real.size, bool))
    assert one_sided == pytest.approx(1.0)
    source = np.repeat([0, 1], [real.size - 40, 40])
    weight = class_weights(features, real, source)
    for number, label in itertools.product((0, 1), (True, False)):
        part = (source == number) & (real == label) & ~(faint & ~real)
        of_part = (source == number) & (real == label)
        assert weight[part] == pytest.approx(real.size / 4 / of_part.sum())


def test_the_training_finds_the_minimum_of_the_penalised_likelihood():
    features, real = a_training_set()
    weight = class_weights(features, real)
    model = train_score(features, real, "v", limits={})
    assert model.mean == pytest.approx(np.median(features, axis=0))
    expected = features.std(axis=0)
    expected[4] = 1.0
    assert model.scale == pytest.approx(expected)
    columns = design(features, model.mean, model.scale)

    def loss(parameters):
        p = 1 / (1 + np.exp(-(columns @ parameters[:-1] + parameters[-1])))
        return -np.sum(weight * np.where(real, np.log(p), np.log(1 - p))) + 0.5 * PENALTY * np.sum(parameters[:-1] ** 2)

    mine = np.append(model.weights, model.offset)
    assert np.abs(approx_fprime(mine, loss)).max() < 0.05
    judge = minimize(loss, np.zeros(2 * K + 1), method="BFGS")
    assert loss(mine) == pytest.approx(judge.fun, abs=1e-3)
    assert mine == pytest.approx(judge.x, abs=0.02)
    again = train_score(features, real, "v", np.zeros(real.size, np.int64), limits={})
    assert np.array_equal(model.weights, again.weights)


def test_what_speaks_against_a_source_may_not_raise_the_score():
    features, _ = a_training_set()
    k = FEATURES.index("dipole_fraction")
    odds = 1.5 * features[:, FEATURES.index("log_snr")] + features[:, k] + 0.5 * features[:, k] ** 2
    real = np.random.default_rng(5).random(len(odds)) < 1 / (1 + np.exp(-odds))
    free, limited = (train_score(features, real, "v", **more).weights for more in ({"limits": {}}, {}))
    assert free[k] > 0.5 and free[K + k] > 0.2 and free[0] > 1.0
    assert limited[k] <= 0.0 and limited[K + k] <= 0.0 and limited[0] == pytest.approx(1.0) and limited[K] == 0.0


def test_confusion_and_reliability_count_what_was_kept():
    model = ScoreModel("v", np.zeros(K), np.ones(K), np.eye(1, 2 * K)[0], 0.0)
    p = np.array([0.1, 0.15, 0.5, 0.55, 0.9, 0.95])
    features = np.zeros((6, K))
    features[:, 0] = np.log(p / (1 - p))
    features[:, FEATURES.index("noise_exponent")] = [13.0, 20.0, 20.0, 20.0, 20.0, 13.0]
    real = np.array([False, False, True, False, True, True])
    result = confusion(model, features, real, 0.52)
    assert (result.real_kept, result.bogus_kept) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (result.n_real, result.n_bogus, result.threshold) == (3, 3, 0.52)
    assert np.isnan(confusion(model, features[real], real[real], 0.5).bogus_kept)
    rows = reliability(model, features, real, bins=2)
    # weights: one each, but 1.5 of the faint bogus one; 0.5 is in the upper bin
    assert [row["n"] for row in rows] == [2, 4]
    assert rows[0]["score"] == pytest.approx((1.5 * 0.1 + 0.15) / 2.5) and rows[0]["share_real"] == 0.0
    assert rows[1]["score"] == pytest.approx(p[2:].mean()) and rows[1]["share_real"] == pytest.approx(0.75)
    certain = np.zeros((1, K))
    certain[0, 0] = 5.0
    strong = ScoreModel("v", np.zeros(K), np.ones(K), 100 * np.eye(1, 2 * K)[0], 0.0)
    assert reliability(strong, certain, np.array([True]))[0]["score"] == pytest.approx(1.0)  # one belongs to the last


def test_what_is_shipped_of_a_model_has_six_digits_and_its_reliability_three():
    model = ScoreModel("v7", np.full(K, 1.23456789), np.ones(K), np.full(2 * K, -2.3456789e-4), 0.123456789)
    content = model_content(model, "how", [{"score": 0.123456, "n": 123}])
    assert (content["version"], content["recipe"], content["offset"]) == ("v7", "how", 0.123457)
    assert content["mean"] == [1.23457] * K and content["weights"] == [-2.34568e-4] * (2 * K)
    assert content["reliability"] == [{"score": 0.123, "n": 123.0}]
