"""Stable periods: a jump of bias or flat starts one, a night by itself does not, a slow drift does in the end."""

import numpy as np
import pytest

from imaging.masters.periods import Jump, find_jumps, spread, stable_periods
from imaging.masters.settings import EraSettings

SETTINGS = EraSettings()
NIGHTS = [20230828, 20230830, 20230903, 20230910, 20230911, 20230920]


def signatures(levels, noise=0.1):
    """Return nights of two CCDs of 128 blocks; the second half of CCD 34 has the levels."""
    random, found = np.random.default_rng(4), {}
    for night, level in levels.items():
        blocks = {ccd: random.normal(0.0, noise, 128) for ccd in (33, 34)}
        blocks[34][64:] += level
        found[night] = blocks
    return found


def jumps_of(*levels):
    return find_jumps("bias", signatures(dict(zip(NIGHTS, levels, strict=True))), 1.0, SETTINGS)


def test_alike_nights_are_one_period():
    assert jumps_of(0, 0.1, -0.1, 0.2, 0, 0) == ([], {})


def test_a_jump_that_stays():
    jumps, left_out = jumps_of(0, 0, 0, 2.5, 2.4, 2.6)
    assert [(j.kind, j.before, j.after, j.ccd) for j in jumps] == [("bias", 20230903, 20230910, 34)]
    assert jumps[0].amount == pytest.approx(2.5, abs=0.25)
    assert left_out == {}


def test_a_night_by_itself_is_left_out():
    jumps, left_out = jumps_of(0, 0, 9.0, 0, 0, 0)
    assert jumps == []
    assert left_out.keys() == {20230903}


def test_there_and_back_for_two_nights_are_two_jumps():
    jumps, left_out = jumps_of(0, 0, 9.0, 9.0, 0, 0)
    assert [(j.before, j.after) for j in jumps] == [(20230830, 20230903), (20230910, 20230911)]
    assert left_out == {}


def test_a_drift_is_divided_when_it_is_as_large_as_a_jump():
    jumps, left_out = jumps_of(0, 0.4, 0.8, 1.2, 1.6, 2.0)
    assert len(jumps) == 1
    assert left_out == {}


def test_a_hot_column_is_no_jump():
    nights = signatures(dict.fromkeys(NIGHTS, 0.0))
    for night in NIGHTS[3:]:
        nights[night][33][:8] += 50.0
    assert find_jumps("bias", nights, 1.0, SETTINGS) == ([], {})


def test_jumps_of_one_event_are_one_boundary_and_the_nights_between_go_to_the_nearer():
    jumps = [
        Jump("bias", 20230903, 20230910, 34, 2.5),
        Jump("flat i", 20230830, 20230911, 34, 0.02),
        Jump("bias", 20231001, 20231002, 33, 3.0),
    ]
    periods = stable_periods(20230801, 20240131, jumps)
    assert [(p.first_night, p.last_night) for p in periods] == [
        (20230801, 20230906),
        (20230907, 20231001),
        (20231002, 20240131),
    ]
    assert [len(p.why) for p in periods] == [0, 2, 1]
    assert periods[1].why[0] == "bias of CCD 34 changed by 2.5 ADU between 20230903 and 20230910"
    assert periods[1].why[1] == "flat i of CCD 34 changed by 2.0% between 20230830 and 20230911"


def test_frames_are_spread_over_a_period():
    assert spread(range(5), 20) == [0, 1, 2, 3, 4]
    chosen = spread(range(100), 20)
    assert len(set(chosen)) == 20
    assert (chosen[0], chosen[-1]) == (0, 99)
