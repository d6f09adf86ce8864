"""The ideal Gaussian process: the true covariance is that of the drawn turbulence, and no prediction is better."""

import numpy as np
import pytest

from bench.ideal_astrometry import ideal_errors_mas, true_covariance
from bench.sky_astrometry import rms_per_axis
from imaging.simulation.atmosphere import turbulence_arcsec
from imaging.simulation.exposures import TurbulenceTruth

RNG = np.random.default_rng(3)


def drawn_mas(seed, places):
    truth = TurbulenceTruth(seed=(seed, 1), rms_mas=10.0, wind_deg=30.0)
    return 1000.0 * np.stack(turbulence_arcsec(truth, places[:, 0], places[:, 1]))


def test_covariance_is_that_of_drawn_fields():
    start = RNG.uniform(-1.0, 1.0, (3000, 2))
    truth = TurbulenceTruth(rms_mas=10.0, wind_deg=30.0)
    for step in ((0.0, 0.0), (0.04, 0.0), (0.03, -0.05)):
        products = [
            np.einsum("in,jn->ij", drawn_mas(seed, start), drawn_mas(seed, start + step)) / 3000 for seed in range(6)
        ]
        expected = true_covariance(truth, np.zeros((1, 2)), np.array([step]))
        assert np.mean(products, axis=0) == pytest.approx(expected, abs=12.0)


def test_few_noisy_stars_leave_more_than_many_good_ones():
    truth = TurbulenceTruth(rms_mas=10.0, wind_deg=30.0)
    stars, wanted = RNG.uniform(-0.1, 0.1, (150, 2)), RNG.uniform(-0.1, 0.1, (40, 2))
    one, there = np.ones(150, dtype=np.int64), np.ones(40, dtype=np.int64)
    many = ideal_errors_mas(truth, stars, one, np.full((150, 2), 1.0), wanted, there)
    noisy = ideal_errors_mas(truth, stars, one, np.full((150, 2), 10.0), wanted, there)
    few = ideal_errors_mas(truth, stars[:20], one[:20], np.full((20, 2), 10.0), wanted, there)
    assert rms_per_axis(np.stack([many, many])) < 2.5
    assert (many < noisy).all()
    assert (noisy < few).all()
    assert few.max() < 15.0
