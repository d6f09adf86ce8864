"""What weight maps of other programs say of each pixel."""

import numpy as np
import pytest

from imaging.foreign.weights import inverse_variance


@pytest.mark.parametrize(
    ("power", "good", "bad"),
    [
        (1, 0.25, [0.0, -1.0, np.nan, 1e-30, -1e30]),
        (-1, 4.0, [0.0, -1.0, np.nan, np.inf, 1e10, 1e30]),
        (-2, 2.0, [0.0, -1.0, np.nan, np.inf, 1e5, 1e10, 1e30]),
    ],
)
def test_a_code_for_no_weight_is_no_weight(power, good, bad):
    plane = np.full((40, 50), good, np.float32)
    plane[0, : len(bad)] = bad
    expected = np.full(plane.shape, 0.25)
    expected[0, : len(bad)] = 0.0
    assert np.array_equal(inverse_variance(plane, power), expected)


@pytest.mark.parametrize("power", [-1, -2])
def test_photons_of_a_bright_star_leave_a_weight(power):
    variance = np.array([[25.0, 25.0, 25.0 + 1e5]])
    assert inverse_variance(variance ** (-1 / power), power) == pytest.approx(1 / variance, rel=1e-6)
