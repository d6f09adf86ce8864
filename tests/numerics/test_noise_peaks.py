"""The number of peaks of noise against simulated fields."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

from imaging.numerics.noise_peaks import SIGMA, curvature_of, exceeded, noise_peaks


def gaussian(fwhm):
    """Curvature of noise that a Gaussian PSF has filtered."""
    return 4.0 * np.log(2.0) / fwhm**2


def test_the_curvature_of_noise_is_that_of_the_filter():
    y, x = np.mgrid[-20:21, -20:21]
    assert curvature_of(np.exp(-4 * np.log(2) * (x**2 + y**2) / 4.0**2)) == pytest.approx(gaussian(4.0), rel=1e-3)
    moffat = (1 + (x**2 + y**2) * (2 ** (1 / 2.5) - 1) / 2.0**2) ** -2.5
    assert curvature_of(moffat) == pytest.approx(0.75 * gaussian(4.0), rel=0.05)


@pytest.mark.parametrize("fwhm", [3.5, 5.0])
def test_simulated_noise_has_the_stated_number_of_peaks(fwhm):
    side, threshold = 1400, 3.5
    rng = np.random.default_rng(5)
    counts = []
    for _ in range(3):
        field = gaussian_filter(rng.normal(size=(side, side)), fwhm / 2.3548, mode="wrap")
        field /= field.std()
        counts.append(np.count_nonzero((field == maximum_filter(field, 3, mode="wrap")) & (field > threshold)))
    expected = noise_peaks(side**2, gaussian(fwhm), threshold)
    assert np.mean(counts) == pytest.approx(expected, rel=0.05 + 3 / np.sqrt(3 * expected))


def test_the_threshold_is_exceeded_as_often_as_it_says():
    peaks = noise_peaks(2046 * 4094, 0.75 * gaussian(1.1 / 0.2637))
    assert peaks == pytest.approx(0.93, abs=0.01), "a CCD of usual seeing"
    found = float(exceeded(np.array([peaks]), 0.1)[0])
    assert found == pytest.approx(5.44, abs=0.01)
    assert noise_peaks(2046 * 4094, 0.75 * gaussian(1.1 / 0.2637), found) == pytest.approx(0.1, rel=0.1)


def test_extreme_numbers_give_a_threshold():
    found = exceeded(np.array([1.0, 0.0, 1.0, 1e6]), 1.0)
    assert found[0] == pytest.approx(SIGMA)
    assert 1.0 < found[1] < 1.2
    assert 6.5 < found[3] < 8.0
    assert exceeded(np.array([1.0]), 1e12)[0] < 1.2
