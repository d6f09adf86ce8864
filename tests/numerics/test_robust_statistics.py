"""Robust statistics against scipy and astropy, rings against numpy, widths against the Gaussian itself."""

import numpy as np
import pytest
from astropy.stats import SigmaClip, gaussian_fwhm_to_sigma, mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation, norm, truncnorm

from imaging.numerics.gaussian import FWHM_TO_SIGMA
from imaging.numerics.rings import FEWEST, ring_medians
from imaging.numerics.robust import MAD_TO_SIGMA, clipped, clipped_mean, finite_median, mad_sigma, weighted_median
from imaging.numerics.runs import find_runs

SEEDS = st.integers(0, 2**32 - 1)


def test_a_gaussian_is_half_as_high_half_a_width_off():
    assert pytest.approx(gaussian_fwhm_to_sigma, rel=1e-14) == FWHM_TO_SIGMA
    assert norm.pdf(0.5, scale=FWHM_TO_SIGMA) / norm.pdf(0.0, scale=FWHM_TO_SIGMA) == pytest.approx(0.5)
    assert 1.0 / norm.ppf(0.75) == pytest.approx(MAD_TO_SIGMA, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 200))
def test_the_median_deviation_is_that_of_scipy(seed, n):
    values = np.random.default_rng(seed).standard_t(2, n) * 7 + 3
    assert mad_sigma(values) == pytest.approx(median_abs_deviation(values, scale="normal"), rel=1e-12)
    assert mad_sigma(values.tolist()) == pytest.approx(mad_std(values), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 60))
def test_the_weighted_median_is_that_of_repeated_values(seed, n):
    random = np.random.default_rng(seed)
    values, counts = random.normal(size=n), random.integers(0, 6, n)
    counts[0] += 1
    repeated = np.sort(np.repeat(values, counts))
    # The lower one of the middle pair.
    assert weighted_median(values, counts) == repeated[(repeated.size - 1) // 2]
    assert weighted_median(values, 0.25 * counts) == repeated[(repeated.size - 1) // 2]


def test_an_empty_sample_has_no_statistics():
    for value in (mad_sigma([]), weighted_median([], []), finite_median([]), finite_median([None, float("nan")])):
        assert np.isnan(value)
    mean, width, n = clipped_mean([float("nan"), float("inf")])
    assert (np.isnan(mean), np.isnan(width), n) == (True, True, 0)
    assert clipped([]).size == 0
    assert finite_median([None, 3.0, float("inf"), 1.0, 8.0]) == 3.0


@pytest.mark.parametrize("n_sigma", [2.0, 2.5, 3.0, 4.0])
def test_the_width_of_a_clipped_gaussian_is_that_before_clipping(n_sigma):
    """A Gaussian that is cut at k sigma is narrower (scipy.stats.truncnorm); the statistic corrects for that."""
    n = 40_000
    values = np.random.default_rng(1).normal(5.0, 3.0, n)
    mean, width, kept = clipped_mean(values, n_sigma)
    assert width == pytest.approx(3.0, rel=4 / np.sqrt(2 * n) * 3)
    assert mean == pytest.approx(5.0, abs=4 * 3.0 / np.sqrt(n))
    assert kept / n == pytest.approx(1 - 2 * norm.sf(n_sigma), abs=4 * np.sqrt(norm.sf(n_sigma) / n) + 0.003)
    inside = values[clipped(values, n_sigma)]
    assert width == pytest.approx(inside.std() / truncnorm(-n_sigma, n_sigma).std(), rel=1e-9)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_outliers_go_and_the_width_of_the_rest_stays(share):
    random = np.random.default_rng(2)
    n = 5000
    values = random.normal(-2.0, 0.5, n)
    bad = random.random(n) < share
    values[bad] += random.uniform(8, 200, bad.sum())
    values[:3] = np.nan, np.inf, -np.inf
    keep = clipped(values)
    assert not keep[:3].any()
    assert not (keep & bad).any()
    theirs = SigmaClip(3.0, maxiters=10, stdfunc=mad_std)(values[3:], masked=True)
    # astropy clips by the deviation of the median in every round: a few of the values at three sigma differ.
    assert np.mean(keep[3:] != ~theirs.mask) < 0.004
    mean, width, _ = clipped_mean(values)
    assert mean == pytest.approx(-2.0, abs=4 * 0.5 / np.sqrt(n))
    assert width == pytest.approx(0.5, rel=0.05)


def test_values_that_agree_are_all_kept_with_what_is_exactly_at_the_limit():
    assert clipped([4.0, 4.0, 4.0, 9.0]).all()  # more than half agree: a width of zero clips nothing
    # Median 0, deviation 1.4826: five and a half times is out, three times just in.
    values = np.array([-1.0, -1.0, 0.0, 0.0, 1.0, 1.0, 3 * MAD_TO_SIGMA, -3 * MAD_TO_SIGMA])
    assert clipped(values, 3.0, max_iterations=1).all()
    assert clipped(values * [1, 1, 1, 1, 1, 1, 1.001, 1], 3.0, max_iterations=1).tolist() == [True] * 6 + [False, True]


def ring(image, usable, x, y, inner, outer):
    j, i = np.indices(image.shape)
    r = np.hypot(i - x, j - y)
    values = image[(r > inner) & (r <= outer) & usable]
    return np.median(values) if values.size >= FEWEST else 0.0


@pytest.mark.parametrize(("inner", "outer"), [(6.0, 14.0), (0.5, 5.0), (9.7, 12.1)])
def test_rings_have_the_median_of_numpy_up_to_the_border(inner, outer):
    random = np.random.default_rng(3)
    image = random.normal(100, 30, (70, 83)).astype(np.float32)
    usable = random.random(image.shape) > 0.3
    x, y = random.uniform(-4, 87, 60), random.uniform(-4, 74, 60)
    x[:4], y[:4] = (0, 82, 40.5, 41), (0, 69, 30.5, 30)
    expected = [ring(image, usable, a, b, inner, outer) for a, b in zip(x, y, strict=True)]
    assert ring_medians(image, usable, x, y, inner, outer) == pytest.approx(expected, abs=1e-4)
    assert np.any(np.array(expected) > 0)


@pytest.mark.parametrize(("n", "known"), [(FEWEST - 1, False), (FEWEST, True)])
def test_a_ring_of_fewer_than_fifty_pixels_says_nothing(n, known):
    usable = np.zeros((61, 61), bool)
    j, i = np.indices(usable.shape)
    inside = np.flatnonzero((np.hypot(i - 30, j - 30) > 5) & (np.hypot(i - 30, j - 30) <= 15))
    usable.reshape(-1)[inside[:n]] = True
    found = ring_medians(np.full(usable.shape, 7.0, np.float32), usable, np.array([30.0]), np.array([30.0]), 5.0, 15.0)
    assert found[0] == (7.0 if known else 0.0)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_runs_hold_the_flagged_pixels_in_order_and_no_others(seed):
    mask = (np.random.default_rng(seed).random((11, 19)) < 0.4).astype(np.int16) * 5
    mask[:, -1] |= 4  # a run that ends with the row
    runs = find_runs(mask, 4)
    drawn = np.zeros(mask.shape, bool)
    for y, x0, x1 in zip(runs.y, runs.x0, runs.x1, strict=True):
        assert x0 < x1
        assert not drawn[y, x0:x1].any()
        assert x1 == mask.shape[1] or not mask[y, x1] & 4
        drawn[y, x0:x1] = True
    assert np.array_equal(drawn, (mask & 4) != 0)
    assert np.all(np.diff(runs.y * 1000 + runs.x0) > 0)
    first = [runs.group.tolist().index(k) for k in range(runs.n_groups)]
    assert first == sorted(first)
    assert sorted(np.concatenate(runs.members())) == list(range(runs.y.size))


@pytest.mark.parametrize(
    ("dy", "dx", "reach", "n"), [(3, 0, 3, 1), (4, 0, 3, 2), (3, 3, 3, 1), (2, 4, 3, 2), (1, 1, 1, 1)]
)
def test_a_reach_counts_along_both_axes(dy, dx, reach, n):
    for sign in (-1, 1):
        mask = np.zeros((12, 20), np.int16)
        mask[2, 10] = mask[2 + dy, 10 + sign * dx] = 2
        assert find_runs(mask, 2, reach=reach).n_groups == n
