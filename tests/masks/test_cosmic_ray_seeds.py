"""The pixels from which cosmic rays grow, against the rule written out for one pixel at a time."""

import numpy as np
import pytest

from imaging.masks.cosmic_rays import _find_steep, _is_steep, sharpest_drops

DROPS = sharpest_drops(3.0)
MASKED, FULL = 1, 2
PAIRS = [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2), (2, -2)]


def is_steep(science, weight, y, x, threshold):
    """Excess of the scaled centre over the mean of a pair, in units of its noise, for any of the eight pairs."""
    for dy, dx in PAIRS:
        one, two = (y + dy, x + dx), (y - dy, x - dx)
        if weight[one] <= 0 or weight[two] <= 0:
            continue
        drop = float(DROPS[2 * (max(abs(dy), abs(dx)) - 1) + (dy != 0 and dx != 0)])
        excess = drop * science[y, x] - (science[one] + science[two]) / 2
        centre = drop**2 * (1 / weight[y, x] + science[y, x])
        pair = (1 / weight[one] + max(science[one], 0) + 1 / weight[two] + max(science[two], 0)) / 4
        if excess > threshold * np.sqrt(centre + pair):
            return True
    return False


def seeds_of(science, weight, mask, minimum, gradient):
    found = []
    for y in range(2, science.shape[0] - 2):
        for x in range(2, science.shape[1] - 2):
            value, w = science[y, x], weight[y, x]
            if w <= 0 or value <= minimum * np.sqrt(1 / w + max(value, 0)) or mask[y, x] & MASKED:
                continue
            near = mask[y - 2 : y + 3, x - 2 : x + 3]
            if is_steep(science, weight, y, x, gradient) and not (near & FULL).any():
                found.append((y, x))
    return found


def find(science, weight, mask, minimum, gradient):
    state = np.zeros(science.shape, np.uint8)
    return _find_steep(science, weight, mask, MASKED, FULL, DROPS, minimum, gradient, state), state


@pytest.mark.parametrize(("minimum", "gradient", "least"), [(3.0, 2.0, 20), (0.3, 0.2, 2100)])
def test_seeds_are_those_of_the_rule_in_the_order_of_rows(minimum, gradient, least):
    """More than 2048 at low thresholds, so that the list grows twice."""
    random = np.random.default_rng(11)
    science = (
        random.normal(size=(90, 110)).astype(np.float32) * 3 + random.exponential(1.0, (90, 110)).astype("f4") ** 3
    )
    weight = random.uniform(0.02, 0.4, science.shape).astype(np.float32)
    weight[random.random(science.shape) < 0.02] = 0.0
    mask = np.where(random.random(science.shape) < 0.05, MASKED, 0).astype(np.int16)
    mask[random.random(science.shape) < 0.005] |= FULL
    expected = seeds_of(science.astype(float), weight.astype(float), mask, minimum, gradient)
    assert len(expected) > least
    found, state = find(science, weight, mask, minimum, gradient)
    assert [tuple(place) for place in found.tolist()] == expected
    assert np.array_equal(np.argwhere(state == 1), found) and (state != 1).sum() == state.size - len(expected)


def test_nothing_is_found_in_an_even_frame():
    science, weight, mask = np.full((9, 9), 7, "f4"), np.ones((9, 9), "f4"), np.zeros((9, 9), np.int16)
    assert find(science, weight, mask, 0.1, 1.0)[0].shape == (0, 2)


def test_a_pixel_exactly_at_the_minimum_is_no_seed():
    science, weight, mask = np.zeros((9, 9), "f4"), np.full((9, 9), 0.5, "f4"), np.zeros((9, 9), np.int16)
    science[4, 4] = 2.0  # 2^2 = 1^2 (1 / 0.5 + 2)
    assert len(find(science, weight, mask, 1.0, 0.1)[0]) == 0
    assert find(science, weight, mask, 0.999, 0.1)[0].tolist() == [[4, 4]]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("unequal", ["weights", "signals"])
def test_both_pixels_of_each_pair_add_their_own_noise(pair, sign, unequal):
    """Only the pair has weight; one of its pixels is noisier than the other, or brighter."""
    science, weight = np.zeros((9, 9), "f4"), np.zeros((9, 9), "f4")
    one, two = (4 + sign * pair[0], 4 + sign * pair[1]), (4 - sign * pair[0], 4 - sign * pair[1])
    science[4, 4], weight[4, 4], weight[one], weight[two] = 100.0, 1.0, 1.0, 1.0
    drop = float(DROPS[2 * (max(map(abs, pair)) - 1) + all(pair)])
    if unequal == "weights":
        weight[one] = 0.01
    else:
        science[one] = 0.4 * 100.0 * drop
    noise = np.sqrt(drop**2 * 101.0 + (1 / weight[one] + science[one] + 1.0) / 4)
    significance = (drop * 100.0 - science[one] / 2) / noise
    for threshold, steep in ((0.99 * significance, True), (1.01 * significance, False)):
        assert _is_steep(science, weight, 4, 4, DROPS, threshold) == steep
