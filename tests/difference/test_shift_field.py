"""Shifts between two images: Cramer-Rao bounds, kriging by scipy, images moved by scipy."""

import numpy as np
import pytest
from known_pairs import draw, lattice, profile
from scipy.ndimage import map_coordinates
from scipy.stats import multivariate_normal

from imaging.difference.registration import (
    NODE,
    ShiftField,
    SourceShifts,
    apply_shift,
    fit_shift_field,
    image_slopes,
    measure_shifts,
    no_shift_field,
)
from imaging.difference.settings import RegistrationSettings
from imaging.numerics.robust import excess_scatter

SIDE, SIGMA, FLUX, S = 31, 8.0, 2e4, 1.8
MODEL = draw(profile(S * 2.354820045), [15.0], [15.0], [FLUX], (SIDE, SIDE)).ravel()
SHAPE = (700, 900)


def measured(residuals, weight=None) -> SourceShifts:
    n = len(residuals)
    weight = np.full((n, SIDE**2), SIGMA**-2) if weight is None else weight
    model = np.broadcast_to(MODEL, (n, SIDE**2))
    return measure_shifts(*(np.asarray(a, np.float32) for a in (model, residuals, weight)), *np.zeros((2, n)), SIDE)


def test_errors_reach_the_cramer_rao_bound_and_are_the_scatter():
    noise = np.random.default_rng(1).normal(0.0, SIGMA, (400, SIDE**2))
    shifts = measured(noise)
    # the information of a Gaussian: flux^2 / (8 pi s^4 sigma^2) per axis
    bound = SIGMA * np.sqrt(8 * np.pi) * S**2 / FLUX
    assert np.median(shifts.error) == pytest.approx(bound, rel=0.03)
    for values in (shifts.dx, shifts.dy):
        assert values.std() == pytest.approx(bound, rel=4 / np.sqrt(800) + 0.02)
        assert values.mean() == pytest.approx(0.0, abs=4 * bound / 20)
    centred = MODEL - MODEL.mean()
    scale = SIGMA / np.sqrt((centred**2).sum())
    assert np.median(shifts.scale_error) == pytest.approx(scale, rel=0.03)
    assert shifts.scale.std() == pytest.approx(scale, rel=4 / np.sqrt(800) + 0.02)


def test_noise_beyond_the_weights_inflates_the_errors():
    noise = np.random.default_rng(2).normal(0.0, SIGMA, (200, SIDE**2))
    honest, noisy, quiet = (measured(f * noise) for f in (1.0, 3.0, 0.3))
    bound = SIGMA * np.sqrt(8 * np.pi) * S**2 / FLUX
    assert np.median(noisy.error) == pytest.approx(3 * np.median(honest.error), rel=0.03)
    assert np.median(noisy.scale_error) == pytest.approx(3 * np.median(honest.scale_error), rel=0.03)
    assert quiet.error == pytest.approx(np.full(200, quiet.error[0]), rel=1e-4)  # never below what the weights say
    assert quiet.error[0] == pytest.approx(bound, rel=0.03)


def test_pixels_without_weight_and_a_constant_do_not_matter():
    target = draw(profile(S * 2.354820045), [15.04], [14.97], [1.01 * FLUX], (SIDE, SIDE)).ravel()
    residual = np.array([target - MODEL, target - MODEL + 300.0])
    weight = np.full((2, SIDE, SIDE), SIGMA**-2)
    residual[1].reshape(SIDE, SIDE)[14:16, 17:19] = 1e5
    weight[1, 14:16, 17:19] = 0.0
    shifts = measured(residual, weight.reshape(2, -1))
    assert shifts.dx == pytest.approx([0.04, 0.04], abs=0.001)
    assert shifts.dy == pytest.approx([-0.03, -0.03], abs=0.001)
    assert shifts.scale == pytest.approx([0.01, 0.01], abs=0.001)
    chosen = shifts.select(np.array([False, True]))
    assert (chosen.dx[0], chosen.dy[0], chosen.scale[0]) == (shifts.dx[1], shifts.dy[1], shifts.scale[1])
    assert (chosen.error[0], chosen.scale_error[0]) == (shifts.error[1], shifts.scale_error[1])


def test_slopes_are_exact_for_polynomials_of_fourth_degree():
    y, x = np.mgrid[-7.0:8.0, -7.0:8.0] / 4
    image = 1 + 2 * x - y + x**2 * y + 0.5 * x**4 - 0.3 * y**3
    slope_x, slope_y = (s.reshape(15, 15) for s in image_slopes(image.astype(np.float32).reshape(1, -1), 15))
    inner = slice(2, -2)
    assert 4 * slope_x[:, inner] == pytest.approx((2 + 2 * x * y + 2 * x**3)[:, inner], abs=1e-4)
    assert 4 * slope_y[inner] == pytest.approx((-1 + x**2 - 0.9 * y**2)[inner], abs=1e-4)
    assert not slope_x[:, :2].any()
    assert not slope_x[:, -2:].any()
    assert not slope_y[-2:].any()


def process(n: int, rms: float, length: float, error: float, seed: int) -> SourceShifts:
    """Shifts with an exponential covariance and errors."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n)
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    covariance = rms**2 * np.exp(-distance / length) + error**2 * np.eye(n)
    d = np.linalg.cholesky(covariance) @ rng.normal(size=(n, 2))
    errors, zero = np.full(n, error), np.zeros(n)
    return SourceShifts(x, y, d[:, 0], d[:, 1], errors, zero, errors)


def likelihood(s: SourceShifts, rms: float, length: float) -> float:
    distance = np.hypot(s.x[:, None] - s.x, s.y[:, None] - s.y)
    covariance = rms**2 * np.exp(-distance / length) + np.diag(s.error**2)
    return sum(multivariate_normal.logpdf(d, cov=covariance) for d in (s.dx, s.dy))


@pytest.mark.parametrize(("length", "seed"), [(150.0, 3), (300.0, 4), (600.0, 5)])
def test_length_is_the_one_of_highest_likelihood(length, seed):
    shifts = process(150, 0.1, length, 0.02, seed)
    settings = RegistrationSettings(scales_pixels=(40.0, 150.0, 300.0, 600.0, 1200.0))
    field = fit_shift_field(shifts, SHAPE, settings)
    every = [likelihood(shifts, field.rms_before_pixels, scale) for scale in settings.scales_pixels]
    best = int(np.argmax(every))
    chosen = settings.scales_pixels.index(field.length_pixels)
    assert chosen == best or every[best] - every[chosen] < 2.0
    assert field.n_sources == 150


def test_field_is_the_kriging_mean_and_its_error_the_one_of_sources_left_out():
    shifts = process(60, 0.1, 300.0, 0.02, 6)
    field = fit_shift_field(shifts, SHAPE, RegistrationSettings(scales_pixels=(300.0,)))
    rms = field.rms_before_pixels

    def predicted(known: SourceShifts, values, x, y) -> np.ndarray:
        def covariance(a, b, c, d):
            return rms**2 * np.exp(-np.hypot(a[:, None] - c, b[:, None] - d) / 300.0)

        noisy = covariance(known.x, known.y, known.x, known.y) + np.diag(known.error**2)
        return covariance(x, y, known.x, known.y) @ np.linalg.solve(noisy, values)

    gy, gx = np.mgrid[: field.dx.shape[0], : field.dx.shape[1]] * float(NODE)
    for values, grid in ((shifts.dx, field.dx), (shifts.dy, field.dy)):
        assert grid.ravel() == pytest.approx(predicted(shifts, values, gx.ravel(), gy.ravel()), abs=1e-9)
    left = []
    for axis in ("dx", "dy"):
        for k in range(60):
            others = shifts.select(np.arange(60) != k)
            left.append(
                getattr(shifts, axis)[k]
                - predicted(others, getattr(others, axis), shifts.x[k : k + 1], shifts.y[k : k + 1])[0]
            )
    expected = excess_scatter(np.array(left), np.full(120, 0.02))
    assert field.rms_after_pixels == pytest.approx(expected, rel=1e-6)
    assert field.rms_after_pixels < 0.8 * rms


def test_sources_that_cannot_be_believed_do_not_count():
    shifts = process(40, 0.1, 300.0, 0.02, 7)
    settings = RegistrationSettings(max_shift_pixels=1.0)
    for k, (dx, error) in enumerate([(0.1, 0.31), (0.1, 0.0), (1.01, 0.02), (0.95, 0.01)]):
        shifts.dx[k], shifts.dy[k], shifts.error[k] = dx, 0.0, error
    # the last one is below a pixel, but beyond six medians and five of its errors
    assert 6 * np.median(np.hypot(shifts.dx, shifts.dy)) + 0.05 < 0.95
    field = fit_shift_field(shifts, SHAPE, settings)
    assert field.n_sources == 36
    shifts.error[0] = 0.29
    assert fit_shift_field(shifts, SHAPE, settings).n_sources == 37


def test_twenty_sources_make_a_field_and_fewer_none():
    shifts = process(20, 0.1, 600.0, 0.005, 8)
    assert fit_shift_field(shifts, SHAPE, RegistrationSettings()).length_pixels > 0
    few = fit_shift_field(shifts.select(np.arange(20) > 0), SHAPE, RegistrationSettings())
    assert (few.length_pixels, few.n_sources) == (0.0, 19)
    assert few.rms_after_pixels == few.rms_before_pixels > 0.05
    off = fit_shift_field(shifts, SHAPE, RegistrationSettings(correct=False))
    assert (off.length_pixels, off.n_sources) == (0.0, 20)
    empty = no_shift_field((640, 63))
    assert empty.dx.shape == empty.dy.shape == (12, 2)


def test_image_is_moved_by_a_field_that_is_linear_between_its_nodes():
    shape = (150, 200)
    rng = np.random.default_rng(9)
    x, y = lattice(40, shape, margin=22)
    image = draw(profile(6.0), x, y, np.full(40, 1e5), shape)
    nodes_x, nodes_y = rng.uniform(-0.2, 0.2, (2, 4, 5))
    field = ShiftField(nodes_x, nodes_y, 100.0, 0.1, 0.0, 50)
    gy, gx = np.mgrid[: shape[0], : shape[1]].astype(float)
    dx, dy = (map_coordinates(n, [gy / NODE, gx / NODE], order=1) for n in (nodes_x, nodes_y))
    expected = map_coordinates(image, [gy - dy, gx - dx], order=5)
    moved = apply_shift(image.astype(np.float32), field)
    inner = (slice(2, -2), slice(2, -2))
    # a shift of a quarter of a pixel leaves a per mille: third order, and differences for derivatives of s = 2.5 pixels
    peak = image.max()
    assert np.abs(moved - expected)[inner].max() < 2e-3 * peak
    assert np.abs(image - expected)[inner].max() > 0.03 * peak
    for edge in (slice(None, 2), slice(-2, None)):
        assert np.array_equal(moved[edge], image.astype(np.float32)[edge])
        assert np.array_equal(moved[:, edge], image.astype(np.float32)[:, edge])
    back = apply_shift(moved, field.opposite())
    assert np.abs(back - image)[4:-4, 4:-4].max() < 0.02 * peak
    assert field.opposite().length_pixels == 100.0


def test_scatter_of_two_numbers_says_nothing():
    assert excess_scatter(np.array([5.0, -5.0]), np.array([0.1, 0.1])) == 0.0
    values = np.random.default_rng(10).normal(0.0, 0.5, 3000)
    assert excess_scatter(values, np.full(3000, 0.3)) == pytest.approx(0.4, rel=0.08)
