"""Deferred charge, afterglows, columns that switch and losses at low light, against what their definitions say."""

import numpy as np
import pytest
from detector_frames import rng

from imaging.detector.ccds import CCDS
from imaging.simulation.calibrations import true_linearity
from imaging.simulation.camera import linearity_table
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.skies import NO_EFFECTS
from imaging.simulation.stray_charge import (
    LOW_LIGHT_ADU,
    RELEASED,
    add_afterglows,
    defer_charge,
    switch_columns,
    switching_columns,
)

NORTH, SOUTH = CCDS[33], CCDS[27]


@pytest.mark.parametrize("ccd", [NORTH, SOUTH], ids=["N", "S"])
def test_a_tail_of_deferred_charge_points_away_from_the_register_and_grows_with_the_transfers(ccd):
    share, charge = 1e-6, 1e5
    image = np.zeros((ccd.ny, 8), dtype=np.float32)
    rows = [100, 2000, 4000]
    for k, row in enumerate(rows):
        image[row, 2 * k] = charge
    defer_charge(image, ccd, share)
    step = 1 if ccd.a_is_left else -1
    for k, row in enumerate(rows):
        transfers = row + 1 if ccd.a_is_left else ccd.ny - row
        lost = charge * share * transfers
        column = image[:, 2 * k].astype(float)
        assert column[row] == pytest.approx(charge - lost, abs=0.02)
        tail = [column[row + step * n] for n in (1, 2, 3)]
        assert tail == pytest.approx([lost * RELEASED * (1 - RELEASED) ** n for n in range(3)], rel=0.02)
        assert column[row - step] == 0.0
        assert column.sum() == pytest.approx(charge, rel=1e-5)
    assert not image[:, 1].any()


def test_afterglows_are_as_many_as_said_faint_and_with_their_noise():
    image = np.zeros((4096, 2048), dtype=np.float32)
    add_afterglows(image, 30.0, rng(2))
    lit = image != 0
    assert 0.001 < lit.mean() < 0.03
    assert np.quantile(image[lit], 0.999) < 10**1.8 + 4 * 10**0.9
    assert image.sum() / 30.0 > 300.0
    light = np.zeros(200)
    for seed in range(200):
        some = np.zeros((256, 256), dtype=np.float32)
        add_afterglows(some, 1.0, rng(seed))
        light[seed] = some.sum()
    assert np.mean(light == 0) == pytest.approx(np.exp(-1.0), abs=4 * np.sqrt(0.25 / 200))


@pytest.mark.parametrize("ccd", [NORTH, SOUTH], ids=["N", "S"])
def test_columns_switch_between_two_states_away_from_the_register(ccd):
    columns = switching_columns(61, ccd, 12.0)
    assert len(columns.column) == len(switching_columns(61, ccd, 12.0).column) > 3
    bias = np.zeros((ccd.ny, 2048), dtype=np.float32)
    states = np.array([switch_columns(bias, columns, rng(seed))[ccd.ny // 2] for seed in range(100)])
    for x, y0, y1, level in zip(columns.column, columns.first_row, columns.last_row, columns.level_adu, strict=True):
        assert (y1 == ccd.ny - 1) if ccd.a_is_left else (y0 == 0)
        if not y0 <= ccd.ny // 2 <= y1 or np.sum(columns.column == x) > 1:
            continue
        assert set(np.unique(states[:, x])) == {np.float32(0.0), np.float32(level)}
        assert np.mean(states[:, x] > 0) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 100))
    assert not np.delete(states, columns.column, axis=1).any()


def test_low_light_is_lost_beyond_the_table_that_the_library_states():
    settings = SimulationSettings(effects=NO_EFFECTS.with_values(low_light_loss=0.004))
    measured, linear = true_linearity(settings, 33)
    for name, stated in linearity_table(settings.camera_seed, NORTH).items():
        lost = linear[name] - stated
        assert lost == pytest.approx(0.004 * measured * np.exp(-measured / LOW_LIGHT_ADU), abs=1e-9)
        assert (np.diff(linear[name]) > 0).all()
        assert lost[measured > 5000.0].max() < 1e-5
