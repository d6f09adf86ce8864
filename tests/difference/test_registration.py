"""The residual shift field."""

import numpy as np
import pytest

from imaging.difference.registration import (
    ShiftField,
    SourceShifts,
    apply_shift,
    fit_shift_field,
    measure_shifts,
)
from imaging.difference.settings import RegistrationSettings
from imaging.numerics.robust import excess_scatter

SETTINGS = RegistrationSettings()
SHAPE = (2048, 2048)


def gaussian(dx: float = 0.0, dy: float = 0.0, sigma: float = 1.9, half: int = 15) -> np.ndarray:
    axis = np.arange(-half, half + 1)
    return np.exp(-0.5 * (((axis - dx)[None, :]) ** 2 + ((axis - dy)[:, None]) ** 2) / sigma**2)


def turbulent(n: int, rms: float, length: float, error: float, seed: int = 2) -> tuple[SourceShifts, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n)
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    factor = np.linalg.cholesky(rms**2 * np.exp(-((distance / length) ** 1.5)) + 1e-12 * np.eye(n))
    true = factor @ rng.normal(size=(n, 2))
    noise = rng.normal(0.0, error, (n, 2))
    errors, zero = np.full(n, error), np.zeros(n)
    return SourceShifts(x, y, true[:, 0] + noise[:, 0], true[:, 1] + noise[:, 1], errors, zero, errors), true


def test_shift_and_scale_of_a_stamp_are_measured():
    model = (1e4 * gaussian()).astype(np.float32).reshape(1, -1)
    target = (1.02e4 * gaussian(0.06, -0.04)).astype(np.float32).reshape(1, -1)
    shifts = measure_shifts(model, target - model, np.full_like(model, 1 / 400), np.zeros(1), np.zeros(1), 31)
    assert shifts.dx[0] == pytest.approx(0.06, abs=0.003)
    assert shifts.dy[0] == pytest.approx(-0.04, abs=0.003)
    assert shifts.scale[0] == pytest.approx(0.02, abs=0.003)


def test_applied_shift_moves_an_image():
    image = (1e4 * gaussian(half=64)).astype(np.float32)
    field = ShiftField(np.full((4, 4), 0.12), np.full((4, 4), -0.07), 100.0, 0.1, 0.01, 50)
    moved = apply_shift(image, field)
    expected = 1e4 * gaussian(0.12, -0.07, half=64)
    assert np.abs(moved - expected).max() < 0.002 * 1e4
    assert np.abs(image - expected).max() > 0.03 * 1e4


def test_field_takes_out_turbulence_and_says_what_is_left():
    shifts, _ = turbulent(300, rms=0.11, length=350.0, error=0.02)
    field = fit_shift_field(shifts, SHAPE, SETTINGS)
    assert field.length_pixels > 0
    assert field.rms_before_pixels == pytest.approx(0.11, rel=0.25)
    assert field.rms_after_pixels < 0.05
    assert field.dx.shape == (34, 34)


def test_no_field_without_a_signal():
    shifts, _ = turbulent(200, rms=1e-6, length=350.0, error=0.03)
    field = fit_shift_field(shifts, SHAPE, SETTINGS)
    assert field.length_pixels == 0.0
    assert not field.dx.any()
    image = np.ones((200, 200), np.float32)
    assert apply_shift(image, field) is image


def test_excess_scatter_is_what_errors_do_not_explain():
    rng = np.random.default_rng(6)
    errors = rng.uniform(0.5, 2.0, 4000)
    noise = rng.normal(size=4000) * errors
    assert excess_scatter(noise + rng.normal(0, 1.5, 4000), errors) == pytest.approx(1.5, abs=0.12)
    assert excess_scatter(noise * 0.95, errors) == 0.0
