"""Probability to be real from the scores of fakes: drawn mixtures of known composition."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.reliability import MIN_FAKES, probability_real

FAINT, BRIGHT = 6.0, 30.0


def table(score, snr, **columns):
    """Return the columns that the calibration reads."""
    return pa.table({"real_score": pa.array(score, type=pa.float32()), "snr": np.full(len(score), snr), **columns})


def fakes(score, snr):
    return table(score, snr, passed=np.ones(len(score), dtype=bool))


def real_scores(rng, n):
    return rng.beta(9.0, 1.0, n)


def mixture(rng, n_real, n_bogus, bogus=(2.0, 3.0)):
    """Return scores of real and of bogus detections, and which are real."""
    score = np.append(real_scores(rng, n_real), rng.beta(*bogus, n_bogus))
    return score, np.arange(len(score)) < n_real


@pytest.mark.parametrize(("n_real", "n_bogus"), [(1000, 1000), (1000, 10_000), (5000, 500)])
def test_nine_in_ten_are_real_where_the_probability_is_nine_tenths(n_real, n_bogus):
    rng = np.random.default_rng(n_bogus)
    score, real = mixture(rng, n_real, n_bogus)
    chance = probability_real(table(score, BRIGHT), fakes(real_scores(rng, 5000), BRIGHT))
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1.0)):
        within = (chance >= low) & (chance <= high)
        if within.sum() > 100:
            error = np.sqrt(within.sum() * 0.25) / within.sum()
            # detections with the highest scores are taken for real: with ten times as many bogus ones, a tenth are not
            assert chance[within].mean() == pytest.approx(real[within].mean(), abs=3.0 * error + 0.1)


def test_the_score_alone_does_not_know_how_many_are_bogus():
    """Ten bogus ones for a real one: of those with a score of 0.7, one in a hundred is real."""
    rng = np.random.default_rng(3)
    score, real = mixture(rng, 300, 3000)
    chance = probability_real(table(score, BRIGHT), fakes(real_scores(rng, 3000), BRIGHT))
    within = (score > 0.6) & (score < 0.7)
    assert real[within].mean() < 0.15
    assert chance[within].mean() < 0.2
    assert chance[score > 0.97].mean() > 0.9


def test_faint_sources_are_compared_with_faint_fakes():
    rng = np.random.default_rng(4)
    faint, bright = rng.uniform(0.2, 1.0, 8000), rng.uniform(0.95, 1.0, 400)
    ours = pa.concat_tables([table(faint, FAINT), table(np.append(bright, [0.5, 0.5, 0.5]), BRIGHT)])
    theirs = pa.concat_tables([fakes(rng.uniform(0.2, 1.0, 1000), FAINT), fakes(rng.uniform(0.95, 1.0, 1000), BRIGHT)])
    chance = probability_real(ours, theirs)
    assert chance[:8000][faint < 0.5].mean() > 0.9, "a faint real source has such a score"
    assert (chance[-3:] < 0.7).all(), (
        "one bright fake in a hundred has one below 0.955, and there are as many detections"
    )


def test_few_fakes_say_nothing_and_few_detections_little():
    rng = np.random.default_rng(5)
    score = np.array([0.3, 0.95])
    few = fakes(real_scores(rng, MIN_FAKES - 1), BRIGHT)
    assert probability_real(table(score, BRIGHT), few) == pytest.approx(score, abs=1e-6)
    rejected = table(real_scores(rng, 1000), BRIGHT, passed=np.zeros(1000, dtype=bool))
    assert probability_real(table(score, BRIGHT), rejected) == pytest.approx(score, abs=1e-6)
    one = probability_real(table([0.99], BRIGHT), fakes(real_scores(rng, 1000), BRIGHT))
    assert one[0] > 0.98


def test_of_the_highest_scores_the_lower_ones_are_less_probable():
    """Six in ten fainter fakes have scores above 0.7: two detections of 0.77 and 0.98 are not both certain."""
    rng = np.random.default_rng(6)
    theirs = fakes(rng.uniform(0.55, 1.0, 1000), FAINT)
    assert probability_real(table([0.77, 0.98], FAINT), theirs) == pytest.approx([0.77, 0.98], abs=1e-6)


def test_a_handful_of_detections_moves_a_probability_by_less_than_the_score_errs():
    """Four of a score that one fake in a hundred has say little; four hundred say that most are bogus."""
    rng = np.random.default_rng(7)
    theirs, high = fakes(real_scores(rng, 1000), BRIGHT), np.full(10, 0.99)
    chance = [probability_real(table(np.append(high, np.full(n, 0.6)), BRIGHT), theirs)[-1] for n in (4, 400)]
    assert chance[0] == pytest.approx(0.6, abs=0.09)
    assert chance[1] < 0.1


def test_unknown_scores_and_empty_nights():
    many = fakes(np.linspace(0.5, 1.0, 100), BRIGHT)
    found = probability_real(table([None, 0.9], BRIGHT), many)
    assert np.isnan(found[0]) and np.isfinite(found[1])
    assert len(probability_real(table([], BRIGHT), many)) == 0
    negative = probability_real(table([0.9], -BRIGHT), many)
    assert negative == pytest.approx(probability_real(table([0.9], BRIGHT), many)), "fading sources as rising ones"
