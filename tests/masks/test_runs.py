"""Connected groups against scipy's label image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from imaging.numerics.runs import find_runs


def groups(runs):
    found = set()
    for members in runs.members() if runs.n_groups else []:
        pixels = set()
        for i in members:
            pixels |= {(int(runs.y[i]), x) for x in range(runs.x0[i], runs.x1[i])}
        found.add(frozenset(pixels))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6))
def test_groups_are_those_of_eight_connectivity(seed, share):
    flags = np.random.default_rng(seed).random((23, 31)) < share
    labels, n = label(flags, structure=np.ones((3, 3)))
    expected = {frozenset(map(tuple, np.argwhere(labels == k).tolist())) for k in range(1, n + 1)}
    assert groups(find_runs(flags.astype(np.int16) * 6, 4)) == expected


@pytest.mark.parametrize(("gap", "n_groups"), [(2, 1), (3, 2)])
def test_reach_joins_what_is_near(gap, n_groups):
    mask = np.zeros((1, 20), np.int16)
    mask[0, 5] = mask[0, 5 + gap] = 1
    assert find_runs(mask, 1, reach=2).n_groups == n_groups


def test_an_empty_mask_has_no_groups():
    runs = find_runs(np.zeros((4, 4), np.int16), 1)
    assert runs.n_groups == 0
    assert runs.y.size == 0
