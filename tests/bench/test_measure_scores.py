"""Errors in the bench of measuring: of coordinates, of centroids, of blends."""

import numpy as np
import pytest

from bench.measure_scores import MAS_PER_PIXEL, BrightStars, Truth, counterparts


def truth(x, y, flux):
    n = len(x)
    zero, yes = np.zeros(n), np.ones(n, bool)
    return Truth(np.array(x, float), np.array(y, float), zero, zero, zero, np.array(flux, float), yes, ~yes)


@pytest.mark.parametrize(
    ("neighbours", "alone"),
    [
        ([], True),
        ([(3.0, 0.002)], True),
        ([(3.0, 0.01)], False),
        ([(3.0, 0.002), (8.0, 0.5)], False),
        ([(15.0, 2.0)], True),
    ],
    ids=["nobody", "faint", "close", "a bright one behind a faint one", "far"],
)
def test_a_star_is_isolated_if_its_neighbours_are_faint(neighbours, alone):
    x = [100.0, *(100.0 + distance for distance, _ in neighbours)]
    flux = [1e5, *(1e5 * share for _, share in neighbours)]
    pairs = counterparts(truth(x, [50.0] * len(x), flux), np.array([100.2]), np.array([50.1]))
    assert pairs.index[0] == 0 and pairs.same[0]
    assert bool(pairs.alone[0]) is alone


def star_on_a_grid(x, y, true_x, true_y, ra=359.99999):
    error = np.full(1, 0.02)
    values = (np.array([v], float) for v in (true_x, true_y, ra, 0.0, 1e5))
    return BrightStars(np.array([x]), np.array([y]), error, 2 * error, *values)


def straight(x, y):
    """Map pixels to the sky: x to the south, y to the east, one pixel 263 mas, zero point at (100, 100)."""
    scale = MAS_PER_PIXEL / 3.6e6
    return (y - 100.0) * scale % 360.0, -(x - 100.0) * scale


def test_errors_of_coordinates_and_of_positions_are_separated():
    """Positions include photon noise; errors of the coordinates are those at the true positions."""
    star = star_on_a_grid(100.1, 100.0, 100.0, 100.0)
    east_mas = 0.00001 * 3.6e6  # across RA = 0
    assert star.position_errors(straight)[:, 0] == pytest.approx((east_mas, -26.3), abs=1e-3)
    assert star.coordinate_errors(straight, np.zeros((2, 1)))[:, 0] == pytest.approx((east_mas, 0.0), abs=1e-3)
    lopsided = np.array([[0.05], [0.0]])
    assert star.coordinate_errors(straight, lopsided)[:, 0] == pytest.approx((east_mas, -13.15), abs=1e-3)
    assert star.stated_errors()[:, 0] == pytest.approx((0.04 * MAS_PER_PIXEL, 0.02 * MAS_PER_PIXEL))
    assert np.abs(star.centroid_errors()).max() == 0.0, "a constant displacement is a convention"
