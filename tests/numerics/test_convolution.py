"""Convolutions agree with those of SciPy, to rounding."""

from typing import Literal

import numpy as np
import pytest
from scipy.signal import convolve2d

from imaging.numerics.convolution import convolve


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("shapes", [((31, 24), (7, 5)), ((9, 9), (9, 9)), ((12, 40), (4, 1))])
def test_as_the_direct_sum(
    mode: Literal["full", "same", "valid"], shapes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    rng = np.random.default_rng(1)
    image, kernel = (rng.normal(size=shape) for shape in shapes)
    expected = convolve2d(image, kernel, mode=mode)
    found = convolve(image, kernel, mode)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())
