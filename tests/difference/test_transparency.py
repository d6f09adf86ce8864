"""Thin clouds between search and template: the field of brightness against a known one."""

import numpy as np
import pytest

from imaging.difference.registration import apply_shift, fit_shift_field, measure_shifts
from imaging.difference.settings import RegistrationSettings
from imaging.difference.transparency import Transparency, apply_transparency, fit_transparency

SHAPE = (2048, 1024)
SETTINGS = RegistrationSettings()


def clouds(x, y):
    """Return the relative excess of brightness: waves of some arcminutes, 5 per cent rms."""
    return 0.05 * np.sqrt(2.0) * np.sin(2.0 * np.pi * (x / 1500.0 + y / 1100.0) + 0.4)


def stars(n, seed, error=0.01, amplitude=1.0):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n)
    return x, y, amplitude * clouds(x, y) + rng.normal(0.0, error, n), np.full(n, error)


def left(field, x, y):
    """Return what is left at positions."""
    flat = apply_transparency(np.ones(SHAPE, np.float32), field)
    return (1.0 + clouds(x, y)) / flat[y.astype(int), x.astype(int)] - 1.0


@pytest.mark.parametrize("n", [60, 150])
def test_the_field_of_clouds_is_that_of_the_stars_between_them_too(n):
    field = fit_transparency(*stars(n, 1), SHAPE, SETTINGS)
    rng = np.random.default_rng(2)
    x, y = rng.uniform(100, SHAPE[1] - 100, 500), rng.uniform(100, SHAPE[0] - 100, 500)
    rms = np.sqrt(np.mean(left(field, x, y) ** 2))
    assert 0.04 < field.rms_before < 0.08  # a robust width, 1.05 times the amplitude of a wave
    # neighbours 170 or 110 pixels away, where these waves have changed by 0.05 * 2 pi * 170 / 880 / 2
    assert rms < {60: 0.02, 150: 0.012}[n]
    assert field.rms_after < 0.6 * field.rms_before


def test_variables_and_a_transient_do_not_make_clouds():
    x, y, scale, error = stars(150, 3)
    scale[:8] += np.linspace(0.3, 1.5, 8) * (-1.0) ** np.arange(8)
    field = fit_transparency(x, y, scale, error, SHAPE, SETTINGS)
    clean = fit_transparency(*stars(150, 3), SHAPE, SETTINGS)
    inside = (x > 100) & (x < SHAPE[1] - 100) & (y > 100) & (y < SHAPE[0] - 100)
    apart = left(field, x[inside], y[inside]) - left(clean, x[inside], y[inside])
    assert np.abs(apart[: int(inside[:8].sum())]).max() < 0.03
    assert np.std(apart) < 0.005


@pytest.mark.parametrize("seed", range(12))
def test_scatter_of_single_stars_is_no_cloud(seed):
    """Stars that each vary by two per cent, without any common cause."""
    rng = np.random.default_rng(seed)
    x, y, scale, error = stars(150, seed, amplitude=0.0)
    assert fit_transparency(x, y, scale + rng.normal(0.0, 0.02, 150), error, SHAPE, SETTINGS) is None


def test_a_clear_sky_and_few_stars_leave_the_brightness():
    assert fit_transparency(*stars(150, 5, amplitude=0.0), SHAPE, SETTINGS) is None
    assert fit_transparency(*stars(SETTINGS.min_stars - 1, 5), SHAPE, SETTINGS) is None
    nothing = np.zeros(0)
    assert fit_transparency(nothing, nothing, nothing, nothing, SHAPE, SETTINGS) is None


def test_the_other_image_has_the_inverse():
    field = Transparency(np.full((33, 17), 0.25), 600.0, 0.1, 0.0)
    image = np.full(SHAPE, 8.0, np.float32)
    assert apply_transparency(image, field) == pytest.approx(10.0)
    assert apply_transparency(apply_transparency(image, field), field.opposite()) == pytest.approx(8.0)


def test_stars_behind_clouds_vanish_from_the_difference():
    """Stars of 100 000 electrons, noise of 10 per pixel: a cloud of five per cent leaves some hundred sigma of each."""
    rng = np.random.default_rng(7)
    n, side, sigma, width = 120, 31, 10.0, 1.8
    x, y = rng.uniform(20, SHAPE[1] - 20, n), rng.uniform(20, SHAPE[0] - 20, n)
    v, u = np.mgrid[:side, :side] - side // 2
    star = np.exp(-0.5 * (u**2 + v**2) / width**2) / (2.0 * np.pi * width**2)
    model = np.repeat(1e5 * star.reshape(1, -1), n, axis=0).astype(np.float32)
    residual = model * clouds(x, y)[:, None].astype(np.float32) + rng.normal(0.0, sigma, model.shape).astype(np.float32)
    weight = np.full(model.shape, 1.0 / sigma**2, np.float32)
    field = fit_shift_field(measure_shifts(model, residual, weight, x, y, side), SHAPE, SETTINGS)
    assert field.transparency is not None
    shifted = apply_shift(np.ones(SHAPE, np.float32), field)
    change = shifted[y.astype(int), x.astype(int)] - 1.0
    assert np.sqrt(np.mean((change - clouds(x, y)) ** 2)) < 0.008
