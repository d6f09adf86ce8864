"""Clouds left in search and templates after both were corrected by their reference stars: whose are they?

Drawn many times: fields left in the search image and in the template, of which the difference sees the ratio.
"""

from dataclasses import replace

import numpy as np
import pytest

from imaging.difference.clouds import LEAST_ERROR, correct_search
from imaging.difference.pair import Pair, Side
from imaging.difference.records import Matched
from imaging.difference.registration import no_shift_field
from imaging.photometry.transparency import Transparency

SHAPE = (640, 512)
NODES = SHAPE[0] // 64 + 2, SHAPE[1] // 64 + 2
SIGN = np.where(np.arange(NODES[0]) < NODES[0] / 2, 1.0, -1.0)[:, None] * np.ones(NODES)
"""More light on one half, less on the other: the mean belongs to the zero points."""


def side(error):
    ones = np.ones(SHAPE, np.float32)
    return Side(ones, np.zeros(SHAPE, np.int16), ones, 1.0, 1e5, None, error)


def difference_of(excess, search_error, template_error, error=0.0):
    """Return a difference of flux 1000 everywhere after the correction, and its pair."""
    shifts = no_shift_field(SHAPE)
    if excess is not None:
        shifts = replace(shifts, transparency=Transparency(excess, np.full(NODES, error), 600.0, 0.05, 0.0))
    flux = np.full(SHAPE, 1000.0, np.float32)
    matched = Matched(flux, 2 * flux, None, np.zeros(SHAPE, np.int16), None, None, None, shifts)
    pair = Pair(side(search_error), side(template_error), np.zeros((1, 1, 6, 6), np.float32), 512, None)
    return correct_search(pair, matched)


@pytest.mark.parametrize(("search", "template"), [(0.03, 0.01), (0.02, 0.02), (0.0, 0.03), (0.04, 0.0)])
def test_the_error_left_is_the_stated_one(search, template):
    """A new source of 1000 electrons behind what is left in the search image."""
    rng, pulls, errors = np.random.default_rng(int(1000 * search)), [], []
    for _ in range(400):
        s, t = (float(rng.normal(0.0, np.hypot(error, LEAST_ERROR))) for error in (search, template))
        _, matched = difference_of((1.0 + s * SIGN) / (1.0 + t * SIGN) - 1.0, search, template)
        flux = float(matched.image[100, 100]) * (1.0 + s)
        pulls.append((flux / 1000.0 - 1.0) / matched.transparency_error)
        errors.append(flux / 1000.0 - 1.0)
    assert np.std(pulls) == pytest.approx(1.0, abs=3.0 / np.sqrt(800.0))
    assert np.std(errors) < 1.15 * np.hypot(min(search, template), LEAST_ERROR)


def test_brightness_and_weight_change_together_and_the_field_has_an_error_too():
    pair, matched = difference_of(0.1 * SIGN, 0.05, 0.0, error=0.02)
    for row, excess in ((7, 0.1), (600, -0.1)):
        factor = float(matched.image[row, 9]) / 1000.0
        assert factor == pytest.approx((1.0 + excess) ** -0.99, rel=2e-3)
        assert matched.model[row] == pytest.approx(2000.0 * factor)
        for one in (pair.search, pair.template):
            assert one.weight[row] == pytest.approx(factor**-2, rel=1e-4)
    assert matched.transparency_error == pytest.approx(np.hypot(LEAST_ERROR, 0.02), rel=0.02)


def test_a_common_factor_is_a_matter_of_zero_points():
    _, matched = difference_of(np.full(NODES, 0.05), 0.05, 0.01)
    assert matched.image == pytest.approx(1000.0)


def test_where_the_images_agree_nothing_changes():
    pair, matched = difference_of(None, 0.03, 0.01)
    assert (matched.image == 1000.0).all()
    assert (pair.search.weight == 1.0).all()
    assert matched.transparency_error == 0.03
    assert difference_of(None, 0.0, 0.03)[1].transparency_error == 0.0
